//! The template language: expands choices and slots, then sets articles and capitals.
//!
//! It does not know what a story is; the slots come from [`Slots`].
//!
//! - `[a|b|c]` is one of its options, which may be empty and may nest.
//! - `{name}` is the text of a slot, itself a template; `{^name}` the same with a capital.
//! - Runs of white space, also line breaks of the source, are one space.
//! - `a` becomes `an` before a vowel, and sentences get their capital, so that templates need
//!   neither. The one thing to write out is a sentence after `!"` or `?"`, because what follows may
//!   as well be `she said`.

use crate::rng::SplitMix64;

/// Where `{name}` gets its text from.
pub(crate) trait Slots {
    /// The template behind a slot, or `None` when there is no such slot.
    fn slot(&self, name: &str) -> Option<&'static str>;
}

/// Expands one paragraph.
///
/// # Panics
///
/// Panics on an unknown slot or an unclosed bracket: templates are part of this crate.
pub(crate) fn paragraph(template: &str, slots: &dyn Slots, rng: &mut SplitMix64) -> String {
    let mut raw = String::with_capacity(template.len());
    expand(template, slots, rng, &mut raw);
    polish(&raw)
}

fn expand(template: &str, slots: &dyn Slots, rng: &mut SplitMix64, out: &mut String) {
    let mut rest = template;
    while let Some(at) = rest.find(['[', '{']) {
        out.push_str(&rest[..at]);
        let open = &rest[at..];
        if open.starts_with('[') {
            let (options, after) = choice(open);
            expand(rng.pick(&options), slots, rng, out);
            rest = after;
        } else {
            let (name, capital, after) = slot(open);
            let text = slots.slot(name).unwrap_or_else(|| panic!("no slot named {name:?}"));
            let start = out.len();
            expand(text, slots, rng, out);
            if capital {
                out[start..=start].make_ascii_uppercase();
            }
            rest = after;
        }
    }
    out.push_str(rest);
}

/// Splits `[a|b]rest` into its options and the rest.
fn choice(text: &str) -> (Vec<&str>, &str) {
    let mut options = Vec::with_capacity(4);
    let mut depth = 0;
    let mut start = 1;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' => depth += 1,
            b'|' if depth == 1 => {
                options.push(&text[start..at]);
                start = at + 1;
            }
            b']' => {
                depth -= 1;
                if depth == 0 {
                    options.push(&text[start..at]);
                    return (options, &text[at + 1..]);
                }
            }
            _ => {}
        }
    }
    panic!("a choice is not closed: {text:?}");
}

/// Splits `{^name}rest` into the name, whether it has the capital mark, and the rest.
fn slot(text: &str) -> (&str, bool, &str) {
    let end = text.find('}').unwrap_or_else(|| panic!("a slot is not closed: {text:?}"));
    match text[1..end].strip_prefix('^') {
        Some(name) => (name, true, &text[end + 1..]),
        None => (&text[1..end], false, &text[end + 1..]),
    }
}

/// Joins white space, sets `a` or `an`, and capitalises sentences and opened quotations.
fn polish(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len() + 8);
    let mut in_quote = false;
    let mut capital = true;
    let mut gap = false;
    for c in raw.trim().chars() {
        if c.is_ascii_whitespace() {
            gap = true;
            continue;
        }
        if gap {
            if ends_in_article(&out)
                && matches!(c.to_ascii_lowercase(), 'a' | 'e' | 'i' | 'o' | 'u')
            {
                out.push('n');
            }
            out.push(' ');
            gap = false;
        }
        match c {
            '"' if in_quote => {
                in_quote = false;
                // `"Look!" he said` goes on; `"I see." He left` does not.
                capital &= out.ends_with('.');
                out.push(c);
            }
            '"' => {
                in_quote = true;
                capital = true;
                out.push(c);
            }
            '.' | '!' | '?' => {
                capital = true;
                out.push(c);
            }
            _ => {
                out.push(if capital { c.to_ascii_uppercase() } else { c });
                capital = false;
            }
        }
    }
    out
}

fn ends_in_article(text: &str) -> bool {
    let mut last = text.bytes().rev();
    matches!(last.next(), Some(b'a' | b'A')) && matches!(last.next(), None | Some(b' ' | b'"'))
}

/// The slots of all options of a template, so that a test need not wait for chance to draw them.
#[cfg(test)]
pub(crate) fn slot_names(template: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        let (name, _, after) = slot(&rest[at..]);
        names.push(name);
        rest = after;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Slots for Fixed {
        fn slot(&self, name: &str) -> Option<&'static str> {
            match name {
                "he" => Some("she"),
                "fruit" => Some("orange"),
                "his fruit" => Some("her {fruit}"),
                _ => None,
            }
        }
    }

    fn one(template: &str) -> String {
        paragraph(template, &Fixed, &mut SplitMix64::new(0))
    }

    #[test]
    fn sets_articles_by_the_following_word() {
        assert_eq!(one("a {fruit}, a pear. a\n  egg"), "An orange, a pear. An egg");
        assert_eq!(one("\"a {fruit}\" banana apple"), "\"An orange\" banana apple");
    }

    #[test]
    fn capitalises_sentences_but_not_what_follows_an_exclamation_in_quotes() {
        assert_eq!(
            one("{he} ran. \"no!\" {he} said. \"yes.\" {he} ate {his fruit}. \"why?\" {^he} sat."),
            "She ran. \"No!\" she said. \"Yes.\" She ate her orange. \"Why?\" She sat."
        );
    }

    #[test]
    fn draws_every_option_of_nested_choices() {
        let mut rng = SplitMix64::new(1);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            seen.insert(paragraph("x[ a[b|c]|| d]", &Fixed, &mut rng));
        }
        let expected = ["X", "X ab", "X ac", "X d"];
        assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    }

    #[test]
    #[should_panic(expected = "no slot named \"tree\"")]
    fn refuses_an_unknown_slot() {
        one("a {tree}");
    }

    #[test]
    #[should_panic(expected = "a choice is not closed")]
    fn refuses_an_open_choice() {
        one("[a|b");
    }
}
