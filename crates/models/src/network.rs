use crate::{Graph, LlamaConfig, WeightIndex};
use orion_mil::{Function, Program};

/// A model family with its sizes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Network {
    /// Llama: RMSNorm, rotary positions, grouped heads, gated MLP.
    Llama(LlamaConfig),
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

/// How a parameter begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Initialization {
    /// All ones.
    Ones,
    /// Normally distributed with mean 0.
    Normal {
        /// Standard deviation.
        deviation: f64,
    },
}

/// The size of a generation step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StepShape {
    /// Tokens taken at once.
    pub tokens: usize,
    /// Length of the key/value caches.
    pub context: usize,
}

impl Network {
    /// Every trainable tensor, embedding first.
    pub fn parameters(&self) -> Vec<ParameterSpec> {
        match self {
            Self::Llama(c) => c.parameters(),
        }
    }

    /// How many numbers are trained.
    pub fn parameter_count(&self) -> usize {
        self.parameters().iter().map(|p| p.shape.iter().product::<usize>()).sum()
    }

    /// Number of token ids.
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Llama(c) => c.vocab_size,
        }
    }

    /// The longest sequence the model was made for.
    pub fn max_positions(&self) -> usize {
        match self {
            Self::Llama(c) => c.max_positions,
        }
    }

    /// Adds to an index the constants that the programs need beside the parameters, for
    /// sequences of up to `positions` tokens.
    pub fn add_tables(&self, index: &mut WeightIndex, positions: usize) {
        match self {
            Self::Llama(c) => c.add_tables(index, positions),
        }
    }

    /// The loss of `sequences` × `length` tokens.
    ///
    /// Inputs: `tokens` and `targets`, int32 `[B·S]`, sequence after sequence, and every
    /// parameter that the index does not hold. Results: `loss` fp32 `[1]`, the mean, and
    /// `token_losses` fp32 `[B·S]`, in nats.
    pub fn loss(&self, index: &WeightIndex, sequences: usize, length: usize) -> Program {
        let mut graph = Graph::new("main", index);
        let results = match self {
            Self::Llama(c) => c.loss(&mut graph, sequences, length),
        };
        Program::with_function(graph.builder.finish(&results))
    }

    /// The next `tokens` of one sequence over key/value caches.
    ///
    /// Inputs: `tokens` int32 `[tokens]`, `position` int32 `[1]` of the first of them, `last`
    /// int32 `[1]`, the index of the one whose logits are wanted (absent when there is only one
    /// token), and caches fp32 `[G, 1, D, context]`, replaced in place, named by
    /// [`Network::caches`]. Result: `logits` fp32 `[1, V, 1, 1]`.
    pub fn step(&self, index: &WeightIndex, shape: StepShape) -> Program {
        let mut graph = Graph::new("main", index);
        let (results, in_place) = match self {
            Self::Llama(c) => c.step(&mut graph, shape),
        };
        let mut function: Function = graph.builder.finish(&results);
        function.set_in_place(in_place.iter().map(|(o, i)| (o.as_str(), i.as_str())));
        Program::with_function(function)
    }

    /// Names and shapes of the caches of [`Network::step`].
    pub fn caches(&self, context: usize) -> Vec<(String, Vec<usize>)> {
        match self {
            Self::Llama(c) => c.caches(context),
        }
    }
}

/// The identifier a parameter has in programs: MIL names cannot hold dots.
pub fn program_name(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}
