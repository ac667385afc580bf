//! Text to token ids and back.
//!
//! One type, [`Tokenizer`], stands for every kind: llama2.c's `tokenizer.bin`, SentencePiece's
//! `tokenizer.model` (BPE and unigram), and byte-level BPE with the splitting rules of GPT-2,
//! Qwen2 and Llama 3, which this crate also trains; with the feature `tokenizers`, any other
//! `tokenizer.json` too. Ids are `u32`; [`Tokenizer::encode`] adds no
//! BOS or EOS, and text that looks like a special token is encoded as text.

mod byte_level;
mod error;
mod gpt2_files;
#[cfg(feature = "tokenizers")]
mod hugging_face;
mod json;
mod llama2c;
mod merge;
mod parts;
mod score;
mod sentencepiece;
mod splitter;
mod stream;
mod train;
mod trie;

pub use error::{Error, ErrorKind, Result};
pub use parts::{MergedParts, Parts, Piece, PieceKind, ScoredParts};
pub use splitter::Splitter;
pub use stream::DecodeStream;

use byte_level::ByteLevel;
use byte_level::Rules;
#[cfg(feature = "tokenizers")]
use hugging_face::HuggingFace;
use llama2c::Llama2c;
use sentencepiece::SentencePiece;
use std::path::{Path, PathBuf};

/// A tokenizer file larger than this is refused before it is read.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// The name of the token that separates documents in tokenizers trained here, and in GPT-2's.
pub const DOCUMENT_SEPARATOR: &str = "<|endoftext|>";

/// Turns text into ids and ids into bytes.
#[derive(Clone)]
pub struct Tokenizer(Model);

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({}, {} ids)", self.file_name(), self.vocab_size())
    }
}

#[derive(Clone)]
enum Model {
    Llama2c(Llama2c),
    ByteLevel(Box<ByteLevel>),
    SentencePiece(Box<SentencePiece>),
    #[cfg(feature = "tokenizers")]
    HuggingFace(HuggingFace),
}

