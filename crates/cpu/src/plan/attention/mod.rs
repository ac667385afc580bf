//! Attention in plain operations, forward and backward: finds it ([`find`]) and lowers each to one
//! step ([`lower`]).
//!
//! Forward: a product of queries and keys, multiplied by a number, masked, softmax over keys, and
//! a product with values. Backward: what differentiating those gives. Neither needs its matrix of
//! scores in memory then. Values in between that anything else reads, or that are results of the
//! program, forbid it; [`Found::apart`] says so. Does not look at layouts: any strides will do.

mod find;
mod lower;

use orion_mil::ValueId;
use std::collections::{BTreeMap, HashMap};

/// A matrix in the last two axes of a value, perhaps with rows and columns exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stacked {
    id: ValueId,
    exchanged: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum FoundMask {
    Nothing,
    /// int32 `[…, S, 1]`; what is added where a key comes later.
    Positions(ValueId, f32),
    Added(ValueId),
    Chosen(ValueId, f32),
}

/// Attention as found in a program.
#[derive(Debug, Clone)]
pub(super) struct FoundAttention {
    members: Vec<usize>,
    /// `[S, D]`, `[T, D]`, `[T, F]`, `[S, F]`
    query: Stacked,
    key: Stacked,
    value: Stacked,
    result: Stacked,
    mask: FoundMask,
    factor: f32,
    /// The probabilities.
    softmax: ValueId,
    /// Shape of the probabilities.
    shape: Vec<usize>,
    has_gradient: bool,
}

/// Its gradients.
#[derive(Debug, Clone)]
pub(super) struct FoundGradient {
    members: Vec<usize>,
    forward: FoundAttention,
    gradient: Stacked,
    to_query: Stacked,
    to_key: Stacked,
    to_value: Stacked,
    factor: f32,
}

/// Operations that are computed together.
#[derive(Debug, Clone)]
pub(super) enum Group {
    Attention(FoundAttention),
    Gradient(FoundGradient),
    /// Nobody needs them once others are computed together.
    Unneeded(Vec<usize>),
}

impl Group {
    pub(super) fn members(&self) -> &[usize] {
        match self {
            Self::Attention(a) => &a.members,
            Self::Gradient(g) => &g.members,
            Self::Unneeded(members) => members,
        }
    }

    /// What the step reads.
    pub(super) fn inputs(&self) -> Vec<ValueId> {
        match self {
            Self::Attention(a) => a.inputs(),
            Self::Gradient(g) => {
                let mut inputs = g.forward.inputs();
                // The softmax stands for the statistics that the forward pass leaves.
                inputs.extend([g.gradient.id, g.forward.result.id, g.forward.softmax]);
                inputs
            }
            Self::Unneeded(_) => Vec::new(),
        }
    }
}

impl FoundAttention {
    fn inputs(&self) -> Vec<ValueId> {
        let mut inputs = vec![self.query.id, self.key.id, self.value.id];
        inputs.extend(match self.mask {
            FoundMask::Nothing => None,
            FoundMask::Positions(id, _) | FoundMask::Added(id) | FoundMask::Chosen(id, _) => {
                Some(id)
            }
        });
        inputs
    }
}

/// What was found, and why the rest was not.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// By their first operation.
    pub groups: BTreeMap<usize, Group>,
    /// Softmaxes between two products that stay steps of their own.
    pub apart: HashMap<usize, &'static str>,
}
