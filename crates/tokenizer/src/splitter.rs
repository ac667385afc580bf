use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// How text is cut into words before merging; merges never cross a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Splitter {
    /// GPT-2's rule, which Hugging Face's `ByteLevel` pre-tokenizer has built in:
    /// `'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
    Gpt2,
    /// GPT-2's rule between digits, each of which is a word: SmolLM's.
    Gpt2Digits,
    /// Qwen2's and Qwen3's rule, with contractions in any case: every digit is a word.
    Qwen2,
    /// Llama 3's rule, as Qwen2's, but up to three digits are a word.
    Llama3,
}

/// The regular expression of [`Splitter::Qwen2`] as `tokenizer.json` files have it.
pub(crate) const QWEN2_PATTERN: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// The regular expression of [`Splitter::Llama3`] as `tokenizer.json` files have it.
pub(crate) const LLAMA3_PATTERN: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

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
                Self::Gpt2Digits => gpt2_word_or_digit(rest),
                Self::Qwen2 => later_word(rest, 1),
                Self::Llama3 => later_word(rest, 3),
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
    spaces_word(text, run(0, Class::Space))
}

/// As [`gpt2_word`], but a digit is a word and text ends before the next one, as behind Hugging
/// Face's `Digits` pre-tokenizer.
fn gpt2_word_or_digit(text: &str) -> usize {
    match text.char_indices().find(|(_, character)| character.is_numeric()) {
        Some((0, digit)) => digit.len_utf8(),
        Some((end, _)) => gpt2_word(&text[..end]),
        None => gpt2_word(text),
    }
}

/// Bytes of the word that `text`, which is not empty, starts with, where up to `most_digits` are
/// one: the rule that Llama 3 and Qwen2 share.
fn later_word(text: &str, most_digits: usize) -> usize {
    if let Some(len) = contraction(text) {
        return len;
    }
    let run = |start: usize, wanted: Class| {
        let rest = &text[start..];
        start + rest.find(|c| class(c) != wanted).unwrap_or(rest.len())
    };
    let mut characters = text.chars();
    let Some(first) = characters.next() else { return 0 };
    let first_class = class(first);
    let second_class = characters.next().map(class);
    match first_class {
        Class::Letter => return run(0, Class::Letter),
        Class::Number => {
            let digits = text.chars().take(most_digits).take_while(|&c| class(c) == Class::Number);
            return digits.map(char::len_utf8).sum();
        }
        // One character of any other kind, but no line break, may precede a word.
        _ if second_class == Some(Class::Letter) && !is_line_break(first) => {
            return run(first.len_utf8(), Class::Letter);
        }
        Class::Other => {}
        Class::Space if first == ' ' && second_class == Some(Class::Other) => {}
        Class::Space => {
            let end = run(0, Class::Space);
            // Spaces up to the last line break among them belong together.
            if let Some(last) = text[..end].rfind(is_line_break) {
                return last + 1;
            }
            return spaces_word(text, end);
        }
    }
    let end = run(usize::from(first == ' '), Class::Other);
    let rest = &text[end..];
    end + rest.find(|c| !is_line_break(c)).unwrap_or(rest.len())
}

fn is_line_break(character: char) -> bool {
    matches!(character, '\r' | '\n')
}

/// Bytes of an English contraction, in any case, that `text` starts with.
fn contraction(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('\'')?;
    let mut letters = rest.chars();
    // The long s is an s to a regular expression that ignores case.
    match letters.next()? {
        's' | 'S' | 't' | 'T' | 'm' | 'M' | 'd' | 'D' => Some(2),
        'ſ' => Some(1 + 'ſ'.len_utf8()),
        'r' | 'R' | 'v' | 'V' if matches!(letters.next(), Some('e' | 'E')) => Some(3),
        'l' | 'L' if matches!(letters.next(), Some('l' | 'L')) => Some(3),
        _ => None,
    }
}

/// Bytes of the word at the start of `text` whose first `end` bytes are all its spaces: a run of
/// spaces leaves its last one to the word that follows, unless it is all there is.
fn spaces_word(text: &str, end: usize) -> usize {
    if end == text.len() {
        return end;
    }
    let last = text[..end].chars().next_back().map_or(0, char::len_utf8);
    if end > last { end - last } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of(splitter: Splitter, text: &str) -> Vec<&str> {
        let words: Vec<_> = splitter.split(text).collect();
        assert_eq!(words.concat(), text);
        words
    }

    fn words(text: &str) -> Vec<&str> {
        words_of(Splitter::Gpt2, text)
    }

    #[test]
    fn qwen2() {
        let words = |text| words_of(Splitter::Qwen2, text);
        assert_eq!(words("Hello, it's 42!"), ["Hello", ",", " it", "'s", " ", "4", "2", "!"]);
        assert_eq!(words("I'VE we'Ll x'ſ"), ["I", "'VE", " we", "'Ll", " x", "'ſ"]);
        assert_eq!(words("a.b(c)"), ["a", ".b", "(c", ")"]);
        assert_eq!(words("f();\n\n  g"), ["f", "();\n\n", " ", " g"]);
        assert_eq!(words("a \n \n b  "), ["a", " \n \n", " b", "  "]);
        assert_eq!(words("\tx\t\ty\nz"), ["\tx", "\t", "\ty", "\n", "z"]);
        assert_eq!(words(" !\r\n!"), [" !\r\n", "!"]);
        assert_eq!(words_of(Splitter::Llama3, "12345 6"), ["123", "45", " ", "6"]);
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
