//! Models written in the formats of others.

use crate::gguf_metadata::metadata;
use crate::programs::step_program;
use crate::{Error, ErrorKind, LoadedModel, Result};
use orion_compile::for_core_ml;
use orion_formats::gguf::{self, TensorKind, Value};
use orion_formats::{ConfigFile, llama2c, llmc, rope_half_to_interleaved, safetensors};
use orion_mil::bundle::Bundle;
use orion_mil::package::save_mlpackage;
use orion_models::{
    FREQUENCY_DIVISORS, LlamaConfig, Network, Qwen2Config, Qwen3Config, RopeScaling, StepShape,
    gguf_name, interleaved_heads, meta_name,
};
use orion_tensor::{DType, Tensor};
use orion_tokenizer::Tokenizer;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// A directory as Hugging Face's libraries read it.
    SafeTensors,
    /// A GGUF file.
    Gguf,
    /// A llama2.c file of version 0.
    Llama2c,
    /// A model file of llm.c.
    Llmc,
    /// A Core ML package of the program that takes one token at a time.
    MlPackage {
        /// Length of its key/value caches.
        context: usize,
    },
}

/// How numbers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// fp32, fp16 or bf16.
    Float(DType),
    /// Matrices in blocks of 32 int8 with a scale; GGUF only.
    Q8_0,
}

/// What is written with a model, where the format has a place for it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Companions<'a> {
    /// Its tokenizer.
    pub tokenizer: Option<&'a Tokenizer>,
    /// The source of its chat template.
    pub template: Option<&'a str>,
}

