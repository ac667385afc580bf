//! Tokenizers as lists of pieces, for files of other kinds that carry a tokenizer.

use crate::byte_level::{ByteLevel, Entry, Rules, Unspell, spell, spelling};
use crate::gpt2_files::pair_of;
use crate::llama2c::{Llama2c, byte_of};
use crate::sentencepiece::{self, Algorithm, ModelFile, PieceRow, SentencePiece};
use crate::{Error, ErrorKind, Model, Result, Splitter, Tokenizer};

/// Everything that makes a tokenizer; the index of a piece is its id.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Parts {
    /// Pieces with scores.
    Scored(ScoredParts),
    /// Byte-level BPE.
    Merged(MergedParts),
    /// A `tokenizer.json` that only Hugging Face's library reads: its bytes.
    HuggingFace(Vec<u8>),
}

/// Parts of a tokenizer of SentencePiece's kinds.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredParts {
    /// Pieces, with U+2581 for a space.
    pub pieces: Vec<Piece>,
    /// By id, the score of a piece.
    pub scores: Vec<f32>,
    /// Whether the likeliest way to cut a text is taken, not the one that merging leads to.
    pub unigram: bool,
    /// Whether a space is put before every text.
    pub add_space: bool,
    /// Whether spaces at both ends of a text are dropped, and runs of spaces become one.
    pub remove_extra_spaces: bool,
    /// SentencePiece's `precompiled_charsmap`, which replaces characters; empty for none.
    pub charsmap: Vec<u8>,
    /// The id that begins a document.
    pub bos: Option<u32>,
    /// The id that ends a document.
    pub eos: Option<u32>,
}

/// Parts of a byte-level BPE.
#[derive(Debug, Clone, PartialEq)]
pub struct MergedParts {
    /// Pieces, their bytes spelled as in GPT-2's `vocab.json`.
    pub pieces: Vec<Piece>,
    /// Pairs of spelled pieces with a space between, best first.
    pub merges: Vec<String>,
    /// How text is cut into words.
    pub splitter: Splitter,
    /// The id that begins every text, where the tokenizer says so.
    pub bos: Option<u32>,
    /// The id that ends a document.
    pub eos: Option<u32>,
}

/// One id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its text or name.
    pub text: String,
    /// What it is.
    pub kind: PieceKind,
}

/// What a piece is; the numbers are SentencePiece's and GGUF's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PieceKind {
    /// Text.
    Normal = 1,
    /// Stands for what no piece covers.
    Unknown = 2,
    /// Stands for no text, but has a name.
    Control = 3,
    /// Text that is always one token.
    UserDefined = 4,
    /// Not to be used.
    Unused = 5,
    /// One byte.
    Byte = 6,
}

impl PieceKind {
    /// The kind with that number.
    pub fn from_number(number: u32) -> Option<Self> {
        use PieceKind::*;
        let all = [Normal, Unknown, Control, UserDefined, Unused, Byte];
        all.into_iter().find(|&kind| kind as u32 == number)
    }
}

impl Tokenizer {
    /// A tokenizer of these parts.
    ///
    /// # Errors
    /// When the parts contradict each other, as [`Tokenizer::parse`] would find in a file.
    pub fn from_parts(parts: &Parts) -> Result<Self> {
        match parts {
            Parts::Scored(parts) => scored(parts).map(Self::sentencepiece),
            Parts::Merged(parts) => merged(parts).map(Self::byte_level),
            Parts::HuggingFace(file) => Self::parse(file),
        }
    }

    /// The parts of this tokenizer. A tokenizer of the same parts encodes and decodes alike; one
    /// of llama2.c's becomes one of SentencePiece's.
    pub fn to_parts(&self) -> Parts {
        match &self.0 {
            Model::Llama2c(model) => Parts::Scored(scored_of_llama2c(model)),
            Model::SentencePiece(model) => Parts::Scored(scored_of(model)),
            Model::ByteLevel(model) => Parts::Merged(merged_of(model)),
            #[cfg(feature = "tokenizers")]
            Model::HuggingFace(model) => Parts::HuggingFace(model.file().to_vec()),
        }
    }
}

