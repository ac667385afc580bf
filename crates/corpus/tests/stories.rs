//! What every story and every corpus must keep to, read from the text alone.

use std::collections::{BTreeSet, HashSet};

use orion_corpus::{corpus, stories};

const CHECKED: usize = 5000;

/// FNV-1a, 64 bits: enough to notice a change, and no dependency.
fn fingerprint(stories: impl Iterator<Item = String>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for story in stories {
        for byte in story.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty())
}

/// Runs `check` on the first stories of a few seeds and reports the story that fails it.
fn every_story(check: impl Fn(&str) -> Result<(), String>) {
    for seed in [0, 1, u64::MAX] {
        for (index, story) in stories(seed).take(CHECKED).enumerate() {
            if let Err(complaint) = check(&story) {
                panic!("seed {seed}, story {index}: {complaint}\n{story}");
            }
        }
    }
}

/// A changed word or template changes the corpus of every seed, and with it every loss that was
/// measured on it. When the change is meant, bless it: put the value the failure prints here.
#[test]
fn a_seed_names_the_same_stories_forever() {
    const BLESSED: u64 = 0x8ad0_c8a1_80b0_60a7;
    let got = fingerprint(stories(42).take(1000));
    assert_eq!(got, BLESSED, "the stories changed; if that is meant, bless {got:#018x}");
}

#[test]
fn the_seed_matters() {
    let first: Vec<String> = stories(1).take(20).collect();
    let second: Vec<String> = stories(2).take(20).collect();
    assert!(first.iter().all(|story| !second.contains(story)));
}

#[test]
fn a_corpus_is_the_shortest_prefix_of_the_stories_that_is_long_enough() {
    assert!(corpus(3, 0).is_empty());
    assert_eq!(corpus(3, 1).len(), 1);
    let wanted = 20_000;
    let got = corpus(3, wanted);
    assert_eq!(got, stories(3).take(got.len()).collect::<Vec<_>>());
    let bytes = |stories: &[String]| stories.iter().map(String::len).sum::<usize>();
    assert!(bytes(&got) >= wanted);
    assert!(bytes(&got[..got.len() - 1]) < wanted);
}

#[test]
fn no_story_is_told_twice() {
    for seed in [0, 1, 42] {
        let mut seen = HashSet::new();
        for (index, story) in stories(seed).take(CHECKED).enumerate() {
            assert!(seen.insert(story.clone()), "seed {seed}, story {index} again:\n{story}");
        }
    }
}

#[test]
fn stories_have_60_to_180_words() {
    every_story(|story| match story.split_whitespace().count() {
        60..=180 => Ok(()),
        count => Err(format!("{count} words")),
    });
}

#[test]
fn the_text_is_plain_and_fully_expanded() {
    every_story(|story| {
        for (line, paragraph) in story.split('\n').enumerate() {
            let place = |what: &str| Err(format!("{what} in paragraph {line}"));
            if paragraph.is_empty() || paragraph.trim() != paragraph {
                return place("white space at the edge");
            }
            if let Some(c) = paragraph.chars().find(|c| {
                !c.is_ascii_alphabetic() && !matches!(c, ' ' | '.' | ',' | '!' | '?' | '"' | '\'')
            }) {
                return place(&format!("character {c:?}"));
            }
            for bad in ["  ", " .", " ,", " !", " ?", "..", ",,", ",.", ".,", "!.", "?.", "''"] {
                if paragraph.contains(bad) {
                    return place(&format!("{bad:?}"));
                }
            }
            if !paragraph.ends_with(['.', '!', '?', '"']) {
                return place("an unfinished sentence");
            }
        }
        Ok(())
    });
}

#[test]
fn quotations_are_closed_and_set_off() {
    every_story(|story| {
        for paragraph in story.split('\n') {
            let parts: Vec<&str> = paragraph.split('"').collect();
            if parts.len().is_multiple_of(2) {
                return Err("a quotation is left open".into());
            }
            for (index, part) in parts.iter().enumerate() {
                let spoken = index % 2 == 1;
                let last = index + 1 == parts.len();
                if spoken && !(part.starts_with(|c: char| c.is_ascii_uppercase())) {
                    return Err(format!("a quotation starts with {part:?}"));
                }
                if spoken && !part.ends_with(['.', '!', '?', ',']) {
                    return Err(format!("a quotation ends with {part:?}"));
                }
                let between = !spoken && index > 0 && !last;
                if between && !(part.starts_with(' ') && part.ends_with(' ')) {
                    return Err(format!("no space around {part:?}"));
                }
                // After a comma the sentence goes on with who said it, and in lower case.
                if spoken && part.ends_with(',') && !parts[index + 1].starts_with(" said ") {
                    let tail = parts[index + 1];
                    if !words(tail).next().is_some_and(|word| word == "he" || word == "she") {
                        return Err(format!("nobody says {part:?}"));
                    }
                }
            }
        }
        Ok(())
    });
}

