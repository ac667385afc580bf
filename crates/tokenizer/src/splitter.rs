use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// How text is cut into words before merging; merges never cross a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Splitter {
    /// GPT-2's rule, which Hugging Face's `ByteLevel` pre-tokenizer has built in:
    /// `'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
    Gpt2,
}

impl Splitter {
    /// The words of `text`, in order and without gaps.
    pub fn split(self, text: &str) -> impl Iterator<Item = &str> {
        let mut rest = text;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let len = match self {
                Self::Gpt2 => gpt2_word(rest),
            };
            let (word, after) = rest.split_at(len);
            rest = after;
            Some(word)
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Space,
    Letter,
    Number,
    Other,
}

fn class(character: char) -> Class {
    if character.is_ascii() {
        return match character {
            'a'..='z' | 'A'..='Z' => Class::Letter,
            '0'..='9' => Class::Number,
            _ if character.is_whitespace() => Class::Space,
            _ => Class::Other,
        };
    }
    if character.is_whitespace() {
        return Class::Space;
    }
    match character.general_category_group() {
        GeneralCategoryGroup::Letter => Class::Letter,
        GeneralCategoryGroup::Number => Class::Number,
        _ => Class::Other,
    }
}

/// Bytes of the word that `text`, which is not empty, starts with.
fn gpt2_word(text: &str) -> usize {
    for contraction in ["'s", "'d", "'m", "'t", "'ll", "'ve", "'re"] {
        if text.starts_with(contraction) {
            return contraction.len();
        }
    }
    let run = |start: usize, wanted: Class| {
        let rest = &text[start..];
        start + rest.find(|c| class(c) != wanted).unwrap_or(rest.len())
    };
    let mut characters = text.chars();
    let first = characters.next().map_or(Class::Other, class);
    if first != Class::Space {
        return run(0, first);
    }
    if text.starts_with(' ')
        && let Some(second) = characters.next().map(class)
        && second != Class::Space
    {
        return run(1, second);
    }
    // A run of spaces leaves its last one to the word that follows, unless it is all there is.
    let end = run(0, Class::Space);
    if end == text.len() {
        return end;
    }
    let last = text[..end].chars().next_back().map_or(0, char::len_utf8);
    if end > last { end - last } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        let words: Vec<_> = Splitter::Gpt2.split(text).collect();
        assert_eq!(words.concat(), text);
        words
    }

    #[test]
    fn gpt2() {
        assert_eq!(words("Hello, it's 42!"), ["Hello", ",", " it", "'s", " 42", "!"]);
        assert_eq!(words("we'll 'tis I'VE"), ["we", "'ll", " '", "tis", " I", "'", "VE"]);
        assert_eq!(words("a  b"), ["a", " ", " b"]);
        assert_eq!(words("a \n\n b"), ["a", " \n\n", " b"]);
        assert_eq!(words("a\n\nb \n"), ["a", "\n", "\n", "b", " \n"]);
        assert_eq!(words("a\u{a0}\u{3000}b"), ["a", "\u{a0}", "\u{3000}", "b"]);
        assert_eq!(words("x ½² Ⅷ日本"), ["x", " ½²", " Ⅷ", "日本"]);
        // Combining marks are not letters to this rule, although they are alphabetic.
        assert_eq!(words("हिन्दी"), ["ह", "ि", "न", "्", "द", "ी"]);
        assert_eq!(words("''s"), ["''", "s"]);
        assert!(words("").is_empty());
    }
}
