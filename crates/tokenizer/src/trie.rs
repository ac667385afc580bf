//! Which of many byte strings a text starts with.

use std::collections::HashMap;

/// Byte strings with a number each, as a tree of their bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trie {
    /// By node and byte: the next node. The root is 0.
    children: HashMap<(u32, u8), u32>,
    /// By node: the number of the string that ends there.
    values: Vec<Option<u32>>,
    /// Which bytes strings start with, to pass over most text quickly.
    starts: Vec<bool>,
}

impl Trie {
    /// A trie of `strings`; an empty string is left out, and of equal ones the first counts.
    pub(crate) fn new<'a>(strings: impl IntoIterator<Item = (&'a [u8], u32)>) -> Self {
        let mut this =
            Self { children: HashMap::new(), values: vec![None], starts: vec![false; 256] };
        for (string, value) in strings {
            let Some(&first) = string.first() else { continue };
            this.starts[usize::from(first)] = true;
            let mut node = 0;
            for &byte in string {
                let fresh = this.values.len() as u32;
                node = *this.children.entry((node, byte)).or_insert(fresh);
                if node == fresh {
                    this.values.push(None);
                }
            }
            this.values[node as usize].get_or_insert(value);
        }
        this
    }

    /// The strings that `text` starts with, shortest first: their lengths and numbers.
    pub(crate) fn prefixes(&self, text: &[u8]) -> impl Iterator<Item = (usize, u32)> {
        let mut node = 0;
        let mut len = 0;
        std::iter::from_fn(move || {
            loop {
                node = *self.children.get(&(node, *text.get(len)?))?;
                len += 1;
                if let Some(value) = self.values[node as usize] {
                    return Some((len, value));
                }
            }
        })
    }

    /// The longest string that `text` starts with.
    pub(crate) fn longest_prefix(&self, text: &[u8]) -> Option<(usize, u32)> {
        if !*self.starts.get(usize::from(*text.first()?))? {
            return None;
        }
        self.prefixes(text).last()
    }

    /// Cuts `text` at the strings, leftmost first, the longest of those that start together:
    /// text, then what follows it, until there is no more.
    pub(crate) fn cut<'a>(&self, text: &'a str) -> impl Iterator<Item = Cut<'a>> {
        let mut rest = text;
        let mut pending = None;
        std::iter::from_fn(move || {
            if let Some(value) = pending.take() {
                return Some(Cut::Found(value));
            }
            if rest.is_empty() {
                return None;
            }
            let found = (0..rest.len()).find_map(|at| {
                let (len, value) = self.longest_prefix(&rest.as_bytes()[at..])?;
                // The strings come from a file and might be parts of characters.
                let whole = rest.is_char_boundary(at) && rest.is_char_boundary(at + len);
                whole.then_some((at, len, value))
            });
            let Some((at, len, value)) = found else {
                return Some(Cut::Text(std::mem::take(&mut rest)));
            };
            let before = &rest[..at];
            rest = &rest[at + len..];
            if before.is_empty() {
                return Some(Cut::Found(value));
            }
            pending = Some(value);
            Some(Cut::Text(before))
        })
    }
}

/// A part of a text that was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut<'a> {
    /// What none of the strings is.
    Text(&'a str),
    /// The number of a string.
    Found(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leftmost_longest_is_cut_out() {
        let trie = Trie::new([(&b"ab"[..], 0), (b"abc", 1), (b"c", 2), (b"", 3), (b"\x97", 4)]);
        assert_eq!(trie.prefixes(b"abcd").collect::<Vec<_>>(), [(2, 0), (3, 1)]);
        let cut: Vec<_> = trie.cut("xabcabé日cc").collect();
        use Cut::*;
        assert_eq!(cut, [Text("x"), Found(1), Found(0), Text("é日"), Found(2), Found(2)]);
        assert_eq!(trie.cut("").count(), 0);
        assert_eq!(Trie::new([]).cut("ab").collect::<Vec<_>>(), [Text("ab")]);
    }
}
