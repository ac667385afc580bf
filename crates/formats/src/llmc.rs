//! Model files of llm.c: a GPT-2 in fp32 or bf16.
//!
//! A header of 256 int32: magic 20240326, version (3 fp32, 5 bf16), the longest sequence `S`, the
//! vocabulary `V`, layers `L`, heads, width `C`, the vocabulary with padding `Vp`. Then tensors,
//! each for all layers before the next: wte `[Vp, C]`, wpe `[S, C]`, ln1 weight and bias, qkv
//! weight `[3C, C]` and bias, attention projection `[C, C]` and bias, ln2, MLP `[4C, C]` and bias,
//! projection `[C, 4C]` and bias; the final norm. Matrices are `[out, in]`.
//!
//! Tensors have the names that transformers gives them.

use crate::{Error, ErrorKind, Result, check_finite, map_file};
use orion_tensor::{Bytes, DType, Tensor};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

const MAGIC: i32 = 20_240_326;
const HEADER_BYTES: usize = 1024;
/// No sane model is larger in any direction.
const MAX_SIZE: i32 = 1 << 24;
/// Rows of the embedding are filled up to a multiple of this.
const VOCAB_PADDING: usize = 128;

/// The sizes of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The longest sequence.
    pub max_positions: usize,
    /// Token ids, padding not included.
    pub vocab_size: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
}

/// A model file.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Its sizes.
    pub header: Header,
    /// Its tensors by name, without the padding of the vocabulary; storage is the file's memory.
    pub tensors: BTreeMap<String, Tensor>,
}

/// Whether a file starts as these do.
pub fn is_llmc(start: &[u8]) -> bool {
    start.starts_with(&MAGIC.to_le_bytes())
}

impl Checkpoint {
    /// Maps and reads a file.
    ///
    /// # Errors
    /// As [`Checkpoint::parse`], with the path; and when the file cannot be mapped.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        map_file(path).and_then(Self::parse).map_err(|e| e.in_file(path))
    }

    /// Reads the bytes of a file and checks that all weights are finite.
    ///
    /// # Errors
    /// When it is another kind of file, a size is out of bounds, the file is shorter or longer than
    /// its sizes say, or a weight is not finite.
    pub fn parse(bytes: Bytes) -> Result<Self> {
        let Some(words) = bytes.get(..HEADER_BYTES) else {
            let what = format!(
                "an llm.c model starts with {HEADER_BYTES} bytes, this has {}",
                bytes.len()
            );
            return Err(Error::new(ErrorKind::Truncated, what));
        };
        let word = |at: usize| {
            i32::from_le_bytes(words[4 * at..4 * at + 4].try_into().expect("four bytes"))
        };
        if word(0) != MAGIC {
            let what = format!("an llm.c model starts with {MAGIC}, this file with {}", word(0));
            return Err(Error::new(ErrorKind::WrongFormat, what).at(0));
        }
        let dtype = match word(1) {
            3 => DType::F32,
            5 => DType::BF16,
            other => {
                let what =
                    format!("version {other} of an llm.c model; 3 (fp32) and 5 (bf16) are read");
                return Err(Error::new(ErrorKind::Unsupported, what).at(4));
            }
        };
        let size = |at: usize, name: &str| match word(at) {
            value @ 1..=MAX_SIZE => Ok(value as usize),
            value => {
                let what = format!("{name} is {value}, expected 1 to {MAX_SIZE}");
                Err(Error::new(ErrorKind::Malformed, what).at(4 * at as u64))
            }
        };
        let header = Header {
            max_positions: size(2, "the longest sequence")?,
            vocab_size: size(3, "the vocabulary")?,
            layers: size(4, "the number of layers")?,
            heads: size(5, "the number of heads")?,
            hidden_size: size(6, "the width")?,
        };
        let padded = size(7, "the padded vocabulary")?;
        if padded < header.vocab_size {
            let what = format!("a padded vocabulary of {padded} for {} ids", header.vocab_size);
            return Err(Error::new(ErrorKind::Malformed, what).at(28));
        }
        let rows = rows(&header, padded);
        let wanted = rows.iter().map(|row| row.bytes(&header, dtype)).sum::<u128>();
        let found = (bytes.len() - HEADER_BYTES) as u128;
        if wanted != found {
            let kind = if found < wanted { ErrorKind::Truncated } else { ErrorKind::TrailingBytes };
            let what = format!("its sizes ask for {wanted} bytes of weights, {found} are there");
            return Err(Error::new(kind, what).at(HEADER_BYTES as u64));
        }
        let mut tensors = BTreeMap::new();
        let mut at = HEADER_BYTES;
        for row in rows {
            for layer in 0..row.copies(&header) {
                let size = row.elements() * dtype.size_bytes();
                let mut shape = row.shape.clone();
                let mut kept = size;
                if row.part == "wte.weight" {
                    shape[0] = header.vocab_size;
                    kept = size / padded * header.vocab_size;
                }
                let name = row.name(layer);
                let data = bytes.slice(at..at + kept).expect("the length was checked");
                let tensor = Tensor::new(dtype, shape, data).expect("as many bytes as elements");
                check_finite(&name, &tensor)?;
                tensors.insert(name, tensor);
                at += size;
            }
        }
        Ok(Self { header, tensors })
    }
}

