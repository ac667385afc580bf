//! Artifacts of Parameter Golf's baseline: int8 weights that say no sizes but their shapes.

use super::{LoadError, ModelFile, WeightFile};
use crate::{GolfBaselineConfig, Network, Preset, preset};
use orion_formats::GolfArtifact;
use std::collections::BTreeMap;
use std::path::Path;

/// Tokenizer files that may lie beside an artifact.
const TOKENIZERS: [&str; 3] = ["tokenizer.model", "fineweb_1024_bpe.model", "tokenizer.json"];

impl ModelFile {
    /// Opens an artifact; its weights are in the types they had before they were quantized.
    /// `network` is whose they are; when absent, the baseline's, with the sizes that their shapes
    /// say and the constants of its `train_gpt.py`.
    ///
    /// # Errors
    /// When the file is no artifact or damaged, or says no sizes and none are given.
    pub fn open_golf_artifact(path: &Path, network: Option<Network>) -> Result<Self, LoadError> {
        let artifact = GolfArtifact::open(path).map_err(|e| LoadError::of(path, &e))?;
        let network = match network {
            Some(network) => network,
            None => Network::GolfBaseline(sizes(&artifact).ok_or_else(|| {
                LoadError::new(path, "its tensors are not those of Parameter Golf's baseline")
                    .hint("name the config.json of their network with --config")
            })?),
        };
        let tensors: BTreeMap<_, _> =
            artifact.tensors.iter().map(|(name, t)| (name.clone(), t.dequantize())).collect();
        let file = ModelFile::new(path, network, WeightFile::Checked(tensors))?;
        Ok(file.with_tokenizer(TOKENIZERS.map(|name| path.with_file_name(name))))
    }
}

/// What shapes say; whether they fit together is checked by who matches them.
fn sizes(artifact: &GolfArtifact) -> Option<GolfBaselineConfig> {
    let shapes: BTreeMap<&str, &[usize]> =
        artifact.tensors.iter().map(|(name, tensor)| (&**name, tensor.shape())).collect();
    let axis = |name: &str, axis: usize| shapes.get(name)?.get(axis).copied();
    let Network::GolfBaseline(baseline) = preset("golf-baseline").map(Preset::network)? else {
        return None;
    };
    let hidden_size = axis("tok_emb.weight", 1)?;
    let n_heads = axis("blocks.0.attn.q_gain", 0)?;
    let head_dim = hidden_size.checked_div(n_heads)?;
    Some(GolfBaselineConfig {
        vocab_size: axis("tok_emb.weight", 0)?,
        hidden_size,
        intermediate_size: axis("blocks.0.mlp.fc.weight", 0)?,
        n_layers: shapes.keys().filter(|name| name.ends_with(".attn_scale")).count(),
        n_heads,
        n_kv_heads: axis("blocks.0.attn.c_k.weight", 0)?.checked_div(head_dim)?,
        tied: !shapes.contains_key("lm_head.weight"),
        ..baseline
    })
}
