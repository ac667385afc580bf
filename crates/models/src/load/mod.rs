//! From files to a network with its parameters.

mod gguf;
mod golf_artifact;
mod hugging_face;
mod llama2c;
mod llmc;
mod peft;

pub use gguf::{FREQUENCY_DIVISORS, gguf_name, interleaved_heads};
pub use llama2c::{hugging_face_name, meta_name};

use crate::storage::Kept;
use crate::{Network, ParameterSpec, QuantizedMatrix, WeightIndex, WeightStorage};
use orion_formats::{Gguf, MappedFile};
use orion_tensor::{Bytes, DType, Tensor};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A network with its parameters, by their Hugging Face names.
#[derive(Debug, Clone)]
pub struct LoadedModel {
    /// Family and sizes.
    pub network: Network,
    /// Parameters; storage is shared with the file where the format allows it.
    pub parameters: BTreeMap<String, Tensor>,
    /// Matrices that are not among the parameters because they are kept in int8: only models
    /// of [`load_for_inference`] have any.
    pub quantized: BTreeMap<String, QuantizedMatrix>,
    /// The ids that end a text, as far as the model's files say.
    pub end_ids: Vec<u32>,
    /// How the matrices are to be kept in programs, where that is not how they are kept here.
    pub storage: WeightStorage,
}

impl LoadedModel {
    /// A network with its parameters, and nothing beside them.
    pub fn new(network: Network, parameters: BTreeMap<String, Tensor>) -> Self {
        let (end_ids, storage) = (Vec::new(), WeightStorage::AsGiven);
        let quantized = BTreeMap::new();
        Self { network, parameters, quantized, end_ids, storage }
    }

    /// The constants of programs for sequences of up to `positions` tokens: the parameters, kept
    /// as the model says, and tables.
    pub fn index(&self, positions: usize) -> WeightIndex {
        self.index_with(positions, self.storage)
    }

    /// [`LoadedModel::index`] with the matrices of blocks kept in another way than the others.
    pub fn index_with(&self, positions: usize, blocks: WeightStorage) -> WeightIndex {
        let mut index = WeightIndex::new();
        for ParameterSpec { name, decays, .. } in self.network.parameters() {
            // Blocks are numbered, in the names of every family.
            let in_block = name.split('.').any(|part| part.parse::<usize>().is_ok());
            let storage = if in_block { blocks } else { self.storage };
            if let Some(tensor) = self.parameters.get(&name) {
                index.insert_parameter(&name, tensor, decays, storage);
            } else if let Some(matrix) = self.quantized.get(&name) {
                index.insert_quantized(&name, matrix, storage);
            }
        }
        self.network.add_tables(&mut index, positions);
        index
    }
}

/// Why a path gave no model.
#[derive(Debug)]
pub struct LoadError {
    path: PathBuf,
    message: String,
    hint: Option<String>,
}

impl LoadError {
    fn new(path: &Path, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), message: message.into(), hint: None }
    }

    fn of(path: &Path, error: &orion_formats::Error) -> Self {
        let hint = error.way_out().map(str::to_owned);
        Self { hint, ..Self::new(path, error.to_string()) }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The file or directory that is meant.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What to do about it.
    pub fn way_out(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Errors of `formats` name their file themselves.
        if self.message.starts_with(&*self.path.to_string_lossy()) {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path.display(), self.message)
        }
    }
}

impl std::error::Error for LoadError {}

/// A model of which everything is known but the weights, so that what does not fit it is found
/// before those are read, which takes longest.
pub struct ModelFile {
    /// Family and sizes, which are valid.
    pub network: Network,
    /// The tokenizer that lies beside the weights or inside their file, if one does.
    pub tokenizer: Option<PathBuf>,
    /// The ids that end a text, as far as the model's files say.
    pub end_ids: Vec<u32>,
    path: PathBuf,
    weights: WeightFile,
}

/// Where weights are.
enum WeightFile {
    /// In safetensors of a directory.
    Directory(PathBuf),
    /// In a file that is mapped.
    Gguf(Gguf, MappedFile),
    /// In a file that can only be checked as a whole.
    Checked(BTreeMap<String, Tensor>),
}

