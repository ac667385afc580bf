//! Llama and what descends from it: Touvron et al., "LLaMA", 2023. Letters as in
//! [`orion_mil::composite`]; weights are `[out, in]`.

use crate::network::{Initialization, ParameterSpec, StepShape};
use crate::{Graph, WeightIndex};
use orion_mil::composite::{HeadShape, RotaryPairs};
use orion_mil::op::Reduction;
use orion_mil::{Op, TensorType, ValueId};
use orion_tensor::{DType, Tensor};

/// Sizes and constants of a Llama model.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaConfig {
    /// `V`
    pub vocab_size: usize,
    /// `C`, the width of the residual stream.
    pub hidden_size: usize,
    /// Width of the gated MLP.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// `G·R`, query heads.
    pub n_heads: usize,
    /// `G`, key/value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// `D`; `hidden_size / n_heads` in most models.
    pub head_dim: usize,
    /// The longest sequence the model was made for, in tokens.
    pub max_positions: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Added to the mean square in RMSNorm.
    pub norm_epsilon: f64,
    /// Whether the classifier is the embedding.
    pub tied: bool,
}

/// A size that makes no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

const EMBEDDING: &str = "model.embed_tokens.weight";
const FINAL_NORM: &str = "model.norm.weight";
const CLASSIFIER: &str = "lm_head.weight";
const COSINES: &str = "rotary.cosines";
const SINES: &str = "rotary.sines";

/// The values a block needs besides its input.
struct Attending {
    heads: HeadShape,
    mask: ValueId,
    cosines: ValueId,
    sines: ValueId,
}

impl LlamaConfig {
    /// Checks that the sizes fit together.
    ///
    /// # Errors
    /// The first thing that does not, with its numbers.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let fail = |message: String| Err(ConfigError(message));
        for (name, n) in [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("n_layers", self.n_layers),
            ("n_heads", self.n_heads),
            ("n_kv_heads", self.n_kv_heads),
            ("head_dim", self.head_dim),
            ("max_positions", self.max_positions),
        ] {
            if n == 0 || n > 1 << 24 {
                return fail(format!("{name} is {n}; it must be between 1 and {}", 1 << 24));
            }
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return fail(format!(
                "n_heads is {} and n_kv_heads {}; the first must be a multiple of the second",
                self.n_heads, self.n_kv_heads
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return fail(format!(
                "head_dim is {}; rotary positions need an even number",
                self.head_dim
            ));
        }
        for (name, v) in [("rope_theta", self.rope_theta), ("norm_epsilon", self.norm_epsilon)] {
            if !v.is_finite() || v <= 0.0 {
                return fail(format!("{name} is {v}; it must be positive"));
            }
        }
        Ok(())
    }

    pub(crate) fn parameters(&self) -> Vec<ParameterSpec> {
        // As llama2.c begins: 0.02 everywhere, less for what adds to the residual stream
        // (Radford et al., "Language Models are Unsupervised Multitask Learners", 2019).
        let matrix = |name: String, o: usize, i: usize, deviation: f64| ParameterSpec {
            name,
            shape: vec![o, i],
            initialization: Initialization::Normal { deviation },
            decays: true,
        };
        let norm = |name: String| ParameterSpec {
            name,
            shape: vec![self.hidden_size],
            initialization: Initialization::Ones,
            decays: false,
        };
        let (c, f) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        let residual = 0.02 / (2.0 * self.n_layers as f64).sqrt();
        let mut specs = vec![matrix(EMBEDDING.into(), self.vocab_size, c, 0.02)];
        for layer in 0..self.n_layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
            specs.extend([
                norm(name("input_layernorm")),
                matrix(name("self_attn.q_proj"), q, c, 0.02),
                matrix(name("self_attn.k_proj"), kv, c, 0.02),
                matrix(name("self_attn.v_proj"), kv, c, 0.02),
                matrix(name("self_attn.o_proj"), c, q, residual),
                norm(name("post_attention_layernorm")),
                matrix(name("mlp.gate_proj"), f, c, 0.02),
                matrix(name("mlp.up_proj"), f, c, 0.02),
                matrix(name("mlp.down_proj"), c, f, residual),
            ]);
        }
        specs.push(norm(FINAL_NORM.into()));
        if !self.tied {
            specs.push(matrix(CLASSIFIER.into(), self.vocab_size, c, 0.02));
        }
        specs
    }

