//! Texts and golden files that several of these tests read.

use orion_testing::{Random, shared};

/// The `cases` of a golden file: text and ids.
pub(crate) fn cases(name: &str) -> Option<Vec<(String, Vec<u32>)>> {
    let text = std::fs::read_to_string(shared(name)?).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cases: Vec<_> = golden["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| {
            let text = case["text"].as_str().unwrap().to_owned();
            (text, serde_json::from_value(case["ids"].clone()).unwrap())
        })
        .collect();
    assert!(cases.len() > 100);
    Some(cases)
}

/// Letters, spaces, digits, and characters of every UTF-8 length.
pub(crate) fn random_text(random: &mut Random, len: usize) -> String {
    const ALPHABET: &[char] = &[
        'a', 'b', 'e', 't', 'T', ' ', ' ', '\n', '\t', '\'', 's', '.', '7', 'é', 'ß', '日',
        '\u{0}', '\u{301}', '😀', '\u{2581}', '<',
    ];
    (0..len).map(|_| *random.choose(ALPHABET)).collect()
}
