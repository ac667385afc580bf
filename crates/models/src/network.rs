#[cfg(doc)]
use crate::AdapterShape;
use crate::forward::{self, AttentionShape, Forward};
use crate::rotary::Rotary;
use crate::{
    GolfBaselineConfig, GolfWideConfig, Gpt2Config, Graph, LinearLayer, LlamaConfig, Qwen2Config,
    Qwen3Config, WeightIndex,
};
use orion_mil::{Program, ValueId};

/// A model family with its sizes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Network {
    /// The baseline of OpenAI's Parameter Golf: mixed residuals, squared ReLU, capped logits.
    GolfBaseline(GolfBaselineConfig),
    /// A Llama with scaled branches, of a submission to Parameter Golf.
    GolfWide(GolfWideConfig),
    /// GPT-2: LayerNorm, learned positions, GELU.
    Gpt2(Gpt2Config),
    /// Llama: RMSNorm, rotary positions, grouped heads, gated MLP.
    Llama(LlamaConfig),
    /// Qwen2: a Llama whose queries, keys and values have biases.
    Qwen2(Qwen2Config),
    /// Qwen3: a Llama that norms its query and key heads.
    Qwen3(Qwen3Config),
}

/// What a family says about itself, and how its numbers are computed.
pub(crate) trait Architecture {
    /// Refuses sizes that make no network.
    fn validate(&self) -> Result<(), ConfigError>;
    /// Every trainable tensor, embedding first.
    fn parameters(&self) -> Vec<ParameterSpec>;
    /// Number of token ids.
    fn vocab_size(&self) -> usize;
    /// The longest sequence.
    fn max_positions(&self) -> usize;
    /// The heads, and how many blocks have them.
    fn attention(&self) -> AttentionShape;
    /// How heads turn; `None` where positions are learned.
    fn rotary(&self) -> Option<Rotary>;
    /// From tokens to the residual stream after the last block, `[1, C, 1, N]`.
    fn trunk(&self, f: &mut Forward<'_>) -> ValueId;
    /// From the residual stream `[1, C, 1, N]` to logits `[1, V, 1, N]`.
    fn classify(&self, f: &mut Forward<'_>, x: ValueId) -> ValueId;
}

/// One trainable tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterSpec {
    /// Its Hugging Face name, such as `model.layers.0.mlp.up_proj.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How it begins when training from nothing.
    pub initialization: Initialization,
    /// Whether weight decay applies: to matrices, not to norms and biases.
    pub decays: bool,
}

impl ParameterSpec {
    /// A tensor that weight decay applies to, normally distributed.
    pub(crate) fn matrix(name: impl Into<String>, shape: &[usize], deviation: f64) -> Self {
        let initialization = Initialization::Normal { deviation };
        Self { name: name.into(), shape: shape.to_vec(), initialization, decays: true }
    }

    /// A tensor that weight decay applies to, uniformly distributed.
    pub(crate) fn uniform(name: impl Into<String>, shape: &[usize], bound: f64) -> Self {
        let initialization = Initialization::Uniform { bound };
        Self { name: name.into(), shape: shape.to_vec(), initialization, decays: true }
    }