#[test]
fn sentences_start_with_a_capital() {
    every_story(|story| {
        for paragraph in story.split('\n') {
            if !paragraph.trim_start_matches('"').starts_with(|c: char| c.is_ascii_uppercase()) {
                return Err("a paragraph starts in lower case".into());
            }
            for end in [". ", "! ", "? ", ".\" ", ". \"", "! \"", "? \""] {
                for (at, _) in paragraph.match_indices(end) {
                    let next = paragraph[at + end.len()..].trim_start_matches('"');
                    if !next.starts_with(|c: char| c.is_ascii_uppercase()) {
                        return Err(format!("lower case after {end:?}: {next:?}"));
                    }
                }
            }
            // After `!"` either a new sentence starts or it is said who spoke.
            for end in ["!\" ", "?\" "] {
                for (at, _) in paragraph.match_indices(end) {
                    let next = &paragraph[at + end.len()..];
                    let speech = ["said", "asked", "called", "cried", "whispered", "he", "she"];
                    let word = words(next).next().unwrap_or_default();
                    if word.starts_with(|c: char| c.is_ascii_lowercase()) && !speech.contains(&word)
                    {
                        return Err(format!("lower case after {end:?}: {next:?}"));
                    }
                }
            }
        }
        Ok(())
    });
}

#[test]
fn articles_agree_with_the_next_word() {
    every_story(|story| {
        let all: Vec<&str> = words(story).collect();
        for pair in all.windows(2) {
            let next = pair[1].to_ascii_lowercase();
            let vowel = next.starts_with(['a', 'e', 'i', 'o', 'u']);
            // Words whose sound differs from their letter would need a list in the grammar.
            let odd = ["uni", "use", "one", "hour", "honest"].iter().any(|w| next.starts_with(w));
            let wrong = match pair[0] {
                "a" | "A" => vowel || odd,
                "an" | "An" => !vowel || odd,
                _ => false,
            };
            if wrong {
                return Err(format!("\"{} {}\"", pair[0], pair[1]));
            }
        }
        Ok(())
    });
}

#[test]
fn no_word_is_doubled_by_accident() {
    every_story(|story| {
        let all: Vec<&str> = story.split([' ', '\n']).collect();
        match all.windows(2).find(|pair| pair[0] == pair[1] && !pair[0].ends_with(',')) {
            Some(pair) => Err(format!("\"{} {}\"", pair[0], pair[1])),
            None => Ok(()),
        }
    });
}

#[test]
fn nouns_in_the_plural_take_plural_verbs_and_pronouns() {
    let plurals = [
        "marbles", "mittens", "boots", "crayons", "beads", "blocks", "slippers", "beans",
        "tomatoes", "daisies", "plums", "berries", "nuts", "cherries", "cookies", "pancakes",
        "muffins", "peaches",
    ];
    every_story(|story| {
        let all: Vec<&str> = words(story).collect();
        for triple in all.windows(3) {
            if plurals.contains(&triple[0]) && matches!(triple[1], "is" | "was" | "it") {
                return Err(format!("{triple:?}"));
            }
            if plurals.contains(&triple[2]) && matches!(triple[0], "a" | "an" | "this") {
                return Err(format!("{triple:?}"));
            }
        }
        Ok(())
    });
}

#[test]
fn half_a_megabyte_has_a_small_but_not_poor_vocabulary() {
    for seed in [0, 1, 42] {
        let text = corpus(seed, 500_000);
        let vocabulary: BTreeSet<String> =
            text.iter().flat_map(|story| words(story)).map(str::to_ascii_lowercase).collect();
        assert!((600..=1000).contains(&vocabulary.len()), "{} words", vocabulary.len());
    }
}