    pub(crate) fn add_tables(&self, index: &mut WeightIndex, positions: usize) {
        let half = self.head_dim / 2;
        let table = |f: fn(f64) -> f64| {
            let angle = |position: usize, i: usize| {
                let exponent = 2.0 * i as f64 / self.head_dim as f64;
                position as f64 * self.rope_theta.powf(-exponent)
            };
            let values: Vec<f32> = (0..positions)
                .flat_map(|p| (0..half).map(move |i| f(angle(p, i)) as f32))
                .collect();
            Tensor::from_slice(&[positions, half], &values)
        };
        index.insert(COSINES, table(f64::cos));
        index.insert(SINES, table(f64::sin));
    }

    /// The tables' length in positions is whatever [`LlamaConfig::add_tables`] was given.
    fn angles(&self, graph: &mut Graph<'_>, positions: ValueId) -> (ValueId, ValueId) {
        let cosines = graph.table(COSINES);
        let sines = graph.table(SINES);
        (
            graph.builder.rotary_angles(cosines, positions),
            graph.builder.rotary_angles(sines, positions),
        )
    }

    fn heads(&self, sequences: usize) -> HeadShape {
        HeadShape {
            sequences,
            kv_heads: self.n_kv_heads,
            group: self.n_heads / self.n_kv_heads,
            head_dim: self.head_dim,
        }
    }

    /// Query, key and value of a block, turned by position.
    fn projections(
        &self,
        graph: &mut Graph<'_>,
        layer: usize,
        x: ValueId,
        at: &Attending,
    ) -> [ValueId; 3] {
        let c = self.hidden_size;
        let (q, kv) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        let norm = graph.parameter(&name("input_layernorm"), &[c]);
        let normal = graph.builder.rms_norm(x, norm, self.norm_epsilon);
        let mut project = |part: &str, o: usize| {
            let weight = graph.parameter(&name(part), &[o, c]);
            graph.builder.linear_as_conv(normal, weight, None)
        };
        let query = project("self_attn.q_proj", q);
        let key = project("self_attn.k_proj", kv);
        let value = project("self_attn.v_proj", kv);
        let b = &mut graph.builder;
        [
            b.rotary(query, at.cosines, at.sines, RotaryPairs::Halves),
            b.rotary(key, at.cosines, at.sines, RotaryPairs::Halves),
            value,
        ]
    }

    /// The rest of a block after attention.
    fn after_attention(
        &self,
        graph: &mut Graph<'_>,
        layer: usize,
        x: ValueId,
        attended: ValueId,
    ) -> ValueId {
        let (c, f) = (self.hidden_size, self.intermediate_size);
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        let output = graph.parameter(&name("self_attn.o_proj"), &[c, self.n_heads * self.head_dim]);
        let norm = graph.parameter(&name("post_attention_layernorm"), &[c]);
        let gate = graph.parameter(&name("mlp.gate_proj"), &[f, c]);
        let up = graph.parameter(&name("mlp.up_proj"), &[f, c]);
        let down = graph.parameter(&name("mlp.down_proj"), &[c, f]);
        let b = &mut graph.builder;
        let attended = b.linear_as_conv(attended, output, None);
        let x = b.add(x, attended);
        let normal = b.rms_norm(x, norm, self.norm_epsilon);
        let gate = b.linear_as_conv(normal, gate, None);
        let gate = b.silu(gate);
        let up = b.linear_as_conv(normal, up, None);
        let inner = b.mul(gate, up);
        let inner = b.linear_as_conv(inner, down, None);
        b.add(x, inner)
    }

    fn classify(&self, graph: &mut Graph<'_>, x: ValueId) -> ValueId {
        graph.builder.set_scope("");
        let c = self.hidden_size;
        let norm = graph.parameter(FINAL_NORM, &[c]);
        let classifier = if self.tied { EMBEDDING } else { CLASSIFIER };
        let classifier = graph.parameter(classifier, &[self.vocab_size, c]);
        let b = &mut graph.builder;
        let normal = b.rms_norm(x, norm, self.norm_epsilon);
        b.linear_as_conv(normal, classifier, None)
    }