    /// A tensor that weight decay does not apply to, all of one number.
    pub(crate) fn constant(name: impl Into<String>, shape: &[usize], value: f64) -> Self {
        let initialization = Initialization::Constant { value };
        Self { name: name.into(), shape: shape.to_vec(), initialization, decays: false }
    }
}

/// A size that makes no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// Refuses sizes of 0, and those that no network has. Blocks have a bound of their own, because a
/// network lists the parameters of all before any of them is looked for in a file.
pub(crate) fn check_sizes(sizes: &[(&str, usize)]) -> Result<(), ConfigError> {
    for &(name, n) in sizes {
        let most = if name == "n_layers" { 1 << 12 } else { 1 << 24 };
        if n == 0 || n > most {
            return Err(ConfigError(format!("{name} is {n}; it must be between 1 and {most}")));
        }
    }
    Ok(())
}

/// Refuses numbers that are not positive.
pub(crate) fn check_positive(numbers: &[(&str, f64)]) -> Result<(), ConfigError> {
    match numbers.iter().find(|(_, v)| !v.is_finite() || *v <= 0.0) {
        Some((name, v)) => Err(ConfigError(format!("{name} is {v}; it must be positive"))),
        None => Ok(()),
    }
}

/// Refuses heads that cannot be grouped or turned.
pub(crate) fn check_heads(
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
) -> Result<(), ConfigError> {
    if !n_heads.is_multiple_of(n_kv_heads) {
        return Err(ConfigError(format!(
            "n_heads is {n_heads} and n_kv_heads {n_kv_heads}; the first must be a multiple of the \
             second"
        )));
    }
    if !head_dim.is_multiple_of(2) {
        return Err(ConfigError(format!(
            "head_dim is {head_dim}; rotary positions need an even number"
        )));
    }
    Ok(())
}

/// Refuses more angles of rotary positions than fit into a gigabyte: there is a table of them.
pub(crate) fn check_angles(max_positions: usize, head_dim: usize) -> Result<(), ConfigError> {
    const MOST: usize = 1 << 28;
    if max_positions.saturating_mul(head_dim) <= MOST {
        return Ok(());
    }
    Err(ConfigError(format!(
        "max_positions is {max_positions} and head_dim {head_dim}; their product must be at most {MOST}"
    )))
}

/// How a parameter begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Initialization {
    /// One number everywhere.
    Constant {
        /// The number.
        value: f64,
    },
    /// Normally distributed with mean 0.
    Normal {
        /// Standard deviation.
        deviation: f64,
    },
    /// Uniformly distributed from `-bound` to `bound`.
    Uniform {
        /// The largest number.
        bound: f64,
    },
    /// Ones in the first row, zeros in the others.
    FirstRow,
}

/// The size of a generation step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StepShape {
    /// Sequences that take a step together, each with caches and a position of its own.
    pub sequences: usize,
    /// Tokens of each sequence taken at once.
    pub tokens: usize,
    /// Length of the key/value caches.
    pub context: usize,
}

impl Network {
    fn architecture(&self) -> &dyn Architecture {
        match self {
            Self::GolfBaseline(c) => c,
            Self::GolfWide(c) => c,
            Self::Gpt2(c) => c,
            Self::Llama(c) => c,
            Self::Qwen2(c) => c,
            Self::Qwen3(c) => c,
        }
    }