impl ModelFile {
    /// Opens a model: a GGUF file, a `.bin` of llama2.c or llm.c, an artifact of Parameter Golf's
    /// baseline, a directory as Hugging Face's libraries write it, with `config.json` and one or
    /// several `.safetensors`, or a run directory (its newest complete checkpoint). What it is, its
    /// contents say.
    ///
    /// # Errors
    /// When the path is none of these, its sizes are no network's, or the file that says them is
    /// damaged.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        if path.is_dir() {
            return hugging_face::open(path);
        }
        if !path.exists() {
            return Err(LoadError::new(path, "there is no such file or directory"));
        }
        let mut start = Vec::new();
        let read = File::open(path).and_then(|file| file.take(1024).read_to_end(&mut start));
        read.map_err(|e| LoadError::new(path, e.to_string()))?;
        if start.starts_with(&orion_formats::gguf::MAGIC) {
            return gguf::open(path);
        }
        if orion_formats::llmc::is_llmc(&start) {
            return llmc::open(path);
        }
        if orion_formats::golf_artifact::is_golf_artifact(&start) {
            return Self::open_golf_artifact(path, None);
        }
        if let Some(found) = other_kind(&start) {
            return Err(LoadError::new(path, format!("this is {found}, no model")).hint(MODELS));
        }
        llama2c::open(path)
    }

    /// Reads the weights.
    ///
    /// # Errors
    /// When a file is damaged, or parameters are missing, left over, of another shape, or not
    /// finite.
    pub fn load(self) -> Result<LoadedModel, LoadError> {
        self.load_as(false, WeightStorage::AsGiven)
    }

    /// Reads the weights of a model that is to be run and nothing else. Its matrices are brought
    /// into the form that `storage` says while they are read, one after another; those that the
    /// file has in int8 or in fewer bits are int8 unless that asks for floating-point numbers.
    ///
    /// # Errors
    /// As [`ModelFile::load`].
    pub fn load_for_inference(self, storage: WeightStorage) -> Result<LoadedModel, LoadError> {
        self.load_as(true, storage)
    }

    fn load_as(self, keep_int8: bool, storage: WeightStorage) -> Result<LoadedModel, LoadError> {
        let Self { network, end_ids, path, weights, .. } = self;
        let model = match weights {
            WeightFile::Directory(weights) => hugging_face::load(&weights, network, storage)?,
            WeightFile::Gguf(file, map) => {
                let reading = Reading::new(&path, network, storage);
                gguf::load(&file, &map, reading, keep_int8)?
            }
            WeightFile::Checked(tensors) => {
                let mut reading = Reading::new(&path, network, storage);
                for (name, tensor) in tensors {
                    reading.take(name, tensor)?;
                }
                reading.finish()?
            }
        };
        Ok(LoadedModel { end_ids, ..model })
    }

    fn new(path: &Path, network: Network, weights: WeightFile) -> Result<Self, LoadError> {
        network.validate().map_err(|e| LoadError::new(path, e.to_string()))?;
        let (tokenizer, end_ids) = (None, Vec::new());
        Ok(Self { network, tokenizer, end_ids, path: path.to_owned(), weights })
    }

    /// With the tokenizer that is the first of these files to exist.
    fn with_tokenizer(self, files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { tokenizer: files.into_iter().find(|file| file.exists()), ..self }
    }
}

/// Opens a model and reads its weights: [`ModelFile::open`] and [`ModelFile::load`].
///
/// # Errors
/// Those of both.
pub fn load(path: &Path) -> Result<LoadedModel, LoadError> {
    ModelFile::open(path)?.load()
}

/// The same for a model that is to be run and nothing else: see
/// [`ModelFile::load_for_inference`].
///
/// # Errors
/// As [`load`].
pub fn load_for_inference(path: &Path, storage: WeightStorage) -> Result<LoadedModel, LoadError> {
    ModelFile::open(path)?.load_for_inference(storage)
}

/// What a model can be, for people whose path is none.
const MODELS: &str = "a model is a .gguf file, a .bin file of llama2.c or llm.c, a Hugging Face directory \
                      with config.json and safetensors, a Parameter Golf artifact, or a run or checkpoint directory";

/// What a file is that people may take for a model, by its first bytes.
fn other_kind(start: &[u8]) -> Option<&'static str> {
    let word = |at: usize| {
        let bytes = start.get(4 * at..4 * at + 4)?;
        Some(i32::from_le_bytes(bytes.try_into().ok()?))
    };
    match word(0)? {
        20240520 | 20240801 => return Some("a file of tokens"),
        20240328 => return Some("a tokenizer of llm.c"),
        _ => {}
    }
    // Eight bytes of length, then the header.
    if start.get(8) == Some(&b'{') {
        return Some("a single safetensors file, whose directory has the config.json it needs");
    }
    match start.trim_ascii_start().first()? {
        b'{' => Some("a JSON file"),
        _ if start.starts_with(b"program(") => Some("a MIL program"),
        _ if !start.contains(&0) && std::str::from_utf8(start).is_ok() => Some("a text file"),
        _ => None,
    }
}

