//! Short stories from a grammar and word lists written for this project: the text that
//! `orion quickstart` trains on.
//!
//! The same seed gives the same stories on every platform. This crate knows nothing of tokens,
//! files or models.
//!
//! A story has a cast (two characters, places, a thing), drawn once, and a plot that tells it. So
//! names, pronouns, kinds, things and places stay the same from the first sentence to the last,
//! and a model has more to learn than which word follows which.

mod cast;
mod grammar;
mod phrases;
mod plots;
mod rng;
mod words;

use cast::Cast;
use plots::{PLOTS, Plot};
use rng::SplitMix64;

/// An endless sequence of stories: plain ASCII, 60 to 180 words each, paragraphs separated by one
/// newline, no newline at the end.
///
/// Story `i` depends on the seed and on `i` only. The first 5,000 stories of a seed are distinct
/// (tested for some seeds); there is no guard against a repetition later on.
pub fn stories(seed: u64) -> impl Iterator<Item = String> {
    told(seed).map(|(_, story)| story)
}

/// The first stories of a seed, until they have at least `bytes` bytes together.
///
/// `corpus(seed, 0)` is empty. Separators between stories are not counted; they are the caller's.
pub fn corpus(seed: u64, bytes: usize) -> Vec<String> {
    let mut total = 0;
    stories(seed)
        .take_while(|story| {
            let wanted = total < bytes;
            total += story.len();
            wanted
        })
        .collect()
}

/// The stories with the name of the plot each one tells.
fn told(seed: u64) -> impl Iterator<Item = (&'static str, String)> {
    let mut seeds = SplitMix64::new(seed);
    std::iter::repeat_with(move || {
        let mut rng = SplitMix64::new(seeds.next_u64());
        let plot = rng.pick(PLOTS);
        (plot.name, tell(plot, &mut rng))
    })
}

fn tell(plot: &Plot, rng: &mut SplitMix64) -> String {
    let cast = Cast::draw(plot.things, rng);
    let paragraphs: Vec<String> =
        plot.paragraphs.iter().map(|template| grammar::paragraph(template, &cast, rng)).collect();
    paragraphs.join("\n")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use grammar::{Slots, slot_names};

    #[test]
    fn every_plot_is_told_about_as_often_as_the_others() {
        let mut told_times = BTreeMap::new();
        let count = 200 * PLOTS.len();
        for (name, _) in told(5).take(count) {
            *told_times.entry(name).or_insert(0) += 1;
        }
        assert_eq!(told_times.len(), PLOTS.len(), "names are unique and all occur: {told_times:?}");
        assert!(told_times.values().all(|times| (120..=280).contains(times)), "{told_times:?}");
    }

    /// Looks at every option of every template, also those that chance rarely draws.
    #[test]
    fn every_slot_that_a_template_uses_exists_and_every_phrase_is_used() {
        let cast = Cast::draw(words::TREASURES, &mut SplitMix64::new(0));
        let mut open: Vec<&str> = PLOTS.iter().flat_map(|plot| plot.paragraphs).copied().collect();
        open.extend(words::SKILLS.iter().flat_map(|skill| [skill.fail, skill.advice]));
        open.extend(words::FEARS.iter().flat_map(|fear| [fear.moment, fear.advice, fear.deed]));
        open.extend(words::PERILS.iter().map(|peril| peril.rescue));
        let mut used = BTreeSet::new();
        while let Some(template) = open.pop() {
            for name in slot_names(template) {
                let text = cast.slot(name).unwrap_or_else(|| panic!("{name:?} in {template:?}"));
                if used.insert(name) {
                    open.push(text);
                }
            }
        }
        for name in phrases::NAMES {
            assert!(used.contains(name), "no plot uses the phrase {name:?}");
        }
    }

    /// Who is in a story stays the same: one "she" and one "he", each of one kind.
    #[test]
    fn stories_name_two_characters_and_one_kind_for_each() {
        for (plot, story) in told(9).take(2000) {
            let all: BTreeSet<&str> = story.split(|c: char| !c.is_ascii_alphabetic()).collect();
            let named = |names: &[&str]| names.iter().filter(|name| all.contains(**name)).count();
            let (girls, boys) = (named(words::GIRL_NAMES), named(words::BOY_NAMES));
            assert_eq!((girls, boys), (1, 1), "{plot}:\n{story}");
            let kinds = words::ANIMALS.iter().filter(|kind| all.contains(kind.noun)).count();
            let child = all.contains("girl") || all.contains("boy");
            assert_eq!(kinds + usize::from(child), 2, "{plot}:\n{story}");
        }
    }

    #[test]
    fn word_lists_have_no_entry_twice() {
        fn check<'a>(what: &str, list: impl Iterator<Item = &'a str>) {
            let mut seen = BTreeSet::new();
            for entry in list {
                assert!(seen.insert(entry), "{what} has {entry:?} twice");
            }
        }
        check("names", words::GIRL_NAMES.iter().chain(words::BOY_NAMES).copied());
        check("animals", words::ANIMALS.iter().map(|kind| kind.noun));
        check("places", words::PLACES.iter().map(|place| place.noun));
        check("foods", words::FOODS.iter().map(|food| food.carried));
        check("traits", words::TRAITS.iter().copied());
        for things in [words::TREASURES, words::FRAGILE, words::TOYS, words::GIFTS, words::PLANTS] {
            check("a list of things", things.iter().map(|thing| thing.noun));
        }
    }
}
