//! What SentencePiece does to a text before it looks for pieces.

use super::proto::ModelFile;
use crate::trie::Trie;
use crate::{Error, ErrorKind, Result};

/// Stands for a space inside pieces.
pub(super) const SPACE: &str = "\u{2581}";

#[derive(Debug, Clone)]
pub(super) struct Normalizer {
    charsmap: Option<CharsMap>,
    space: &'static str,
    add_space: bool,
    space_behind: bool,
    remove_extra_spaces: bool,
}

impl Normalizer {
    pub(super) fn new(file: &ModelFile) -> Result<Self> {
        let charsmap = (!file.charsmap.is_empty()).then(|| CharsMap::parse(&file.charsmap));
        Ok(Self {
            charsmap: charsmap.transpose()?,
            space: if file.escape_whitespaces { SPACE } else { " " },
            add_space: file.add_dummy_prefix,
            space_behind: file.space_behind,
            remove_extra_spaces: file.remove_extra_whitespaces,
        })
    }

    /// Whether the first space of decoded text was not in the text.
    pub(super) fn drops_first_space(&self) -> bool {
        self.add_space || self.remove_extra_spaces
    }

    /// Whether every space at the start of decoded text was not in the text.
    pub(super) fn drops_all_first_spaces(&self) -> bool {
        self.remove_extra_spaces
    }

    /// `text` with characters replaced and spaces tidied and escaped. The strings in `kept` are
    /// left as they are.
    pub(super) fn normalize(&self, text: &str, kept: &Trie) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len() + text.len() / 2 + 3);
        let mut rest = text.as_bytes();
        if self.remove_extra_spaces {
            while !rest.is_empty() {
                let (replaced, len) = self.replace(rest, kept);
                if replaced != b" " {
                    break;
                }
                rest = &rest[len..];
            }
        }
        if rest.is_empty() {
            return out;
        }
        if self.add_space && !self.space_behind {
            out.extend_from_slice(self.space.as_bytes());
        }
        let mut after_space = self.remove_extra_spaces;
        while !rest.is_empty() {
            let (mut replaced, len) = self.replace(rest, kept);
            rest = &rest[len..];
            while after_space && let Some(shorter) = replaced.strip_prefix(b" ") {
                replaced = shorter;
            }
            if !replaced.is_empty() {
                for &byte in replaced {
                    match byte {
                        b' ' => out.extend_from_slice(self.space.as_bytes()),
                        _ => out.push(byte),
                    }
                }
                after_space = replaced.ends_with(b" ");
            }
            after_space &= self.remove_extra_spaces;
        }
        if self.remove_extra_spaces {
            while out.ends_with(self.space.as_bytes()) {
                out.truncate(out.len() - self.space.len());
            }
        }
        if self.add_space && self.space_behind {
            out.extend_from_slice(self.space.as_bytes());
        }
        out
    }

    /// What stands for the beginning of `text`, which is not empty, and how long that beginning
    /// is.
    fn replace<'a>(&'a self, text: &'a [u8], kept: &Trie) -> (&'a [u8], usize) {
        if let Some((len, _)) = kept.longest_prefix(text) {
            return (&text[..len], len);
        }
        if let Some(found) = self.charsmap.as_ref().and_then(|map| map.longest(text)) {
            return found;
        }
        let len = character_length(text);
        (&text[..len], len)
    }
}

/// Bytes of the character that `text`, which is not empty, starts with.
pub(super) fn character_length(text: &[u8]) -> usize {
    let len = match text[0] {
        0..0xc0 => 1,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    };
    len.min(text.len())
}

/// Replacements by what they replace: a double-array trie, as the Darts-clone library lays it
/// out, and the strings that its values point to, each ended by a zero byte.
#[derive(Debug, Clone)]
struct CharsMap {
    units: Box<[u32]>,
    strings: Box<[u8]>,
}

impl CharsMap {
    fn parse(blob: &[u8]) -> Result<Self> {
        let malformed = |what: String| {
            Error::new(ErrorKind::Malformed, format!("key `precompiled_charsmap`: {what}"))
        };
        let (size, rest) = blob
            .split_first_chunk::<4>()
            .ok_or_else(|| malformed(format!("{} bytes are no table", blob.len())))?;
        let size = u32::from_le_bytes(*size) as usize;
        let Some((units, strings)) = rest.split_at_checked(size) else {
            let left = rest.len();
            return Err(malformed(format!("its trie should have {size} bytes, {left} are left")));
        };
        if units.is_empty() || !units.len().is_multiple_of(4) {
            return Err(malformed(format!("its trie has {size} bytes, expected whole units of 4")));
        }
        let units = units.as_chunks::<4>().0.iter().map(|&unit| u32::from_le_bytes(unit)).collect();
        Ok(Self { units, strings: strings.into() })
    }

    /// The replacement of the longest key that `text` starts with, and the key's length.
    fn longest<'a>(&'a self, text: &[u8]) -> Option<(&'a [u8], usize)> {
        let mut found = None;
        let mut node = 0;
        let mut unit = *self.units.first()?;
        node ^= children(unit);
        for (index, &byte) in text.iter().enumerate() {
            node ^= usize::from(byte);
            let Some(&next) = self.units.get(node) else { break };
            unit = next;
            // A unit that holds a value has its top bit set and is no byte's.
            if unit & (1 << 31 | 0xff) != u32::from(byte) {
                break;
            }
            node ^= children(unit);
            if unit >> 8 & 1 == 1
                && let Some(&value) = self.units.get(node)
            {
                found = Some((value & !(1 << 31), index + 1));
            }
        }
        let (start, len) = found?;
        let string = self.strings.get(start as usize..)?;
        let end = string.iter().position(|&byte| byte == 0)?;
        Some((&string[..end], len))
    }
}

/// Where the children of a unit begin, relative to it.
fn children(unit: u32) -> usize {
    ((unit >> 10) << ((unit & 1 << 9) >> 6)) as usize
}