/// The parameters of a network while they are read. Each is brought into the form in which it is
/// kept before the next one comes, so that a model never lies in memory in two forms.
struct Reading<'a> {
    path: &'a Path,
    network: Network,
    storage: WeightStorage,
    missing: BTreeMap<String, ParameterSpec>,
    parameters: BTreeMap<String, Tensor>,
    quantized: BTreeMap<String, QuantizedMatrix>,
}

impl<'a> Reading<'a> {
    fn new(path: &'a Path, network: Network, storage: WeightStorage) -> Self {
        let missing = network.parameters().into_iter().map(|spec| (spec.name.clone(), spec));
        let (parameters, quantized) = (BTreeMap::new(), BTreeMap::new());
        Self { path, missing: missing.collect(), network, storage, parameters, quantized }
    }

    fn take(&mut self, name: String, tensor: Tensor) -> Result<(), LoadError> {
        let spec = self.spec(&name)?;
        let tensor = without_padding(tensor, &self.network, &spec.shape);
        self.check_shape(&spec, tensor.shape())?;
        if !matches!(tensor.dtype(), DType::F32 | DType::F16 | DType::BF16) {
            return Err(LoadError::new(
                self.path,
                format!("{name} has element type {}; fp32, fp16 and bf16 are read", tensor.dtype()),
            )
            .hint("write it again in one of these, as with save_pretrained of transformers"));
        }
        match self.storage.keep(&tensor, spec.decays) {
            Kept::Plain(tensor) => drop(self.parameters.insert(name, tensor)),
            Kept::Int8(matrix) => drop(self.quantized.insert(name, matrix)),
        }
        Ok(())
    }

    fn take_quantized(&mut self, name: String, matrix: QuantizedMatrix) -> Result<(), LoadError> {
        let spec = self.spec(&name)?;
        self.check_shape(&spec, matrix.data.shape())?;
        self.quantized.insert(name, matrix);
        Ok(())
    }

    /// Whether the parameter lies where the file does, and was not copied.
    fn shares(&self, name: &str, bytes: &Bytes) -> bool {
        self.parameters.get(name).is_some_and(|t| t.bytes().as_ptr() == bytes.as_ptr())
    }

    fn finish(self) -> Result<LoadedModel, LoadError> {
        if let Some(name) = self.missing.keys().next() {
            return Err(LoadError::new(self.path, format!("the tensor {name} is missing"))
                .hint("the file holds another network's weights, or not all of them"));
        }
        let quantized = self.quantized;
        Ok(LoadedModel { quantized, ..LoadedModel::new(self.network, self.parameters) })
    }

    fn spec(&mut self, name: &str) -> Result<ParameterSpec, LoadError> {
        self.missing.remove(name).ok_or_else(|| {
            LoadError::new(
                self.path,
                format!("the tensor {name} is not part of a network of these sizes"),
            )
            .hint(
                "leaving it out would give other results than the model's; is config.json its own?",
            )
        })
    }

    fn check_shape(&self, spec: &ParameterSpec, found: &[usize]) -> Result<(), LoadError> {
        let ParameterSpec { name, shape, .. } = spec;
        if found == shape {
            return Ok(());
        }
        let what = format!("{name} has shape {found:?}, the sizes ask for {shape:?}");
        Err(LoadError::new(self.path, what)
            .hint("the sizes, those of config.json for a directory, are of another model"))
    }
}

/// Some writers pad a vocabulary to a round number of rows; those behind the last token are left
/// out.
fn without_padding(tensor: Tensor, network: &Network, shape: &[usize]) -> Tensor {
    let (&[rows, columns], &[vocab, width]) = (tensor.shape(), shape) else { return tensor };
    if vocab != network.vocab_size() || columns != width || rows <= vocab {
        return tensor;
    }
    let bytes = tensor.bytes().slice(0..vocab * columns * tensor.dtype().size_bytes());
    let bytes = bytes.expect("the first rows are inside the tensor");
    Tensor::new(tensor.dtype(), shape.to_vec(), bytes).expect("whole rows")
}