impl Tokenizer {
    /// Reads a tokenizer, whichever kind the file is of by its content: a `tokenizer.bin` of
    /// llama2.c, a `tokenizer.model` of SentencePiece, a byte-level BPE `tokenizer.json`, or a
    /// `vocab.json` with its `merges.txt` beside it. In a directory, the first of `tokenizer.json`,
    /// `tokenizer.model`, `vocab.json` and `tokenizer.bin` is read; for a `tokenizer.json` that is
    /// no byte-level BPE, a `tokenizer.model` beside it with the same pieces.
    ///
    /// # Errors
    /// As [`Tokenizer::parse`], with the path; and when a file cannot be read.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if path.is_dir() {
            let file = Self::find_in(path).ok_or_else(|| {
                let names = FILE_NAMES.join(", ");
                Error::new(ErrorKind::WrongFormat, format!("no tokenizer lies here ({names})"))
                    .in_file(path)
            })?;
            return Self::from_file(file);
        }
        let bytes = read(path)?;
        if !is_json(&bytes) {
            return Self::parse(&bytes).map_err(|e| e.in_file(path));
        }
        if json::is_vocabulary(&bytes) {
            return Self::from_vocabulary(path, &bytes);
        }
        let refused = match json::parse(&bytes) {
            Ok(model) => return Ok(Self::byte_level(model)),
            Err(refused) => refused,
        };
        // One that SentencePiece made is described twice, and its own file is read here.
        let is_own = |model: &Self| json::lists_the_pieces(&bytes, |id| model.piece(id));
        if refused.kind() == ErrorKind::Unsupported
            && let Ok(beside) = read(&path.with_file_name("tokenizer.model"))
            && let Ok(model) = Self::parse(&beside)
            && is_own(&model)
        {
            return Ok(model);
        }
        parse_refused(&bytes, refused).map_err(|e| e.in_file(path))
    }

    /// The tokenizer file that [`Tokenizer::from_file`] reads in a directory, if there is one.
    pub fn find_in(directory: impl AsRef<Path>) -> Option<PathBuf> {
        let directory = directory.as_ref();
        FILE_NAMES.map(|name| directory.join(name)).into_iter().find(|file| file.is_file())
    }

    /// A `vocab.json` and what lies beside it. The splitting rule is the one that leaves the
    /// vocabulary's pieces whole.
    fn from_vocabulary(path: &Path, vocab: &[u8]) -> Result<Self> {
        let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let beside = name.replace("vocab.json", "merges.txt");
        let merges = path.with_file_name(&beside);
        if beside == name || !merges.is_file() {
            return Err(Error::new(
                ErrorKind::WrongFormat,
                format!("a vocabulary needs its merges beside it, as {}", merges.display()),
            )
            .in_file(path));
        }
        let config = path.with_file_name("tokenizer_config.json");
        let added = match config.is_file() {
            true => json::added_tokens(&read(&config)?).map_err(|e| e.in_file(&config))?,
            false => Vec::new(),
        };
        let rows = gpt2_files::parse_vocab(vocab, &added).map_err(|e| e.in_file(path))?;
        let rules = Rules::of(gpt2_files::splitter_of(&rows));
        gpt2_files::assemble(rows, &read(&merges)?, rules)
            .map(Self::byte_level)
            .map_err(|e| e.in_file(&merges))
    }

    /// Reads the bytes of a tokenizer file.
    ///
    /// # Errors
    /// When the file is cut, values in it contradict each other, or it asks for something that is
    /// not done here; with the offset of the entry or the name of the key.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if is_json(bytes) {
            return match json::parse(bytes) {
                Ok(model) => Ok(Self::byte_level(model)),
                Err(refused) => parse_refused(bytes, refused),
            };
        }
        // Both begin with a number: a llama2.c file with a short piece's length in four bytes, a
        // SentencePiece model with the tag of its first piece.
        if bytes.first() == Some(&0x0a) && bytes.get(2).is_some_and(|&byte| byte != 0) {
            return SentencePiece::parse(bytes).map(Self::sentencepiece);
        }
        Llama2c::parse(bytes).map(Model::Llama2c).map(Self)
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
        let rows = gpt2_files::parse_vocab(&read(vocab)?, &[]).map_err(|e| e.in_file(vocab))?;
        gpt2_files::assemble(rows, &read(merges)?, Rules::of(splitter))
            .map(Self::byte_level)
            .map_err(|e| e.in_file(merges))
    }

    /// As [`Tokenizer::from_gpt2_files`], from the bytes of both files.
    ///
    /// # Errors
    /// When one of the files is malformed, a byte has no piece, or a merge joins or makes pieces
    /// that are not in the vocabulary.
    pub fn parse_gpt2_files(vocab: &[u8], merges: &[u8], splitter: Splitter) -> Result<Self> {
        let rows = gpt2_files::parse_vocab(vocab, &[])?;
        gpt2_files::assemble(rows, merges, Rules::of(splitter)).map(Self::byte_level)
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
        train::train(documents, vocab_size, Splitter::Gpt2).map(Self::byte_level)
    }

    /// The ids of `text`, without BOS or EOS. Names of special tokens are text.
    ///
    /// # Panics
    /// When the text has more than about 4 thousand million characters.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        match &self.0 {
            Model::Llama2c(model) => model.encode(text),
            Model::ByteLevel(model) => model.encode(text, false),
            Model::SentencePiece(model) => model.encode(text, false),
            #[cfg(feature = "tokenizers")]
            Model::HuggingFace(model) => model.encode(text, false),
        }
    }

    /// As [`Tokenizer::encode`], but names of special tokens, such as `<|im_start|>`, become those
    /// tokens: for text that a chat template made, never for what a stranger typed. A llama2.c
    /// tokenizer has no names for its own.
    ///
    /// # Panics
    /// As [`Tokenizer::encode`].
    pub fn encode_with_special(&self, text: &str) -> Vec<u32> {
        match &self.0 {
            Model::Llama2c(model) => model.encode(text),
            Model::ByteLevel(model) => model.encode(text, true),
            Model::SentencePiece(model) => model.encode(text, true),
            #[cfg(feature = "tokenizers")]
            Model::HuggingFace(model) => model.encode(text, true),
        }
    }

    /// The bytes that `ids` stand for; not UTF-8 where ids cut a character in two.
    ///
    /// BOS, EOS and other special tokens give nothing. In a llama2.c tokenizer the space that
    /// starts every text is dropped after BOS, so start with [`Tokenizer::bos`] to get a text back
    /// as it was; SentencePiece's own are dropped at the beginning. An id outside the vocabulary
    /// gives U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> Vec<u8> {
        #[cfg(feature = "tokenizers")]
        if let Model::HuggingFace(model) = &self.0 {
            return model.decode(ids).into_bytes();
        }
        let mut out = Vec::new();
        let mut place = Place::default();
        for &id in ids {
            self.append_bytes(&mut place, id, &mut out);
        }
        out
    }

    /// The text of [`Tokenizer::decode`]; what is not UTF-8 is replaced as in [`DecodeStream`].
    pub fn decode_text(&self, ids: &[u32]) -> String {
        let mut stream = self.decode_stream();
        let text = stream.text_of(&self.decode(ids));
        text + &stream.finish()
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
            Model::SentencePiece(model) => model.vocab_size(),
            #[cfg(feature = "tokenizers")]
            Model::HuggingFace(model) => model.vocab_size(),
        }
    }

    /// The id that starts a document, where there is one. A tokenizer with GPT-2's rule has one
    /// separator that is both this and [`Tokenizer::eos`].
    pub fn bos(&self) -> Option<u32> {
        match &self.0 {
            Model::Llama2c(model) => Some(model.bos()),
            Model::ByteLevel(model) => model.bos(),
            Model::SentencePiece(model) => model.bos(),
            #[cfg(feature = "tokenizers")]
            Model::HuggingFace(model) => model.bos(),
        }
    }

    /// The id that a model reads before a prompt: BOS where the tokenizer's file says so or its
    /// kind always does. GPT-2's separator is none, although it begins documents: GPT-2 continues
    /// a prompt as it is.
    pub fn prompt_start(&self) -> Option<u32> {
        match &self.0 {
            Model::ByteLevel(model) => model.begins_with(),
            Model::Llama2c(_) | Model::SentencePiece(_) => self.bos(),
            #[cfg(feature = "tokenizers")]
            Model::HuggingFace(model) => model.begins_with(),
        }
    }

    /// The id that ends a document, where there is one.
    pub fn eos(&self) -> Option<u32> {
        match &self.0 {
            Model::Llama2c(model) => Some(model.eos()),
            Model::ByteLevel(model) => model.eos(),
            Model::SentencePiece(model) => model.eos(),
            #[cfg(feature = "tokenizers")]
            Model::HuggingFace(model) => model.eos(),
        }
    }

    /// The id of the special token called `name`, such as `<|im_end|>`.
    pub fn special_token(&self, name: &str) -> Option<u32> {
        match &self.0 {
            Model::Llama2c(_) => None,
            Model::ByteLevel(model) => model.special_token(name),
            Model::SentencePiece(model) => model.special_token(name),
            #[cfg(feature = "tokenizers")]
            Model::HuggingFace(model) => model.special_token(name),
        }
    }

    /// Every id that ends a text when a model gives it: BOS, EOS, and the ends of turns that chat
    /// models have.
    pub fn end_ids(&self) -> Vec<u32> {
        const ENDS: [&str; 6] = [
            "<|im_end|>",
            "<|endoftext|>",
            "<|eot_id|>",
            "<|end_of_text|>",
            "<|end|>",
            "<end_of_turn>",
        ];
        let named = ENDS.into_iter().filter_map(|name| self.special_token(name));
        let mut ids: Vec<u32> = self.bos().into_iter().chain(self.eos()).chain(named).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The piece called `id` as the vocabulary has it: bytes of text, or the name of a special
    /// token; a byte of llama2.c and SentencePiece is spelled `<0x0A>`, a space of SentencePiece
    /// U+2581.
    pub fn piece(&self, id: u32) -> Option<&[u8]> {
        match &self.0 {
            Model::Llama2c(model) => model.piece(id),
            Model::ByteLevel(model) => model.piece(id),
            Model::SentencePiece(model) => model.piece(id),
            #[cfg(feature = "tokenizers")]
            Model::HuggingFace(model) => model.piece(id),
        }
    }

    /// The name a file with [`Tokenizer::to_bytes`] should have: `tokenizer.bin`,
    /// `tokenizer.json` or `tokenizer.model`.
    pub fn file_name(&self) -> &'static str {
        match &self.0 {
            Model::Llama2c(_) => "tokenizer.bin",
            Model::ByteLevel(_) => "tokenizer.json",
            Model::SentencePiece(_) => "tokenizer.model",
            #[cfg(feature = "tokenizers")]
            Model::HuggingFace(_) => "tokenizer.json",
        }
    }

    /// A file that [`Tokenizer::parse`] reads as this tokenizer: llama2.c's layout,
    /// Hugging Face's or SentencePiece's, whichever this tokenizer is of. The same tokenizer gives
    /// the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.0 {
            Model::Llama2c(model) => model.to_bytes(),
            Model::ByteLevel(model) => json::write(model),
            Model::SentencePiece(model) => model.to_bytes(),
            #[cfg(feature = "tokenizers")]
            Model::HuggingFace(model) => model.file().to_vec(),
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

    fn byte_level(model: ByteLevel) -> Self {
        Self(Model::ByteLevel(Box::new(model)))
    }

    fn sentencepiece(model: SentencePiece) -> Self {
        Self(Model::SentencePiece(Box::new(model)))
    }

    /// How many U+FFFD stand for so many bytes that are the beginning of a character.
    fn replacements(&self, bytes: usize) -> usize {
        if matches!(self.0, Model::SentencePiece(_)) { bytes } else { 1 }
    }

    /// Adds the text that waits for ids that do not come.
    #[cfg(feature = "tokenizers")]
    fn append_waiting(&self, place: &Place, out: &mut Vec<u8>) {
        if let Model::HuggingFace(model) = &self.0 {
            model.finish(&place.window, out);
        }
    }

    /// In the readers of this crate nothing waits but bytes, which the stream has.
    #[cfg(not(feature = "tokenizers"))]
    fn append_waiting(&self, _: &Place, _: &mut Vec<u8>) {}

    fn append_bytes(&self, place: &mut Place, id: u32, out: &mut Vec<u8>) {
        let previous = place.previous.replace(id);
        if id as usize >= self.vocab_size() {
            out.extend_from_slice("\u{fffd}".as_bytes());
            place.begun = true;
            return;
        }
        match &self.0 {
            Model::Llama2c(model) => model.append_bytes(previous, id, out),
            Model::ByteLevel(model) => model.append_bytes(id, out),
            Model::SentencePiece(model) => model.append_bytes(id, &mut place.begun, out),
            #[cfg(feature = "tokenizers")]
            Model::HuggingFace(model) => model.append_text(&mut place.window, id, out),
        }
    }
}

