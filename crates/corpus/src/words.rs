//! The word lists: names, animals, things, places, foods, and the small situations plots turn on.
//!
//! Every list is a plain table. Text in it may use the slots of [`crate::cast`], for example
//! `{his}`, and is expanded where it is used.

/// Which pronouns a character takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pronoun {
    She,
    He,
}

pub(crate) const GIRL_NAMES: &[&str] = &[
    "Willa", "Mia", "Rosie", "Daisy", "Anna", "Clara", "Ella", "Ruby", "Molly", "Poppy", "Nora",
    "Hazel", "Penny", "Tilly", "Ivy", "Luna",
];

pub(crate) const BOY_NAMES: &[&str] = &[
    "Tom", "Ben", "Max", "Sam", "Leo", "Finn", "Oscar", "Jack", "Toby", "Milo", "Henry", "Peter",
    "Felix", "Otto", "Jasper", "Theo",
];

/// What a character is, where such a character lives and how it moves ("hopped to the pond").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) noun: &'static str,
    pub(crate) home: &'static str,
    pub(crate) went: &'static str,
}

const fn kind(noun: &'static str, home: &'static str, went: &'static str) -> Kind {
    Kind { noun, home, went }
}

pub(crate) const GIRL: Kind = kind("girl", "house", "walked");
pub(crate) const BOY: Kind = kind("boy", "house", "walked");

pub(crate) const ANIMALS: &[Kind] = &[
    kind("rabbit", "burrow", "hopped"),
    kind("fox", "den", "trotted"),
    kind("bear", "den", "walked"),
    kind("mouse", "little house", "scampered"),
    kind("squirrel", "tree house", "scampered"),
    kind("chipmunk", "little house", "scampered"),
    kind("hedgehog", "hollow log", "walked"),
    kind("frog", "mossy hut", "hopped"),
    kind("duck", "nest", "waddled"),
    kind("duckling", "nest", "waddled"),
    kind("goose", "nest", "waddled"),
    kind("penguin", "snow hut", "waddled"),
    kind("kitten", "house", "skipped"),
    kind("cat", "house", "walked"),
    kind("puppy", "house", "ran"),
    kind("dog", "house", "ran"),
    kind("lamb", "barn", "skipped"),
    kind("goat", "barn", "trotted"),
    kind("pig", "barn", "trotted"),
    kind("pony", "stable", "trotted"),
    kind("donkey", "stable", "trotted"),
    kind("robin", "nest", "flew"),
    kind("chick", "coop", "hurried"),
    kind("turtle", "mossy hut", "crawled"),
    kind("beaver", "lodge", "waddled"),
    kind("otter", "lodge", "ran"),
    kind("badger", "burrow", "walked"),
    kind("mole", "burrow", "crawled"),
    kind("deer", "grove", "ran"),
    kind("raccoon", "hollow log", "scampered"),
    kind("monkey", "tree house", "skipped"),
    kind("tiger", "den", "walked"),
    kind("panda", "bamboo hut", "walked"),
    kind("elephant", "bamboo hut", "walked"),
];

/// Older characters who give advice. Always referred to by the full name, never by a pronoun.
pub(crate) const ELDERS: &[&str] = &[
    "Grandma Goose",
    "Grandpa Badger",
    "Aunt Hen",
    "Uncle Bear",
    "Old Owl",
    "Captain Crow",
    "Grandma Sheep",
    "Doctor Swan",
];

pub(crate) const TRAITS: &[&str] = &[
    "kind", "brave", "clever", "gentle", "cheerful", "curious", "playful", "friendly", "quiet",
    "busy", "careful", "merry", "polite", "shy", "funny", "patient",
];

pub(crate) const SIZES: &[&str] = &["little", "small", "young", "tiny"];

pub(crate) const HOME_LOOKS: &[&str] = &["cozy", "warm", "tidy", "snug", "neat", "sunny"];

pub(crate) const WEATHER: &[&str] =
    &["sunny", "warm", "bright", "windy", "cloudy", "cool", "misty", "fine", "clear", "golden"];

pub(crate) const TIMES: &[&str] = &["morning", "afternoon", "day"];

/// A place with the preposition that says one is there. Each also reads well after "near" and
/// after "went to".
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) at: &'static str,
    pub(crate) noun: &'static str,
}

const fn place(at: &'static str, noun: &'static str) -> Place {
    Place { at, noun }
}