/// Writes a model in fp32, or in bf16 when all tensors are.
///
/// # Errors
/// [`ErrorKind::NotRepresentable`] when a tensor is missing, superfluous or of another shape than
/// the [module documentation](self) says; [`ErrorKind::NotFinite`]; [`ErrorKind::Io`].
pub fn write(
    out: &mut impl Write,
    header: &Header,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<()> {
    let padded = header.vocab_size.next_multiple_of(VOCAB_PADDING);
    let is_bf16 = tensors.values().all(|tensor| tensor.dtype() == DType::BF16);
    let Header { max_positions, vocab_size, layers, heads, hidden_size } = *header;
    let version = if is_bf16 { 5 } else { 3 };
    let sizes = [max_positions, vocab_size, layers, heads, hidden_size, padded];
    let mut head: Vec<u8> = [MAGIC, version].iter().flat_map(|word| word.to_le_bytes()).collect();
    for size in sizes {
        let size = i32::try_from(size).ok().filter(|size| *size <= MAX_SIZE).ok_or_else(|| {
            Error::new(ErrorKind::NotRepresentable, format!("a size of {size} in an llm.c file"))
        })?;
        head.extend(size.to_le_bytes());
    }
    head.resize(HEADER_BYTES, 0);
    out.write_all(&head).map_err(Error::write)?;
    let rows = rows(header, padded);
    let names = rows.iter().map(|row| row.copies(header)).sum::<usize>();
    for row in &rows {
        for layer in 0..row.copies(header) {
            let name = row.name(layer);
            let refuse = |what: &str| {
                let what = format!("tensor `{name}` of an llm.c model {what}");
                Error::new(ErrorKind::NotRepresentable, what)
            };
            let tensor = tensors.get(&name).ok_or_else(|| refuse("is missing"))?;
            let mut shape = row.shape.clone();
            if row.part == "wte.weight" {
                shape[0] = vocab_size;
            }
            if tensor.shape() != shape {
                return Err(refuse(&format!("is {shape:?}, not {:?}", tensor.shape())));
            }
            check_finite(&name, tensor)?;
            let size = row.elements() * if is_bf16 { 2 } else { 4 };
            let mut bytes = Vec::with_capacity(size);
            if is_bf16 {
                bytes.extend_from_slice(tensor.bytes());
            } else {
                bytes.extend(tensor.to_f32_vec().iter().flat_map(|value| value.to_le_bytes()));
            }
            bytes.resize(size, 0);
            out.write_all(&bytes).map_err(Error::write)?;
        }
    }
    if names != tensors.len() {
        return Err(Error::new(
            ErrorKind::NotRepresentable,
            format!("an llm.c model has {names} tensors, this one {}", tensors.len()),
        ));
    }
    Ok(())
}

/// One kind of tensor in the file.
struct Row {
    part: &'static str,
    in_block: bool,
    shape: Vec<usize>,
}

impl Row {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    fn copies(&self, header: &Header) -> usize {
        if self.in_block { header.layers } else { 1 }
    }

    /// All bytes of the kind; sizes of a file may be absurd.
    fn bytes(&self, header: &Header, dtype: DType) -> u128 {
        let elements = self.shape.iter().map(|&size| size as u128).product::<u128>();
        elements * self.copies(header) as u128 * dtype.size_bytes() as u128
    }

    fn name(&self, layer: usize) -> String {
        match self.in_block {
            true => format!("transformer.h.{layer}.{}", self.part),
            false => format!("transformer.{}", self.part),
        }
    }
}

fn rows(header: &Header, padded: usize) -> Vec<Row> {
    let c = header.hidden_size;
    let row = |part, in_block, shape: &[usize]| Row { part, in_block, shape: shape.to_vec() };
    vec![
        row("wte.weight", false, &[padded, c]),
        row("wpe.weight", false, &[header.max_positions, c]),
        row("ln_1.weight", true, &[c]),
        row("ln_1.bias", true, &[c]),
        row("attn.c_attn.weight", true, &[3 * c, c]),
        row("attn.c_attn.bias", true, &[3 * c]),
        row("attn.c_proj.weight", true, &[c, c]),
        row("attn.c_proj.bias", true, &[c]),
        row("ln_2.weight", true, &[c]),
        row("ln_2.bias", true, &[c]),
        row("mlp.c_fc.weight", true, &[4 * c, c]),
        row("mlp.c_fc.bias", true, &[4 * c]),
        row("mlp.c_proj.weight", true, &[c, 4 * c]),
        row("mlp.c_proj.bias", true, &[c]),
        row("ln_f.weight", false, &[c]),
        row("ln_f.bias", false, &[c]),
    ]
}