/// How far the decoding of a text is.
#[derive(Debug, Clone, Default)]
struct Place {
    previous: Option<u32>,
    /// Whether there was text before.
    begun: bool,
    #[cfg(feature = "tokenizers")]
    window: hugging_face::Window,
}

/// A `tokenizer.json` that this crate's reader does not know all of.
#[cfg_attr(not(feature = "tokenizers"), expect(unused_variables, reason = "nobody else reads it"))]
fn parse_refused(bytes: &[u8], refused: Error) -> Result<Tokenizer> {
    if refused.kind() != ErrorKind::Unsupported {
        return Err(refused);
    }
    #[cfg(feature = "tokenizers")]
    return HuggingFace::parse(bytes).map(Model::HuggingFace).map(Tokenizer).map_err(|e| {
        let what = format!("{refused}; and Hugging Face's library says: {e}");
        Error::new(e.kind(), what)
    });
    #[cfg(not(feature = "tokenizers"))]
    Err(refused.hint(
        "a program that was built with --features tokenizers reads this file through Hugging \
         Face's library; a tokenizer.model or a GGUF file of the same model is read as it is",
    ))
}

/// Tokenizer files in a directory, the ones that say the most first.
const FILE_NAMES: [&str; 4] = ["tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer.bin"];

/// A llama2.c file may start with `{` (longest piece 123 bytes), but then zeros follow.
fn is_json(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().first() == Some(&b'{') && bytes.get(1) != Some(&0)
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