pub(crate) const PLACES: &[Place] = &[
    place("in", "forest"),
    place("by", "river"),
    place("on", "hill"),
    place("under", "bridge"),
    place("in", "meadow"),
    place("by", "pond"),
    place("on", "beach"),
    place("in", "garden"),
    place("behind", "barn"),
    place("by", "lake"),
    place("in", "cave"),
    place("in", "park"),
    place("at", "market"),
    place("in", "village"),
    place("by", "well"),
    place("by", "mill"),
    place("in", "orchard"),
    place("under", "oak tree"),
    place("by", "waterfall"),
    place("in", "field"),
    place("by", "stone wall"),
    place("at", "farm"),
    place("in", "valley"),
    place("by", "fountain"),
    place("at", "harbor"),
    place("by", "stream"),
    place("by", "castle"),
    place("at", "crossroads"),
];

/// Spots in a home where one looks for something lost.
pub(crate) const INDOOR_SPOTS: &[&str] = &[
    "under the bed",
    "behind the door",
    "in the cupboard",
    "on the shelf",
    "under the table",
    "in the basket",
    "behind the stove",
];

/// Spots outside where something lost turns up.
pub(crate) const OUTDOOR_SPOTS: &[&str] = &[
    "under a leaf",
    "behind a big stone",
    "in the tall grass",
    "under a bush",
    "next to an old log",
    "between two roots",
    "in a pile of leaves",
];

/// A thing that can be lost, broken, wished for or given, with the adjectives that suit it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thing {
    pub(crate) noun: &'static str,
    pub(crate) looks: &'static [&'static str],
    pub(crate) plural: bool,
}