impl Tokenizer {
    /// The `tokenizer.bin` of llama2.c that encodes and decodes as this tokenizer does.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] naming what that file has no place for.
    pub fn to_llama2c(&self) -> Result<Vec<u8>> {
        let refuse = |what: &str| Err(Error::new(ErrorKind::Unsupported, what));
        let parts = match self.to_parts() {
            Parts::Scored(parts) => parts,
            Parts::Merged(_) => return refuse("llama2.c has no byte-level BPE"),
            Parts::HuggingFace(_) => {
                return refuse("llama2.c has no place for what this tokenizer does");
            }
        };
        if parts.unigram {
            return refuse("llama2.c has no unigram pieces");
        }
        if !parts.charsmap.is_empty() {
            return refuse("llama2.c does not fold characters, as this tokenizer does");
        }
        if parts.remove_extra_spaces {
            return refuse("llama2.c does not drop spaces, as this tokenizer does");
        }
        if !parts.add_space {
            return refuse("llama2.c puts a space before every text, this tokenizer does not");
        }
        if parts.pieces.iter().any(|piece| piece.kind == PieceKind::UserDefined) {
            return refuse("llama2.c has no user-defined pieces");
        }
        let piece = |(id, piece): (usize, &Piece)| match u32::try_from(id).ok() {
            id if id == parts.bos => b"\n<s>\n".to_vec(),
            id if id == parts.eos => b"\n</s>\n".to_vec(),
            _ => piece.text.replace('\u{2581}', " ").into_bytes(),
        };
        Llama2c::of_pieces(parts.pieces.iter().enumerate().map(piece).zip(parts.scores.iter()))
            .map(|model| model.to_bytes())
    }
}

fn name_of(pieces: &[Piece], id: Option<u32>) -> Result<Option<&str>> {
    let Some(id) = id else { return Ok(None) };
    let piece = pieces.get(id as usize).ok_or_else(|| {
        let what = format!("token {id} of {} begins or ends a text", pieces.len());
        Error::new(ErrorKind::Malformed, what)
    })?;
    Ok(Some(&piece.text))
}

fn scored(parts: &ScoredParts) -> Result<SentencePiece> {
    if parts.scores.len() != parts.pieces.len() {
        let what = format!("{} pieces have {} scores", parts.pieces.len(), parts.scores.len());
        return Err(Error::new(ErrorKind::Malformed, what));
    }
    let bos = name_of(&parts.pieces, parts.bos)?;
    let eos = name_of(&parts.pieces, parts.eos)?;
    let row = |(piece, &score): (&Piece, &f32)| PieceRow {
        piece: piece.text.clone(),
        score,
        kind: sentencepiece::PieceKind::of(piece.kind as u64).expect("the numbers are the same"),
    };
    let file = ModelFile {
        algorithm: if parts.unigram { Algorithm::Unigram } else { Algorithm::Bpe },
        byte_fallback: parts.pieces.iter().any(|piece| piece.kind == PieceKind::Byte),
        bos_piece: bos.unwrap_or_default().to_owned(),
        eos_piece: eos.unwrap_or_default().to_owned(),
        charsmap: parts.charsmap.clone(),
        add_dummy_prefix: parts.add_space,
        remove_extra_whitespaces: parts.remove_extra_spaces,
        pieces: parts.pieces.iter().zip(&parts.scores).map(row).collect(),
        ..ModelFile::default()
    };
    SentencePiece::parse(&file.to_bytes())
}