    /// Checks that the sizes fit together. The other methods may panic when they do not.
    ///
    /// # Errors
    /// The first thing that does not fit, with its numbers.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.architecture().validate()
    }

    /// Every trainable tensor, embedding first.
    pub fn parameters(&self) -> Vec<ParameterSpec> {
        self.architecture().parameters()
    }

    /// How many numbers are trained.
    pub fn parameter_count(&self) -> usize {
        self.parameters().iter().map(|p| p.shape.iter().product::<usize>()).sum()
    }

    /// Number of token ids.
    pub fn vocab_size(&self) -> usize {
        self.architecture().vocab_size()
    }

    /// The longest sequence the model was made for.
    pub fn max_positions(&self) -> usize {
        self.architecture().max_positions()
    }

    /// Number of blocks. In programs, values of block `i` have names that begin with `layer{i}_`.
    pub fn layer_count(&self) -> usize {
        self.architecture().attention().layers
    }

    /// Adds to an index the constants that the programs need beside the parameters, for
    /// sequences of up to `positions` tokens.
    pub fn add_tables(&self, index: &mut WeightIndex, positions: usize) {
        if let Some(rotary) = self.architecture().rotary() {
            rotary.add_tables(index, positions);
        }
    }

    /// The loss of `sequences` × `length` tokens.
    ///
    /// Inputs: `tokens` and `targets`, int32 `[B·S]`, sequence after sequence, and every
    /// parameter that the index does not hold. Results: `loss` fp32 `[1]`, the mean, and
    /// `token_losses` fp32 `[B·S]`, in nats.
    ///
    /// Where the index has adapters, their matrices are inputs too: see [`AdapterShape`].
    pub fn loss(&self, index: &WeightIndex, sequences: usize, length: usize) -> Program {
        self.loss_of(index, [sequences, length], false)
    }

    /// [`Network::loss`] of some of the tokens: another input `weights`, fp32 `[B·S]`, says what
    /// share each has of `loss`, which is the sum and no mean. `token_losses` are those of
    /// [`Network::loss`].
    pub fn weighted_loss(&self, index: &WeightIndex, sequences: usize, length: usize) -> Program {
        self.loss_of(index, [sequences, length], true)
    }

    fn loss_of(&self, index: &WeightIndex, size: [usize; 2], weighted: bool) -> Program {
        let this = self.architecture();
        let graph = Graph::new("main", index);
        let mut f = Forward::whole(graph, this.attention(), this.rotary(), size);
        let x = this.trunk(&mut f);
        f.set_scope("");
        let logits = this.classify(&mut f, x);
        Program::with_function(f.finish_with_loss(logits, weighted))
    }

    /// Every linear layer, in the order in which a token goes through them.
    pub fn linear_layers(&self) -> Vec<LinearLayer> {
        let this = self.architecture();
        let mut index = WeightIndex::new();
        self.add_tables(&mut index, 1);
        let graph = Graph::new("main", &index);
        let mut f = Forward::whole(graph, this.attention(), this.rotary(), [1, 1]);
        let x = this.trunk(&mut f);
        this.classify(&mut f, x);
        f.into_linear_layers()
    }

    /// The next tokens of `B` sequences over key/value caches.
    ///
    /// Inputs: `tokens` int32 `[B·tokens]`, sequence after sequence; `position` int32 `[B]` of the
    /// first of each; `last` int32 `[B]`, the index within each sequence's tokens of the one whose
    /// logits are wanted (absent when there is only one); and the caches of every sequence, fp32
    /// `[G, 1, D, context]`, replaced in place. A cache that [`Network::caches`] calls `name` is
    /// `name` here for one sequence and `sequence0_name`, `sequence1_name`, … for several: see
    /// [`crate::cache_of`]. Result: `logits` fp32 `[1, V, 1, B]`.
    ///
    /// Where the index has adapters, their matrices are inputs too: see [`AdapterShape`].
    pub fn step(&self, index: &WeightIndex, shape: StepShape) -> Program {
        let this = self.architecture();
        let graph = Graph::new("main", index);
        let mut f = Forward::next(graph, this.attention(), this.rotary(), shape);
        let x = this.trunk(&mut f);
        let x = f.last(x);
        let logits = this.classify(&mut f, x);
        Program::with_function(f.finish_with_logits(logits))
    }

    /// [`Network::step`] of one sequence, with the same ports and results, for devices that cannot
    /// write at a computed place and hand that to another: attention reads the first `past` columns
    /// of the caches as they were, and the new keys and values beside them, so that nothing in
    /// the program reads what it writes to caches. `position` is at most `past`.
    ///
    /// # Panics
    /// When the caches have no room for the tokens behind `past`, or there are several sequences.
    pub fn chunk(&self, index: &WeightIndex, shape: StepShape, past: usize) -> Program {
        assert_eq!(shape.sequences, 1, "chunks are of one sequence");
        assert!(past + shape.tokens <= shape.context, "the new tokens have no room");
        let this = self.architecture();
        let graph = Graph::new("main", index);
        let mut f = Forward::chunk(graph, this.attention(), this.rotary(), shape, past);
        let x = this.trunk(&mut f);
        let x = f.last(x);
        let logits = this.classify(&mut f, x);
        Program::with_function(f.finish_with_logits(logits))
    }

    /// Names and shapes of one sequence's caches for [`Network::step`].
    pub fn caches(&self, context: usize) -> Vec<(String, Vec<usize>)> {
        forward::caches(self.architecture().attention(), context)
    }
}

/// The identifier a parameter has in programs: MIL names cannot hold dots.
pub fn program_name(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}
