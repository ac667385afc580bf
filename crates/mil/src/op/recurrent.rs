//! Recurrent layers: `lstm`, `gru`, `rnn`.

use crate::ValueId;

/// A recurrent layer over a sequence. Outputs: y, the last hidden state, and for an LSTM the last
/// cell state.
///
/// Letters: `S` steps, `B` batch, `I` inputs, `H` hidden size, `D` directions (1 or 2), `G` gates.
/// Directions stand side by side in the last axis of every state. States are kept in f64 from
/// step to step and rounded once where they are given out.
#[derive(Debug, Clone, PartialEq)]
pub struct Recurrent {
    /// Which.
    pub cell: Cell,
    /// `[S, B, I]`
    pub x: ValueId,
    /// `[B, D·H]`
    pub initial_h: ValueId,
    /// `[B, D·H]`, for an LSTM.
    pub initial_c: Option<ValueId>,
    /// Of the first direction.
    pub weights: CellWeights,
    /// Of the second direction, which runs from the end.
    pub back: Option<CellWeights>,
    /// Whether the only direction runs from the end.
    pub reverse: bool,
    /// Whether y is every hidden state, `[S, B, D·H]`, or each direction's last, `[1, B, D·H]`.
    pub output_sequence: bool,
    /// Of the gates, `σ`.
    pub gate_activation: Activation,
    /// Of an LSTM's candidate for the cell.
    pub cell_activation: Activation,
    /// Of the hidden state; of a GRU's candidate.
    pub activation: Activation,
}

/// The kinds of cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cell {
    /// Gates i, f, o, and the candidate g: `c' = σ(f) c + σ(i) g`, `h' = σ(o) act(c')`.
    Lstm,
    /// Gate r, the candidate o and gate z, in that order: `h' = (1 - σ(z)) o + σ(z) h`.
    Gru {
        /// Whether r multiplies the recurrent product, not what goes into it.
        reset_after: bool,
    },
    /// `h' = act(W x + U h + b)`.
    Rnn,
}

impl Cell {
    /// `G`: rows of the weights, in units of `H`.
    pub fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru { .. } => 3,
            Self::Rnn => 1,
        }
    }
}

/// The weights of one direction.
#[derive(Debug, Clone, PartialEq)]
pub struct CellWeights {
    /// `[G·H, I]`
    pub input: ValueId,
    /// `[G·H, H]`
    pub hidden: ValueId,
    /// `[G·H]`; with `reset_after` that of the recurrent product.
    pub bias: Option<ValueId>,
    /// `[G·H]`, with `reset_after` that of the inputs.
    pub input_bias: Option<ValueId>,
    /// `[3·H]`: how an LSTM's gates i, f, o see the cell.
    pub peephole: Option<ValueId>,
}

impl CellWeights {
    fn operands(&self) -> impl Iterator<Item = ValueId> + '_ {
        let optional = [self.bias, self.input_bias, self.peephole];
        [self.input, self.hidden].into_iter().chain(optional.into_iter().flatten())
    }
}

/// Activations of recurrent layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the variants are the documentation")]
pub enum Activation {
    Sigmoid,
    Tanh,
    Relu,
    Linear,
}

impl Activation {
    /// Every one.
    pub(crate) const ALL: [Self; 4] = [Self::Sigmoid, Self::Tanh, Self::Relu, Self::Linear];

    /// MIL's name, such as `tanh`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Relu => "relu",
            Self::Linear => "linear",
        }
    }
}

impl Recurrent {
    /// The values it reads, in a fixed order.
    pub(super) fn operands(&self) -> Vec<ValueId> {
        let states = [self.x, self.initial_h].into_iter().chain(self.initial_c);
        let weights = self.weights.operands();
        states.chain(weights).chain(self.back.iter().flat_map(CellWeights::operands)).collect()
    }
}