    fn embed(&self, graph: &mut Graph<'_>, count: usize) -> ValueId {
        let tokens = graph.builder.input("tokens", TensorType::new(DType::I32, &[count]));
        graph.embedding(EMBEDDING, &[self.vocab_size, self.hidden_size], tokens)
    }

    pub(crate) fn loss(
        &self,
        graph: &mut Graph<'_>,
        sequences: usize,
        length: usize,
    ) -> Vec<ValueId> {
        let count = sequences * length;
        let mut x = self.embed(graph, count);
        let row: Vec<i32> = (0..length as i32).collect();
        let positions = graph.builder.ints(&row);
        let mask = graph.builder.causal_mask(positions, length, DType::F32);
        let positions = graph.builder.ints(&row.repeat(sequences));
        let (cosines, sines) = self.angles(graph, positions);
        let at = Attending { heads: self.heads(sequences), mask, cosines, sines };
        for layer in 0..self.n_layers {
            graph.builder.set_scope(format!("layer{layer}"));
            let [q, k, v] = self.projections(graph, layer, x, &at);
            let attended = graph.builder.causal_attention(q, k, v, at.mask, at.heads);
            x = self.after_attention(graph, layer, x, attended);
        }
        let logits = self.classify(graph, x);
        let b = &mut graph.builder;
        let targets = b.input("targets", TensorType::new(DType::I32, &[count]));
        let losses = b.cross_entropy(logits, targets);
        let loss = b.reduce(Reduction::Mean, losses, &[0], true);
        b.rename(losses, "token_losses");
        b.rename(loss, "loss");
        vec![loss, losses]
    }

    pub(crate) fn step(
        &self,
        graph: &mut Graph<'_>,
        shape: StepShape,
    ) -> (Vec<ValueId>, Vec<(String, String)>) {
        let StepShape { tokens: n, context } = shape;
        let mut x = self.embed(graph, n);
        let b = &mut graph.builder;
        let position = b.input("position", TensorType::new(DType::I32, &[1]));
        let offsets = b.push(&Op::Range { dtype: DType::I32, start: 0.0, step: 1.0, count: n });
        let positions = b.add(offsets, position);
        let mask = b.causal_mask(positions, context, DType::F32);
        let zeros = b.ints(&[0, 0, 0]);
        let begin = b.concat(&[zeros, position], 0);
        let (cosines, sines) = self.angles(graph, positions);
        let at = Attending { heads: self.heads(1), mask, cosines, sines };
        let cache_type = TensorType::new(DType::F32, &[self.n_kv_heads, 1, self.head_dim, context]);
        let mut in_place = Vec::new();
        let mut results = Vec::new();
        for layer in 0..self.n_layers {
            graph.builder.set_scope(format!("layer{layer}"));
            let projected = self.projections(graph, layer, x, &at);
            let [key, value] = cache_names(layer);
            let b = &mut graph.builder;
            let caches = [b.input(&key, cache_type.clone()), b.input(&value, cache_type.clone())];
            let (attended, next) = b.cached_attention(projected, caches, begin, at.mask, at.heads);
            for (name, id) in [key, value].into_iter().zip(next) {
                let output = format!("{name}_next");
                b.rename(id, &output);
                in_place.push((output, name));
                results.push(id);
            }
            x = self.after_attention(graph, layer, x, attended);
        }
        graph.builder.set_scope("");
        if n > 1 {
            let last = graph.builder.input("last", TensorType::new(DType::I32, &[1]));
            x = graph.builder.gather(x, last, 3);
        }
        let logits = self.classify(graph, x);
        graph.builder.rename(logits, "logits");
        results.insert(0, logits);
        (results, in_place)
    }

    pub(crate) fn caches(&self, context: usize) -> Vec<(String, Vec<usize>)> {
        let shape = vec![self.n_kv_heads, 1, self.head_dim, context];
        (0..self.n_layers).flat_map(cache_names).map(|name| (name, shape.clone())).collect()
    }
}

fn cache_names(layer: usize) -> [String; 2] {
    [format!("layer{layer}_key_cache"), format!("layer{layer}_value_cache")]
}