const fn one(noun: &'static str, looks: &'static [&'static str]) -> Thing {
    Thing { noun, looks, plural: false }
}

const fn many(noun: &'static str, looks: &'static [&'static str]) -> Thing {
    Thing { noun, looks, plural: true }
}

const PAINTED: &[&str] =
    &["red", "blue", "green", "yellow", "purple", "orange", "pink", "striped", "new", "little"];
const SOFT: &[&str] =
    &["red", "blue", "green", "yellow", "white", "soft", "warm", "striped", "fluffy"];
const METAL: &[&str] = &["shiny", "silver", "golden", "old", "tiny", "bright"];
const GLASS: &[&str] = &["blue", "green", "white", "pretty", "shiny", "round"];
const WOOD: &[&str] = &["wooden", "little", "brown", "old", "smooth", "painted"];
const CARVED: &[&str] = &["wooden", "little", "brown", "smooth", "painted"];
const FOUND: &[&str] = &["white", "smooth", "pretty", "tiny", "gray", "round", "lovely"];

/// Small things one carries around and loses.
pub(crate) const TREASURES: &[Thing] = &[
    one("ball", PAINTED),
    one("hat", SOFT),
    one("scarf", SOFT),
    one("blanket", SOFT),
    one("ribbon", PAINTED),
    one("button", METAL),
    one("key", METAL),
    one("bell", METAL),
    one("ring", METAL),
    one("coin", METAL),
    one("spoon", METAL),
    one("whistle", METAL),
    one("flute", WOOD),
    one("feather", FOUND),
    one("shell", FOUND),
    one("pebble", FOUND),
    one("book", PAINTED),
    one("doll", PAINTED),
    one("umbrella", PAINTED),
    many("marbles", GLASS),
    many("mittens", SOFT),
    many("boots", PAINTED),
    many("crayons", PAINTED),
    many("beads", GLASS),
];

/// Things that break when they fall.
pub(crate) const FRAGILE: &[Thing] = &[
    one("cup", GLASS),
    one("vase", GLASS),
    one("plate", GLASS),
    one("bowl", GLASS),
    one("jar", GLASS),
    one("lamp", GLASS),
    one("teapot", GLASS),
    one("mirror", GLASS),
    one("clock", WOOD),
    one("music box", WOOD),
    one("toy ship", WOOD),
];

/// Things two friends may both want to play with.
pub(crate) const TOYS: &[Thing] = &[
    one("ball", PAINTED),
    one("kite", PAINTED),
    one("drum", PAINTED),
    one("wagon", PAINTED),
    one("sled", WOOD),
    one("swing", WOOD),
    one("scooter", PAINTED),
    one("puzzle", PAINTED),
    one("toy train", WOOD),
    one("toy boat", WOOD),
    one("doll", PAINTED),
    many("blocks", WOOD),
    many("marbles", GLASS),
    many("crayons", PAINTED),
];

/// Things one can make for a friend.
pub(crate) const GIFTS: &[Thing] = &[
    one("scarf", SOFT),
    one("hat", SOFT),
    one("blanket", SOFT),
    one("pillow", SOFT),
    one("kite", PAINTED),
    one("lantern", PAINTED),
    one("picture", &["pretty", "lovely", "bright", "little", "funny"]),
    one("necklace", &["pretty", "lovely", "long", "blue", "golden"]),
    one("crown", &["pretty", "golden", "funny", "shiny", "green"]),
    one("basket", CARVED),
    one("box", CARVED),
    one("chair", CARVED),
    one("toy boat", CARVED),
    many("mittens", SOFT),
    many("slippers", SOFT),
];

/// What grows from a seed.
pub(crate) const PLANTS: &[Thing] = &[
    one("sunflower", &["tall", "golden", "bright", "yellow"]),
    one("pumpkin", &["big", "round", "orange"]),
    one("rose", &["red", "white", "pink", "lovely"]),
    one("tulip", &["red", "purple", "yellow", "pretty"]),
    one("melon", &["big", "round", "green", "sweet"]),
    one("apple tree", &["tall", "green", "lovely"]),
    one("pear tree", &["tall", "green", "lovely"]),
    one("cabbage", &["big", "round", "green"]),
    one("carrot", &["long", "orange", "sweet"]),
    many("beans", &["long", "green", "sweet"]),
    many("tomatoes", &["round", "red", "sweet"]),
    many("daisies", &["white", "pretty", "bright"]),
];

/// Something to eat: as one carries it ("a basket of plums") and as one speaks of it ("plums").
#[derive(Clone, Copy, Debug)]
pub(crate) struct Food {
    pub(crate) carried: &'static str,
    pub(crate) noun: &'static str,
    pub(crate) plural: bool,
}

const fn dish(carried: &'static str, noun: &'static str) -> Food {
    Food { carried, noun, plural: false }
}

const fn pieces(carried: &'static str, noun: &'static str) -> Food {
    Food { carried, noun, plural: true }
}

pub(crate) const FOODS: &[Food] = &[
    dish("a honey cake", "cake"),
    dish("an apple pie", "pie"),
    dish("a cherry pie", "pie"),
    dish("a loaf of bread", "bread"),
    dish("a pot of soup", "soup"),
    dish("a bowl of porridge", "porridge"),
    dish("a jar of jam", "jam"),
    dish("a piece of cheese", "cheese"),
    pieces("a basket of plums", "plums"),
    pieces("a basket of berries", "berries"),
    pieces("a bag of nuts", "nuts"),
    pieces("a bag of cherries", "cherries"),
    pieces("a plate of cookies", "cookies"),
    pieces("a plate of pancakes", "pancakes"),
    pieces("a box of muffins", "muffins"),
    pieces("a bowl of peaches", "peaches"),
];

/// Something to learn: infinitive, past and -ing form, how the first try fails, and the advice
/// that helps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Skill {
    pub(crate) infinitive: &'static str,
    pub(crate) past: &'static str,
    pub(crate) ing: &'static str,
    pub(crate) fail: &'static str,
    pub(crate) advice: &'static str,
}

const fn skill(
    infinitive: &'static str,
    past: &'static str,
    ing: &'static str,
    fail: &'static str,
    advice: &'static str,
) -> Skill {
    Skill { infinitive, past, ing, fail, advice }
}

pub(crate) const SKILLS: &[Skill] = &[
    skill("swim", "swam", "swimming", "{he} sank like a stone", "Kick your feet and stay calm"),
    skill("whistle", "whistled", "whistling", "only air came out", "Make your lips round and blow"),
    skill("skate", "skated", "skating", "{he} slipped on the ice", "Bend your knees and slide"),
    skill(
        "ride a bicycle",
        "rode a bicycle",
        "riding a bicycle",
        "{he} fell into the grass",
        "Look ahead and keep your feet moving",
    ),
    skill(
        "bake bread",
        "baked bread",
        "baking bread",
        "the bread was hard as a stone",
        "Wait until the dough is big and soft",
    ),
    skill(
        "play the flute",
        "played the flute",
        "playing the flute",
        "the flute only squeaked",
        "Blow softly and move one finger at a time",
    ),
    skill(
        "fly a kite",
        "flew a kite",
        "flying kites",
        "the kite fell to the ground",
        "Run into the wind and let the string go slowly",
    ),
    skill(
        "paint a picture",
        "painted a picture",
        "painting pictures",
        "the colors ran together",
        "Let one color dry before you use the next",
    ),
    skill(
        "row a boat",
        "rowed a boat",
        "rowing boats",
        "the boat went around in circles",
        "Pull both oars at the same time",
    ),
    skill(
        "jump rope",
        "jumped rope",
        "jumping rope",
        "the rope caught {his} feet",
        "Jump when you hear the rope tap the ground",
    ),
    skill(
        "dance",
        "danced",
        "dancing",
        "{he} stepped on {his} own feet",
        "Count to three and move with the music",
    ),
    skill(
        "sing",
        "sang",
        "singing",
        "the song came out as a squeak",
        "Breathe deep and sing slowly",
    ),
    skill(
        "knit",
        "knitted",
        "knitting",
        "the yarn was full of knots",
        "Make one small loop at a time",
    ),
    skill(
        "write a letter",
        "wrote a letter",
        "writing letters",
        "the ink made a big spot",
        "Hold the pen softly and go slowly",
    ),
];

/// Something to be afraid of: when it comes, what happens in that moment, what a friend says
/// about it and what the hero dares in the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fear {
    pub(crate) of: &'static str,
    pub(crate) moment: &'static str,
    pub(crate) advice: &'static str,
    pub(crate) deed: &'static str,
}

