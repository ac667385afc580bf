//! Text to token ids and back.
//!
//! One type, [`Tokenizer`], stands for every kind: llama2.c's `tokenizer.bin` and byte-level BPE,
//! which this crate also trains. Ids are `u32`; [`Tokenizer::encode`] adds no BOS or EOS, and text
//! that looks like a special token is encoded as text.

mod byte_level;
mod error;
mod gpt2_files;
mod json;
mod llama2c;
mod merge;
mod splitter;
mod stream;
mod train;

pub use error::{Error, ErrorKind, Result};
pub use splitter::Splitter;
pub use stream::DecodeStream;

use byte_level::ByteLevel;
use llama2c::Llama2c;
use std::path::{Path, PathBuf};

/// A tokenizer file larger than this is refused before it is read.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// The name of the token that separates documents in tokenizers trained here, and in GPT-2's.
pub const DOCUMENT_SEPARATOR: &str = "<|endoftext|>";

/// Turns text into ids and ids into bytes.
#[derive(Debug, Clone)]
pub struct Tokenizer(Model);

#[derive(Debug, Clone)]
enum Model {
    Llama2c(Llama2c),
    ByteLevel(ByteLevel),
}

impl Tokenizer {
    /// Reads a `tokenizer.bin` of llama2.c or a byte-level BPE `tokenizer.json`, whichever the
    /// file is by its content.
    ///
    /// # Errors
    /// As [`Tokenizer::parse`], with the path; and when the file cannot be read.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(&read(path)?).map_err(|e| e.in_file(path))
    }

    /// Reads the bytes of a tokenizer file.
    ///
    /// # Errors
    /// When the file is cut, values in it contradict each other, or it asks for something that is
    /// not a byte-level BPE; with the offset of the entry or the name of the key.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        // A llama2.c file may start with `{` (longest piece 123 bytes), but then zeros follow.
        let is_json = bytes.trim_ascii_start().first() == Some(&b'{') && bytes.get(1) != Some(&0);
        if is_json {
            json::parse(bytes).map(Model::ByteLevel).map(Self)
        } else {
            Llama2c::parse(bytes).map(Model::Llama2c).map(Self)
        }
    }

    /// Reads a byte-level BPE from GPT-2's two files: `vocab.json`, ids by piece, and
    /// `merges.txt`, a pair of pieces per line, best first.
    ///
    /// # Errors
    /// As [`Tokenizer::parse_gpt2_files`], with the path; and when a file cannot be read.
    pub fn from_gpt2_files(
        vocab: impl AsRef<Path>,
        merges: impl AsRef<Path>,
        splitter: Splitter,
    ) -> Result<Self> {
        let (vocab, merges) = (vocab.as_ref(), merges.as_ref());
        let rows = gpt2_files::parse_vocab(&read(vocab)?).map_err(|e| e.in_file(vocab))?;
        gpt2_files::assemble(rows, &read(merges)?, splitter)
            .map(|model| Self(Model::ByteLevel(model)))
            .map_err(|e| e.in_file(merges))
    }

    /// As [`Tokenizer::from_gpt2_files`], from the bytes of both files.
    ///
    /// # Errors
    /// When one of the files is malformed, a byte has no piece, or a merge joins or makes pieces
    /// that are not in the vocabulary.
    pub fn parse_gpt2_files(vocab: &[u8], merges: &[u8], splitter: Splitter) -> Result<Self> {
        let rows = gpt2_files::parse_vocab(vocab)?;
        gpt2_files::assemble(rows, merges, splitter).map(|model| Self(Model::ByteLevel(model)))
    }

    /// Trains a byte-level BPE: 256 bytes, [`DOCUMENT_SEPARATOR`] and merges of the most frequent
    /// pairs within words, `vocab_size` ids in all. The same documents give the same tokenizer.
    ///
    /// The result is smaller than asked for when the documents run out of pairs.
    ///
    /// # Errors
    /// [`ErrorKind::Training`] when `vocab_size` has no room for the bytes and the separator, or is
    /// larger than 2^24.
    pub fn train_byte_level<'a>(
        documents: impl IntoIterator<Item = &'a str>,
        vocab_size: usize,
    ) -> Result<Self> {
        train::train(documents, vocab_size, Splitter::Gpt2).map(|m| Self(Model::ByteLevel(m)))
    }

    /// The ids of `text`, without BOS or EOS.
    ///
    /// # Panics
    /// When the text has more than about 4 thousand million characters.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        match &self.0 {
            Model::Llama2c(model) => model.encode(text),
            Model::ByteLevel(model) => model.encode(text),
        }
    }

    /// The bytes that `ids` stand for; not UTF-8 where ids cut a character in two.
    ///
    /// BOS, EOS and other special tokens give nothing. In a llama2.c tokenizer the space that
    /// starts every text is dropped after BOS, so start with [`Tokenizer::bos`] to get a text back
    /// as it was. An id outside the vocabulary gives U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut previous = None;
        for &id in ids {
            self.append_bytes(previous, id, &mut out);
            previous = Some(id);
        }
        out
    }

    /// Decodes ids one by one.
    pub fn decode_stream(&self) -> DecodeStream<'_> {
        DecodeStream::new(self)
    }

    /// The number of ids.
    pub fn vocab_size(&self) -> usize {
        match &self.0 {
            Model::Llama2c(model) => model.vocab_size(),
            Model::ByteLevel(model) => model.vocab_size(),
        }
    }

    /// The id that starts a document, where there is one.
    pub fn bos(&self) -> Option<u32> {
        match &self.0 {
            Model::Llama2c(model) => Some(model.bos()),
            Model::ByteLevel(model) => model.separator(),
        }
    }

    /// The id that ends a document, where there is one. Byte-level tokenizers have one separator
    /// that is both.
    pub fn eos(&self) -> Option<u32> {
        match &self.0 {
            Model::Llama2c(model) => Some(model.eos()),
            Model::ByteLevel(model) => model.separator(),
        }
    }

    /// The piece called `id` as the vocabulary has it: bytes of text, or the name of a special
    /// token; a llama2.c byte is spelled `<0x0A>`.
    pub fn piece(&self, id: u32) -> Option<&[u8]> {
        match &self.0 {
            Model::Llama2c(model) => model.piece(id),
            Model::ByteLevel(model) => model.piece(id),
        }
    }

    /// The name a file with [`Tokenizer::to_bytes`] should have: `tokenizer.bin` or
    /// `tokenizer.json`.
    pub fn file_name(&self) -> &'static str {
        match &self.0 {
            Model::Llama2c(_) => "tokenizer.bin",
            Model::ByteLevel(_) => "tokenizer.json",
        }
    }

    /// A file that [`Tokenizer::parse`] reads as this tokenizer: llama2.c's layout or
    /// Hugging Face's, whichever this tokenizer is of. The same tokenizer gives the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.0 {
            Model::Llama2c(model) => model.to_bytes(),
            Model::ByteLevel(model) => json::write(model),
        }
    }

    /// Writes [`Tokenizer::to_bytes`] as [`Tokenizer::file_name`] into `directory`, to a temporary
    /// name first, and returns the path.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn save_in(&self, directory: impl AsRef<Path>) -> Result<PathBuf> {
        let path = directory.as_ref().join(self.file_name());
        let temporary = directory.as_ref().join(format!(".{}.new", self.file_name()));
        std::fs::write(&temporary, self.to_bytes())
            .map_err(|e| Error::io("writing", &temporary, e))?;
        std::fs::rename(&temporary, &path).map_err(|e| Error::io("renaming", &path, e))?;
        Ok(path)
    }

    fn append_bytes(&self, previous: Option<u32>, id: u32, out: &mut Vec<u8>) {
        if id as usize >= self.vocab_size() {
            out.extend_from_slice("\u{fffd}".as_bytes());
            return;
        }
        match &self.0 {
            Model::Llama2c(model) => model.append_bytes(previous, id, out),
            Model::ByteLevel(model) => model.append_bytes(id, out),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let metadata = std::fs::metadata(path).map_err(|e| Error::io("opening", path, e))?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        return Err(Error::new(
            ErrorKind::WrongFormat,
            format!("expected a file of at most {} MiB", MAX_FILE_BYTES >> 20),
        )
        .in_file(path));
    }
    std::fs::read(path).map_err(|e| Error::io("reading", path, e))
}
