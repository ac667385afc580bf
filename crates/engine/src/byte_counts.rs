use orion_formats::TokenFile;
use orion_tokenizer::{Parts, Piece, PieceKind, Tokenizer};

/// How many bytes of text each token of a tokenizer stands for, as OpenAI's Parameter Golf counts
/// them: bits per byte compare models of different tokenizers.
///
/// A piece counts its UTF-8 bytes; a space that begins it, spelled U+2581, counts one, but only
/// behind a token that is text: none is written behind the one that begins a document. Special
/// tokens count nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByteCounts {
    rows: Vec<Row>,
}

/// What a token counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    bytes: u32,
    leading_space: bool,
    /// Whether it is no text.
    boundary: bool,
}

const SPACE: char = '\u{2581}';

impl ByteCounts {
    /// The counts of a tokenizer.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let special = |piece: &Piece| {
            matches!(piece.kind, PieceKind::Control | PieceKind::Unknown | PieceKind::Unused)
        };
        let nothing = Row { bytes: 0, leading_space: false, boundary: true };
        let rows = match tokenizer.to_parts() {
            Parts::Scored(parts) => parts
                .pieces
                .iter()
                .map(|piece| match piece.kind {
                    _ if special(piece) => nothing,
                    PieceKind::Byte => Row { bytes: 1, leading_space: false, boundary: false },
                    _ => {
                        let stripped = piece.text.strip_prefix(SPACE);
                        let text = stripped.unwrap_or(&piece.text);
                        Row {
                            bytes: text.len() as u32,
                            leading_space: stripped.is_some(),
                            boundary: false,
                        }
                    }
                })
                .collect(),
            // Pieces of byte-level BPE are bytes, spaces among them.
            Parts::Merged(parts) => (0u32..)
                .zip(&parts.pieces)
                .map(|(id, piece)| match special(piece) {
                    true => nothing,
                    false => {
                        let bytes = tokenizer.decode(&[id]).len() as u32;
                        Row { bytes, leading_space: false, boundary: false }
                    }
                })
                .collect(),
            _ => Vec::new(),
        };
        Self { rows }
    }

    /// Bytes of `token` behind `previous`; tokens that the tokenizer does not have count nothing.
    pub fn bytes(&self, previous: u32, token: u32) -> u64 {
        let Some(row) = self.rows.get(token as usize) else { return 0 };
        let after_text = self.rows.get(previous as usize).is_some_and(|p| !p.boundary);
        u64::from(row.bytes) + u64::from(row.leading_space && after_text)
    }

    /// Bytes of the tokens `first..first + count` of a file, each behind the one before it.
    ///
    /// # Panics
    /// When `first` is 0 or the file ends before.
    pub fn bytes_in(&self, file: &TokenFile, first: usize, count: usize) -> u64 {
        let tokens = file.window(first - 1, count + 1);
        tokens.windows(2).map(|pair| self.bytes(pair[0], pair[1])).sum()
    }
}