pub(crate) const FEARS: &[Fear] = &[
    Fear {
        of: "the dark",
        moment: "the sun went down and the lamp went out",
        advice: "The dark is only the day with its eyes closed",
        deed: "sat in the dark and counted the stars",
    },
    Fear {
        of: "thunder",
        moment: "black clouds came and the sky went boom",
        advice: "Thunder is only the clouds playing the drums",
        deed: "sat by the window and clapped at every boom",
    },
    Fear {
        of: "deep water",
        moment: "all the others jumped into the lake",
        advice: "You can start where the water is low",
        deed: "went into the water, one small step at a time",
    },
    Fear {
        of: "high places",
        moment: "all the others climbed up the tower",
        advice: "Do not look down, just look at me",
        deed: "climbed all the way to the top of the tower",
    },
    Fear {
        of: "the wind",
        moment: "a storm howled around the house",
        advice: "The wind is only singing without the words",
        deed: "opened the window and sang along with the wind",
    },
    Fear {
        of: "the old bridge",
        moment: "all the others ran over the old bridge",
        advice: "Hold on to me and count the boards",
        deed: "crossed the bridge, one board at a time",
    },
    Fear {
        of: "spiders",
        moment: "a spider came down on a thin thread",
        advice: "A spider is small and only wants to build its home",
        deed: "sat still and watched the spider build its web",
    },
    Fear {
        of: "big crowds",
        moment: "it was time to sing for the whole village",
        advice: "Look only at me and sing for one friend",
        deed: "stood up and sang the whole song in a clear voice",
    },
];

/// A way to be stuck, the tool that helps, and how it is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peril {
    pub(crate) stuck: &'static str,
    pub(crate) tool: &'static str,
    pub(crate) rescue: &'static str,
}

pub(crate) const PERILS: &[Peril] = &[
    Peril {
        stuck: "stuck in the deep mud",
        tool: "rope",
        rescue: "{hero} threw one end of the rope to {friend}. {friend} held on tight, and {hero} \
                 pulled and pulled until {friend} was free",
    },
    Peril {
        stuck: "stuck at the bottom of a deep hole",
        tool: "ladder",
        rescue: "{hero} put the ladder into the hole and held it tight. {friend} climbed up, step \
                 by step",
    },
    Peril {
        stuck: "caught in a bush full of thorns",
        tool: "pair of gloves",
        rescue: "{hero} put on the gloves and pushed the thorns aside, one by one, until {friend} \
                 could crawl out",
    },
    Peril {
        stuck: "caught in an old net",
        tool: "pair of scissors",
        rescue: "{hero} cut the net with the scissors, snip by snip, until {friend} was free",
    },
    Peril {
        stuck: "stuck under a heavy branch",
        tool: "strong pole",
        rescue: "{hero} pushed the pole under the branch. It was hard work, but the branch went \
                 up, and {friend} crawled out",
    },
    Peril {
        stuck: "stuck between two big stones",
        tool: "piece of soap",
        rescue: "{hero} rubbed the soap on the stones until they were smooth. Then {friend} slipped \
                 out with a pop",
    },
    Peril {
        stuck: "locked in a dark shed",
        tool: "ring of keys",
        rescue: "{hero} tried one key, and then another. The last key turned, and the door of the \
                 shed opened",
    },
];

/// A noise in the night and what makes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noise {
    pub(crate) sound: &'static str,
    pub(crate) wrong_guess: &'static str,
    pub(crate) cause: &'static str,
}

pub(crate) const NOISES: &[Noise] = &[
    Noise {
        sound: "tap, tap, tap",
        wrong_guess: "a ghost",
        cause: "had lost the way home and was tapping on the window",
    },
    Noise {
        sound: "scratch, scratch, scratch",
        wrong_guess: "a monster",
        cause: "was cold and was scratching at the door",
    },
    Noise {
        sound: "hoo, hoo, hoo",
        wrong_guess: "a ghost",
        cause: "was all alone and was crying behind a tree",
    },
    Noise {
        sound: "bump, bump, bump",
        wrong_guess: "a giant",
        cause: "had fallen into an empty barrel and could not get out",
    },
    Noise {
        sound: "crunch, crunch, crunch",
        wrong_guess: "a dragon",
        cause: "was very hungry and was eating dry leaves",
    },
    Noise {
        sound: "splash, splash, splash",
        wrong_guess: "a sea monster",
        cause: "had slipped into the rain barrel and was all wet",
    },
];