/// Writes a model to `path`, which must not exist. `numbers` is how they are kept, as they are in
/// the model when absent. `progress` gets the number of bytes written so far. Gives what was left
/// out because the format has no place for it, in words.
///
/// # Errors
/// When something is there already, the format cannot express the model, naming what, or writing
/// fails. What was written until then is removed.
pub fn convert(
    model: &LoadedModel,
    companions: Companions<'_>,
    target: Target,
    numbers: Option<Numbers>,
    path: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<String>> {
    if path.exists() {
        return Err(Error::new(ErrorKind::File, "is there already").at(path));
    }
    let written = match target {
        Target::SafeTensors => write_safetensors(model, companions, numbers, path, progress),
        Target::Gguf => write_gguf(model, companions, numbers, path, progress),
        Target::Llama2c => write_llama2c(model, companions, numbers, path, progress),
        Target::Llmc => write_llmc(model, numbers, path, progress).map(|()| Vec::new()),
        Target::MlPackage { context } => {
            write_package(model, numbers, context, path).map(|()| Vec::new())
        }
    };
    if written.is_err() {
        // The first error says more than one about the rest of a file.
        let _ =
            if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
    let mut left_out = written?;
    let takes_template = matches!(target, Target::SafeTensors | Target::Gguf);
    if companions.template.is_some() && !takes_template {
        left_out.push("the chat template: this format has no place for one".to_owned());
    }
    if companions.tokenizer.is_some() && matches!(target, Target::Llmc | Target::MlPackage { .. }) {
        left_out.push("the tokenizer: this format has no place for one".to_owned());
    }
    Ok(left_out)
}

/// Bytes of the parameters as they are, to measure progress by.
pub fn model_bytes(model: &LoadedModel) -> u64 {
    model.parameters.values().map(|tensor| tensor.bytes().len() as u64).sum()
}

/// A file that says how much was written.
struct Counted<'a> {
    file: BufWriter<File>,
    bytes: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl<'a> Counted<'a> {
    fn create(path: &Path, progress: &'a mut dyn FnMut(u64)) -> Result<Self> {
        let file = File::create_new(path).map_err(|e| Error::io(path, e))?;
        Ok(Self { file: BufWriter::new(file), bytes: 0, progress })
    }

    fn finish(mut self, path: &Path) -> Result<()> {
        let flushed = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        flushed.map_err(|e| Error::io(path, e))
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Pieces, so that a large tensor moves the bar too.
        let count = self.file.write(&bytes[..bytes.len().min(1 << 20)])?;
        self.bytes += count as u64;
        (self.progress)(self.bytes);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

fn refuse(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Mismatch, what)
}

fn float(numbers: Option<Numbers>, format: &str) -> Result<Option<DType>> {
    match numbers {
        None => Ok(None),
        Some(Numbers::Float(dtype)) => Ok(Some(dtype)),
        Some(Numbers::Q8_0) => Err(refuse(format!("{format} has no Q8_0 numbers"))
            .hint("f32, f16 and bf16 can be written; GGUF has q8_0 too")),
    }
}

/// The parameters in one element type; shared where they have it.
fn parameters(model: &LoadedModel, dtype: Option<DType>) -> Result<BTreeMap<String, Tensor>> {
    let convert = |(name, tensor): (&String, &Tensor)| {
        let Some(dtype) = dtype.filter(|&dtype| dtype != tensor.dtype()) else {
            return Ok((name.clone(), tensor.clone()));
        };
        let converted = Tensor::from_f64(dtype, tensor.shape(), &tensor.to_f64_vec());
        orion_formats::check_finite(name, &converted).map_err(|_| {
            refuse(format!("{name} has a number that is too large for {dtype}"))
                .hint("bf16 has the range of fp32")
        })?;
        Ok((name.clone(), converted))
    };
    model.parameters.iter().map(convert).collect()
}

fn write_safetensors(
    model: &LoadedModel,
    companions: Companions<'_>,
    numbers: Option<Numbers>,
    path: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<String>> {
    let tokenizer = companions.tokenizer;
    let mut tensors = parameters(model, float(numbers, "safetensors")?)?;
    let mut widest = DType::BF16;
    for (name, tensor) in &mut tensors {
        if let Some(turned) = model.network.turned_for_files(name, tensor) {
            *tensor = turned;
        }
        let is_wider = tensor.dtype() == DType::F32 || widest == DType::BF16;
        widest = if is_wider { tensor.dtype() } else { widest };
    }
    let mut config = model.network.config_file();
    let name = match widest {
        DType::F16 => "float16",
        DType::BF16 => "bfloat16",
        _ => "float32",
    };
    let bos = tokenizer.and_then(Tokenizer::bos);
    let eos = match &model.end_ids[..] {
        [] => tokenizer.and_then(Tokenizer::eos).into_iter().collect(),
        ids => ids.to_vec(),
    };
    match &mut config {
        ConfigFile::Llama(c) | ConfigFile::Qwen2(c) | ConfigFile::Qwen3(c) => {
            c.dtype = Some(name.to_owned());
            c.bos_token_id = bos;
            c.eos_token_ids = eos;
        }
        ConfigFile::Gpt2(c) => {
            c.bos_token_id = bos;
            c.eos_token_ids = eos;
        }
        ConfigFile::GolfBaseline(_) | ConfigFile::GolfWide(_) => {}
    }
    std::fs::create_dir(path).map_err(|e| Error::io(path, e))?;
    let file = path.join("config.json");
    let json = config.to_json()?;
    std::fs::write(&file, json).map_err(|e| Error::io(&file, e))?;
    if let Some(tokenizer) = tokenizer {
        tokenizer.save_in(path).map_err(|e| Error::new(ErrorKind::File, e.to_string()))?;
        write_tokenizer_config(model, tokenizer, path)?;
    }
    if let Some(template) = companions.template {
        let file = path.join("chat_template.jinja");
        std::fs::write(&file, template).map_err(|e| Error::io(&file, e))?;
    }
    let file = path.join("model.safetensors");
    let mut out = Counted::create(&file, progress)?;
    // Readers of transformers want to know that the tensors are PyTorch's.
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let rows = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    safetensors::write(&mut out, rows, &metadata)?;
    out.finish(&file)?;
    Ok(Vec::new())
}

/// What transformers wants to know of a `tokenizer.json`.
fn write_tokenizer_config(model: &LoadedModel, tokenizer: &Tokenizer, path: &Path) -> Result<()> {
    if tokenizer.file_name() != "tokenizer.json" {
        return Ok(());
    }
    let name = |id: Option<u32>| {
        let piece = id.and_then(|id| tokenizer.piece(id));
        piece.map(|piece| String::from_utf8_lossy(piece).into_owned())
    };
    let config = serde_json::json!({
        "bos_token": name(tokenizer.bos()),
        "clean_up_tokenization_spaces": false,
        "eos_token": name(tokenizer.eos()),
        "model_max_length": model.network.max_positions(),
        "tokenizer_class": "PreTrainedTokenizerFast",
    });
    let file = path.join("tokenizer_config.json");
    std::fs::write(&file, format!("{config:#}\n")).map_err(|e| Error::io(&file, e))
}

fn write_gguf(
    model: &LoadedModel,
    companions: Companions<'_>,
    numbers: Option<Numbers>,
    path: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<String>> {
    let network = &model.network;
    let mut keys = network_keys(network)?;
    let file_type = match numbers {
        Some(Numbers::Float(DType::F16)) => 1,
        Some(Numbers::Float(DType::BF16)) => 32,
        Some(Numbers::Q8_0) => 7,
        _ => 0,
    };
    keys.push(("general.file_type".into(), Value::U32(file_type)));
    keys.push(("general.quantization_version".into(), Value::U32(2)));
    if let Some(tokenizer) = companions.tokenizer {
        keys.extend(metadata(tokenizer, network.vocab_size())?);
        // The end of a turn, where that is another id than the end of a text.
        let end_of_turn = model.end_ids.iter().find(|&&id| Some(id) != tokenizer.eos());
        if let Some(&id) = end_of_turn {
            keys.push(("tokenizer.ggml.eot_token_id".into(), Value::U32(id)));
        }
    }
    if let Some(template) = companions.template {
        keys.push(("tokenizer.chat_template".into(), Value::Text(template.to_owned())));
    }
    let mut entries: Vec<gguf::Entry> = divisors_entry(network).into_iter().collect();
    for spec in network.parameters() {
        let mut tensor = model.parameters[&spec.name].clone();
        if let Some(heads) = interleaved_heads(network, &spec.name) {
            tensor = rope_half_to_interleaved(&tensor, heads)?;
        }
        let name = gguf_name(network, &spec.name)
            .ok_or_else(|| refuse(format!("GGUF has no name for the tensor {}", spec.name)))?;
        let kind = match numbers {
            // Vectors stay fp32, as llama.cpp wants them.
            _ if tensor.shape().len() < 2 => TensorKind::F32,
            Some(Numbers::Q8_0) if tensor.shape()[1].is_multiple_of(32) => TensorKind::Q8_0,
            Some(Numbers::Q8_0) => TensorKind::F16,
            Some(Numbers::Float(dtype)) => kind_of(dtype),
            None => kind_of(tensor.dtype()),
        };
        entries.push(gguf::Entry { name, tensor, kind });
    }
    let mut out = Counted::create(path, progress)?;
    gguf::write(&mut out, &keys, &entries)?;
    out.finish(path)?;
    Ok(Vec::new())
}

fn kind_of(dtype: DType) -> TensorKind {
    match dtype {
        DType::F16 => TensorKind::F16,
        DType::BF16 => TensorKind::BF16,
        _ => TensorKind::F32,
    }
}

fn network_keys(network: &Network) -> Result<Vec<(String, Value)>> {
    let mut scaling = Vec::new();
    let (architecture, sizes, numbers) = match network {
        Network::Llama(c) | Network::Qwen2(Qwen2Config(c)) | Network::Qwen3(Qwen3Config(c)) => {
            let is_llama = matches!(network, Network::Llama(_));
            let name = match network {
                Network::Llama(_) => "llama",
                Network::Qwen2(_) => "qwen2",
                _ if c.attention_bias => {
                    return Err(refuse("GGUF has no place for biases of a Qwen3's attention"));
                }
                _ => "qwen3",
            };
            scaling = scaling_keys(c, is_llama)?;
            let mut sizes = vec![
                ("vocab_size", c.vocab_size),
                ("context_length", c.max_positions),
                ("embedding_length", c.hidden_size),
                ("block_count", c.n_layers),
                ("feed_forward_length", c.intermediate_size),
                ("attention.head_count", c.n_heads),
                ("attention.head_count_kv", c.n_kv_heads),
                ("attention.key_length", c.head_dim),
                ("attention.value_length", c.head_dim),
            ];
            if is_llama {
                sizes.push(("rope.dimension_count", c.head_dim));
            }
            let numbers = vec![
                ("attention.layer_norm_rms_epsilon", c.norm_epsilon),
                ("rope.freq_base", c.rope_theta),
            ];
            (name, sizes, numbers)
        }
        Network::Gpt2(c) => {
            let sizes = vec![
                ("context_length", c.max_positions),
                ("embedding_length", c.hidden_size),
                ("block_count", c.n_layers),
                ("feed_forward_length", c.intermediate_size),
                ("attention.head_count", c.n_heads),
            ];
            ("gpt2", sizes, vec![("attention.layer_norm_epsilon", c.norm_epsilon)])
        }
        _ => {
            return Err(refuse("GGUF knows no network of this family").hint(
                "Llama, Qwen2, Qwen3 and GPT-2 can be written; safetensors takes every network",
            ));
        }
    };
    let mut keys = vec![
        ("general.architecture".to_owned(), Value::Text(architecture.into())),
        ("general.type".to_owned(), Value::Text("model".into())),
    ];
    for (name, size) in sizes {
        let size = u32::try_from(size).map_err(|_| refuse(format!("{name} is {size}")))?;
        keys.push((format!("{architecture}.{name}"), Value::U32(size)));
    }
    let numbers = numbers.into_iter().map(|(name, number)| (name, Value::F32(number as f32)));
    for (name, value) in numbers.chain(scaling) {
        keys.push((format!("{architecture}.{name}"), value));
    }
    Ok(keys)
}

/// What is done to the frequencies of rotary positions, where keys say it.
fn scaling_keys(config: &LlamaConfig, is_llama: bool) -> Result<Vec<(&'static str, Value)>> {
    let number = |value: f64| Value::F32(value as f32);
    let kind = |name: &str| ("rope.scaling.type", Value::Text(name.to_owned()));
    match &config.rope_scaling {
        None => Ok(Vec::new()),
        Some(RopeScaling::Linear { factor }) => {
            Ok(vec![kind("linear"), ("rope.scaling.factor", number(*factor))])
        }
        Some(RopeScaling::Yarn { truncate: false, .. }) => Err(refuse(
            "the bounds of YaRN's rotary positions are not rounded (truncate is false), which a \
             GGUF file cannot say",
        )),
        Some(RopeScaling::Yarn {
            factor,
            original_max_position_embeddings: original,
            beta_fast,
            beta_slow,
            attention_factor,
            ..
        }) => {
            let original = u32::try_from(*original);
            let original = original.map_err(|_| refuse("the original context is too long"))?;
            let mut keys = vec![
                kind("yarn"),
                ("rope.scaling.factor", number(*factor)),
                ("rope.scaling.original_context_length", Value::U32(original)),
            ];
            let change = attention_factor / RopeScaling::yarn_attention_factor(*factor);
            for (name, value, usual) in [
                ("rope.scaling.attn_factor", change, 1.0),
                ("rope.scaling.yarn_beta_fast", *beta_fast, 32.0),
                ("rope.scaling.yarn_beta_slow", *beta_slow, 1.0),
            ] {
                if value != usual {
                    keys.push((name, number(value)));
                }
            }
            Ok(keys)
        }
        // These are a tensor.
        Some(RopeScaling::Llama3 { .. } | RopeScaling::Divisors(_)) if is_llama => Ok(Vec::new()),
        Some(_) => Err(refuse(
            "each frequency of the rotary positions is scaled otherwise, for which GGUF has a \
             place in Llama networks only",
        )),
    }
}

/// The tensor that says what is done to each frequency of rotary positions, where it is needed.
fn divisors_entry(network: &Network) -> Option<gguf::Entry> {
    let Network::Llama(config) = network else { return None };
    let Some(RopeScaling::Llama3 { .. } | RopeScaling::Divisors(_)) = config.rope_scaling else {
        return None;
    };
    let divisors: Vec<f32> = config.frequency_divisors().iter().map(|&d| d as f32).collect();
    let tensor = Tensor::from_slice(&[divisors.len()], &divisors);
    Some(gguf::Entry { name: FREQUENCY_DIVISORS.to_owned(), tensor, kind: TensorKind::F32 })
}

fn write_llama2c(
    model: &LoadedModel,
    companions: Companions<'_>,
    numbers: Option<Numbers>,
    path: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<String>> {
    let Network::Llama(c) = &model.network else {
        return Err(refuse("llama2.c runs Llama networks only; this is another"));
    };
    if let Some(dtype) = float(numbers, "llama2.c")?.filter(|&dtype| dtype != DType::F32) {
        return Err(refuse(format!("llama2.c files of version 0 are fp32, not {dtype}")));
    }
    let fixed = [
        ("the base of rotary positions", c.rope_theta, 10_000.0),
        ("the epsilon of norms", c.norm_epsilon, 1e-5),
        ("the size of heads", c.head_dim as f64, c.hidden_size as f64 / c.n_heads as f64),
    ];
    for (what, value, wanted) in fixed {
        if value != wanted {
            return Err(refuse(format!(
                "{what} is {value}; llama2.c has no place for it and takes {wanted}"
            )));
        }
    }
    if c.rope_scaling.is_some() {
        return Err(refuse("rotary positions are scaled, for which llama2.c has no place"));
    }
    if c.attention_bias || c.mlp_bias {
        return Err(refuse("projections have biases, for which llama2.c has no place"));
    }
    let header = llama2c::Header {
        dim: c.hidden_size,
        hidden_dim: c.intermediate_size,
        layers: c.n_layers,
        heads: c.n_heads,
        kv_heads: c.n_kv_heads,
        vocab_size: c.vocab_size,
        seq_len: c.max_positions,
        shared_classifier: c.tied,
    };
    let mut tensors = BTreeMap::new();
    for (name, mut tensor) in parameters(model, Some(DType::F32))? {
        if let Some(heads) = interleaved_heads(&model.network, &name) {
            tensor = rope_half_to_interleaved(&tensor, heads)?;
        }
        tensors.insert(meta_name(&name), tensor);
    }
    let mut out = Counted::create(path, progress)?;
    llama2c::write_v0(&mut out, &header, &tensors)?;
    out.finish(path)?;
    let Some(tokenizer) = companions.tokenizer else { return Ok(Vec::new()) };
    let file = path.with_file_name("tokenizer.bin");
    let left_out = match tokenizer.to_llama2c() {
        Err(e) => e.to_string(),
        Ok(bytes) => match std::fs::read(&file) {
            Ok(there) if there == bytes => return Ok(Vec::new()),
            Ok(_) => format!("another is there already: {}", file.display()),
            Err(_) => {
                std::fs::write(&file, bytes).map_err(|e| Error::io(&file, e))?;
                return Ok(Vec::new());
            }
        },
    };
    Ok(vec![format!("the tokenizer: {left_out}")])
}

fn write_llmc(
    model: &LoadedModel,
    numbers: Option<Numbers>,
    path: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let Network::Gpt2(c) = &model.network else {
        return Err(refuse("llm.c runs GPT-2 networks only; this is another"));
    };
    let dtype = float(numbers, "llm.c")?;
    if dtype == Some(DType::F16) {
        return Err(refuse("llm.c has fp32 and bf16 numbers, not fp16"));
    }
    if !c.tied || c.intermediate_size != 4 * c.hidden_size || c.norm_epsilon != 1e-5 {
        return Err(refuse(
            "llm.c takes a classifier that is the embedding, an MLP of four times the width and \
             1e-5 in norms; this model is otherwise",
        ));
    }
    let header = llmc::Header {
        max_positions: c.max_positions,
        vocab_size: c.vocab_size,
        layers: c.n_layers,
        heads: c.n_heads,
        hidden_size: c.hidden_size,
    };
    let mut out = Counted::create(path, progress)?;
    llmc::write(&mut out, &header, &parameters(model, dtype)?)?;
    out.finish(path)
}

fn write_package(
    model: &LoadedModel,
    numbers: Option<Numbers>,
    context: usize,
    path: &Path,
) -> Result<()> {
    let dtype = float(numbers, "a Core ML package")?;
    let most = model.network.max_positions();
    if context == 0 || context > most {
        return Err(refuse(format!("a context of {context}; this model takes 1 to {most} tokens")));
    }
    let kept = LoadedModel { parameters: parameters(model, dtype)?, ..model.clone() };
    let index = kept.index(most);
    let shape = StepShape { sequences: 1, tokens: 1, context };
    let program = for_core_ml(&step_program(&kept.network, &index, shape));
    let bundle = Bundle { program, weights: index.weights().clone() };
    let summary = format!("The next token over key/value caches of {context} positions");
    save_mlpackage(&bundle, path, &summary).map_err(|e| Error::new(ErrorKind::File, e.to_string()))
}