fn scored_of(model: &SentencePiece) -> ScoredParts {
    // It was read from these bytes.
    let file = ModelFile::parse(&model.to_bytes()).unwrap_or_default();
    let piece = |row: &PieceRow| Piece {
        text: row.piece.clone(),
        kind: PieceKind::from_number(row.kind as u32).expect("the numbers are the same"),
    };
    ScoredParts {
        pieces: file.pieces.iter().map(piece).collect(),
        scores: file.pieces.iter().map(|row| row.score).collect(),
        unigram: file.algorithm == Algorithm::Unigram,
        add_space: file.add_dummy_prefix,
        remove_extra_spaces: file.remove_extra_whitespaces,
        charsmap: file.charsmap,
        bos: model.bos(),
        eos: model.eos(),
    }
}

fn scored_of_llama2c(model: &Llama2c) -> ScoredParts {
    let ids = 0..model.vocab_size() as u32;
    let piece = |id: u32| {
        let bytes = model.piece(id).unwrap_or_default();
        let text = String::from_utf8_lossy(bytes);
        if id == model.unknown() {
            return Piece { text: "<unk>".to_owned(), kind: PieceKind::Unknown };
        }
        if id == model.bos() || id == model.eos() {
            return Piece { text: text.trim().to_owned(), kind: PieceKind::Control };
        }
        let kind = if byte_of(bytes).is_some() { PieceKind::Byte } else { PieceKind::Normal };
        Piece { text: text.replace(' ', "\u{2581}"), kind }
    };
    ScoredParts {
        pieces: ids.clone().map(piece).collect(),
        scores: ids.map(|id| model.score(id)).collect(),
        unigram: false,
        add_space: true,
        remove_extra_spaces: false,
        charsmap: Vec::new(),
        bos: Some(model.bos()),
        eos: Some(model.eos()),
    }
}

fn merged(parts: &MergedParts) -> Result<ByteLevel> {
    let unspell = Unspell::new();
    let malformed = |what: String| Error::new(ErrorKind::Malformed, what);
    let mut entries = Vec::with_capacity(parts.pieces.len());
    for (id, piece) in parts.pieces.iter().enumerate() {
        entries.push(match piece.kind {
            PieceKind::Normal | PieceKind::Byte => {
                Entry::Text(unspell.bytes(&piece.text).ok_or_else(|| {
                    let text = &piece.text;
                    malformed(format!("piece {id}, {text:?}, is not spelled in GPT-2's bytes"))
                })?)
            }
            PieceKind::UserDefined => Entry::Added(piece.text.clone()),
            PieceKind::Unknown | PieceKind::Control | PieceKind::Unused => {
                Entry::Special(piece.text.clone())
            }
        });
    }
    let mut merges = Vec::with_capacity(parts.merges.len());
    for (rank, line) in parts.merges.iter().enumerate() {
        let pair = pair_of(line, &unspell);
        merges.push(
            pair.ok_or_else(|| {
                malformed(format!("merge {rank} is {line:?}, expected two pieces"))
            })?,
        );
    }
    let mut model = ByteLevel::new(entries, merges, Rules::of(parts.splitter))?;
    if let Some(name) = name_of(&parts.pieces, parts.bos)? {
        model.begin_with(name);
    }
    Ok(model)
}

fn merged_of(model: &ByteLevel) -> MergedParts {
    let table = spelling();
    let spelled = |id: u32| spell(&table, model.piece(id).unwrap_or_default());
    let piece = |id: u32| {
        let name = || String::from_utf8_lossy(model.piece(id).unwrap_or_default()).into_owned();
        if model.is_special(id) {
            Piece { text: name(), kind: PieceKind::Control }
        } else if model.is_added(id) {
            Piece { text: name(), kind: PieceKind::UserDefined }
        } else {
            Piece { text: spelled(id), kind: PieceKind::Normal }
        }
    };
    let merges = model.merges_by_rank().into_iter();
    MergedParts {
        pieces: (0..model.vocab_size() as u32).map(piece).collect(),
        merges: merges.map(|(l, r)| format!("{} {}", spelled(l), spelled(r))).collect(),
        splitter: model.rules().splitter,
        bos: model.begins_with(),
        eos: model.eos(),
    }
}
