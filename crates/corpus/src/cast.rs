//! The cast of one story: who and what it is about, drawn once and then the same throughout.
//!
//! [`Cast::slot`] is the list of every slot a template may use.

use crate::grammar::Slots;
use crate::phrases;
use crate::rng::SplitMix64;
use crate::words::{self, Fear, Food, Kind, Noise, Peril, Place, Pronoun, Skill, Thing};

#[derive(Debug)]
struct Character {
    name: &'static str,
    pronoun: Pronoun,
    kind: Kind,
    character: &'static str,
}

#[derive(Debug)]
pub(crate) struct Cast {
    hero: Character,
    friend: Character,
    elder: &'static str,
    size: &'static str,
    home_look: &'static str,
    weather: &'static str,
    time: &'static str,
    /// Where the hero lives.
    home_place: Place,
    /// Where things happen.
    place: Place,
    indoor_spots: [&'static str; 2],
    outdoor_spot: &'static str,
    thing: Thing,
    thing_look: &'static str,
    food: Food,
    skill: Skill,
    fear: Fear,
    peril: Peril,
    noise: Noise,
}

impl Cast {
    /// Draws a cast whose `{thing}` comes from `things`.
    ///
    /// Hero and friend take different pronouns and are of different kinds, so that every "he",
    /// "she" and "the rabbit" has exactly one meaning in a story.
    pub(crate) fn draw(things: &[Thing], rng: &mut SplitMix64) -> Self {
        let (girl, boy) = (rng.pick(words::GIRL_NAMES), rng.pick(words::BOY_NAMES));
        let (kind, friend_kind) = rng.pick_two(words::ANIMALS);
        let (character, friend_character) = rng.pick_two(words::TRAITS);
        let girl_leads = rng.index(2) == 0;
        let human = rng.index(6) == 0;
        let (name, friend_name, pronoun, friend_pronoun, child) = if girl_leads {
            (girl, boy, Pronoun::She, Pronoun::He, words::GIRL)
        } else {
            (boy, girl, Pronoun::He, Pronoun::She, words::BOY)
        };
        let kind = if human { child } else { kind };
        let (home_place, place) = rng.pick_two(words::PLACES);
        let (spot, other_spot) = rng.pick_two(words::INDOOR_SPOTS);
        let thing = rng.pick(things);
        Self {
            hero: Character { name, pronoun, kind, character },
            friend: Character {
                name: friend_name,
                pronoun: friend_pronoun,
                kind: friend_kind,
                character: friend_character,
            },
            elder: rng.pick(words::ELDERS),
            size: rng.pick(words::SIZES),
            home_look: rng.pick(words::HOME_LOOKS),
            weather: rng.pick(words::WEATHER),
            time: rng.pick(words::TIMES),
            home_place,
            place,
            indoor_spots: [spot, other_spot],
            outdoor_spot: rng.pick(words::OUTDOOR_SPOTS),
            thing,
            thing_look: rng.pick(thing.looks),
            food: rng.pick(words::FOODS),
            skill: rng.pick(words::SKILLS),
            fear: rng.pick(words::FEARS),
            peril: rng.pick(words::PERILS),
            noise: rng.pick(words::NOISES),
        }
    }
}

impl Character {
    /// The word in the pronoun's form: `she` and `he` are the two choices.
    fn form(&self, she: &'static str, he: &'static str) -> &'static str {
        match self.pronoun {
            Pronoun::She => she,
            Pronoun::He => he,
        }
    }
}

fn number(plural: bool, one: &'static str, many: &'static str) -> &'static str {
    if plural { many } else { one }
}

impl Slots for Cast {
    fn slot(&self, name: &str) -> Option<&'static str> {
        let (hero, friend) = (&self.hero, &self.friend);
        let (thing, food) = (self.thing, self.food);
        Some(match name {
            "hero" => hero.name,
            "kind" => hero.kind.noun,
            "trait" => hero.character,
            "size" => self.size,
            "home" => hero.kind.home,
            "home look" => self.home_look,
            "home place" => self.home_place.noun,
            "went" => hero.kind.went,
            "he" => hero.form("she", "he"),
            "him" => hero.form("her", "him"),
            "his" => hero.form("her", "his"),
            "himself" => hero.form("herself", "himself"),

            "friend" => friend.name,
            "friend kind" => friend.kind.noun,
            "friend trait" => friend.character,
            "friend home" => friend.kind.home,
            "friend he" => friend.form("she", "he"),
            "friend him" => friend.form("her", "him"),
            "friend his" => friend.form("her", "his"),

            "elder" => self.elder,

            "weather" => self.weather,
            "time" => self.time,
            "place" => self.place.noun,
            "at" => self.place.at,
            "spot" => self.indoor_spots[0],
            "other spot" => self.indoor_spots[1],
            "outdoor spot" => self.outdoor_spot,

            "thing" => "{thing look} {noun}",
            "thing look" => self.thing_look,
            "noun" => thing.noun,
            "a thing" => number(thing.plural, "a {thing}", "some {thing}"),
            "a noun" => number(thing.plural, "a {noun}", "some {noun}"),
            "it" => number(thing.plural, "it", "them"),
            "they" => number(thing.plural, "it", "they"),
            "was" => number(thing.plural, "was", "were"),
            "is" => number(thing.plural, "is", "are"),
            "this" => number(thing.plural, "this", "these"),

            "food" => food.noun,
            "some food" => food.carried,
            "food this" => number(food.plural, "this", "these"),
            "food they" => number(food.plural, "it", "they"),
            "food it" => number(food.plural, "it", "them"),
            "food is" => number(food.plural, "is", "are"),

            "learn" => self.skill.infinitive,
            "learned" => self.skill.past,
            "learning" => self.skill.ing,
            "learn fail" => self.skill.fail,
            "learn advice" => self.skill.advice,

            "fear" => self.fear.of,
            "fear moment" => self.fear.moment,
            "fear advice" => self.fear.advice,
            "fear deed" => self.fear.deed,

            "stuck" => self.peril.stuck,
            "tool" => self.peril.tool,
            "rescue" => self.peril.rescue,

            "sound" => self.noise.sound,
            "wrong guess" => self.noise.wrong_guess,
            "noise cause" => self.noise.cause,

            _ => return phrases::phrase(name),
        })
    }
}
