//! llm.c model files: a GPT-2.

use super::{LoadError, ModelFile, WeightFile};
use crate::{Gpt2Config, Network};
use orion_formats::llmc;
use std::path::Path;

pub(super) fn open(path: &Path) -> Result<ModelFile, LoadError> {
    let checkpoint = llmc::Checkpoint::open(path).map_err(|e| LoadError::of(path, &e))?;
    let h = checkpoint.header;
    let network = Network::Gpt2(Gpt2Config {
        vocab_size: h.vocab_size,
        hidden_size: h.hidden_size,
        // The C code has these fixed.
        intermediate_size: 4 * h.hidden_size,
        n_layers: h.layers,
        n_heads: h.heads,
        max_positions: h.max_positions,
        norm_epsilon: 1e-5,
        tied: true,
    });
    let file = ModelFile::new(path, network, WeightFile::Checked(checkpoint.tensors))?;
    Ok(file.with_tokenizer(["tokenizer.json", "vocab.json"].map(|name| path.with_file_name(name))))
}
