//! The state of a backward pass: what is known of each value's gradient so far.
//! It knows no derivative.

use super::one;
use orion_mil::op::{Reduction, ScatterMode};
use orion_mil::{Builder, Op, TensorType, ValueId};
use orion_tensor::element_count;

/// Why an op on the way has no gradient.
#[derive(Debug)]
pub(super) enum Refusal {
    NotDifferentiable,
    NotSupported(String),
}

/// A part of a value's gradient.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// All of it, constant along axes where its size is 1 and the value's is not.
    Dense(ValueId),
    /// Zero but for `size` positions of one axis from `begin` on.
    Range { axis: usize, begin: usize, size: usize, gradient: ValueId },
    /// Zero but for what is added at `indices`, as [`Op::Scatter`] does it, or
    /// [`Op::ScatterAlongAxis`].
    Scattered { along: bool, indices: ValueId, updates: ValueId, axis: usize },
}

pub(super) struct Backward {
    pub(super) builder: Builder,
    wanted: Vec<bool>,
    parts: Vec<Vec<Part>>,
    /// Values from here on are made by the backward pass.
    first_new: usize,
    /// Gradients of parameters that are done.
    named: Vec<ValueId>,
}

impl Backward {
    /// `wanted` says of each value whether its gradient is asked for.
    pub(super) fn new(builder: Builder, wanted: Vec<bool>) -> Self {
        let parts = vec![Vec::new(); wanted.len()];
        let first_new = builder.function().values.len();
        Self { builder, wanted, parts, first_new, named: Vec::new() }
    }

    /// Starts at the loss, with 1 or with a scale (fp32 `[1]`).
    pub(super) fn seed(&mut self, loss: ValueId, ty: &TensorType, scale: Option<ValueId>) {
        let seed = match scale {
            None => one(&mut self.builder, ty),
            Some(scale) => {
                let scale = self.builder.cast(scale, ty.dtype);
                self.builder.reshape(scale, &ty.shape().expect("a known shape"))
            }
        };
        self.contribute(loss, seed);
    }

    /// Whether the gradient of a value is asked for.
    pub(super) fn wants(&self, id: ValueId) -> bool {
        self.wanted[id.index()]
    }

    /// Whether anything has been contributed to a value's gradient.
    pub(super) fn has_gradient(&self, id: ValueId) -> bool {
        !self.parts[id.index()].is_empty()
    }

    pub(super) fn shape(&self, id: ValueId) -> Vec<usize> {
        self.builder.shape(id)
    }

    /// Adds to the gradient of a value, when it is wanted. The gradient has the value's rank.
    pub(super) fn contribute(&mut self, id: ValueId, gradient: ValueId) {
        self.contribute_part(id, Part::Dense(gradient));
    }

    /// Adds a gradient that is zero outside a range of one axis.
    pub(super) fn contribute_range(
        &mut self,
        id: ValueId,
        axis: usize,
        begin: usize,
        gradient: ValueId,
    ) {
        let size = self.shape(gradient)[axis];
        self.contribute_part(id, Part::Range { axis, begin, size, gradient });
    }

    /// Adds a gradient by scattering, along an axis elementwise or slice by slice.
    pub(super) fn contribute_scattered(
        &mut self,
        id: ValueId,
        along: bool,
        indices: ValueId,
        updates: ValueId,
        axis: usize,
    ) {
        self.contribute_part(id, Part::Scattered { along, indices, updates, axis });
    }

    fn contribute_part(&mut self, id: ValueId, part: Part) {
        if self.wants(id) {
            self.parts[id.index()].push(part);
        }
    }

    /// The gradient of a value, all parts together, once every reader has contributed.
    pub(super) fn take_gradient(&mut self, id: ValueId) -> Option<ValueId> {
        let parts = std::mem::take(&mut self.parts[id.index()]);
        if parts.is_empty() {
            return None;
        }
        let shape = self.shape(id);
        let mut dense: Vec<ValueId> = Vec::new();
        let mut ranges = Vec::new();
        let mut scattered = Vec::new();
        for part in parts {
            match part {
                Part::Dense(gradient) => dense.push(gradient),
                Part::Range { axis, begin, size, gradient } => {
                    ranges.push((axis, begin, size, gradient));
                }
                Part::Scattered { along, indices, updates, axis } => {
                    scattered.push((along, indices, updates, axis));
                }
            }
        }
        self.join_ranges(&shape, ranges, &mut dense);
        let sum = dense.into_iter().reduce(|a, b| self.builder.add(a, b));
        if scattered.is_empty() {
            return sum;
        }
        let mut sum = match sum {
            Some(sum) => self.full(sum, &shape),
            None => self.zeros_like(id),
        };
        for (along, indices, updates, axis) in scattered {
            let mode = ScatterMode::Add;
            sum = self.builder.push(&if along {
                Op::ScatterAlongAxis { data: sum, indices, updates, axis, mode }
            } else {
                Op::Scatter { data: sum, indices, updates, axis, mode }
            });
        }
        Some(sum)
    }

    /// Turns ranges into dense gradients: those of one axis that do not overlap are joined.
    fn join_ranges(
        &mut self,
        shape: &[usize],
        mut ranges: Vec<(usize, usize, usize, ValueId)>,
        dense: &mut Vec<ValueId>,
    ) {
        ranges.sort_by_key(|&(axis, begin, _, _)| (axis, begin));
        for group in ranges.chunk_by(|a, b| a.0 == b.0) {
            let overlap = group.windows(2).any(|w| w[0].1 + w[0].2 > w[1].1);
            let axis = group[0].0;
            if overlap || group.len() == 1 {
                for &(axis, begin, size, gradient) in group {
                    let mut pads = vec![(0, 0); shape.len()];
                    pads[axis] = (begin, shape[axis] - begin - size);
                    let gradient = self.full_along(gradient, axis, size);
                    dense.push(self.builder.pad_zero(gradient, &pads));
                }
                continue;
            }
            let mut pieces = Vec::new();
            let mut next = 0;
            let mut part_shape = shape.to_vec();
            let dtype = self.builder.dtype(group[0].3);
            for &(_, begin, size, gradient) in group {
                if begin > next {
                    part_shape[axis] = begin - next;
                    pieces.push(self.builder.fill(dtype, &part_shape, 0.0));
                }
                part_shape[axis] = size;
                pieces.push(self.full(gradient, &part_shape));
                next = begin + size;
            }
            if next < shape[axis] {
                part_shape[axis] = shape[axis] - next;
                pieces.push(self.builder.fill(dtype, &part_shape, 0.0));
            }
            dense.push(self.builder.concat(&pieces, axis));
        }
    }

    /// The gradient of a parameter, of its type and under a name of its own; zeros when nothing
    /// arrived.
    pub(super) fn finish_parameter(&mut self, id: ValueId, name: &str) -> ValueId {
        let gradient = match self.take_gradient(id) {
            Some(gradient) => {
                let shape = self.shape(id);
                self.full(gradient, &shape)
            }
            None => self.zeros_like(id),
        };
        // A value that was there before, or is the gradient of another parameter, has a name.
        let gradient = if gradient.index() < self.first_new || self.named.contains(&gradient) {
            self.builder.push(&Op::Identity { x: gradient })
        } else {
            gradient
        };
        self.builder.rename(gradient, name);
        self.named.push(gradient);
        gradient
    }

    /// Zeros of a value's type.
    pub(super) fn zeros_like(&mut self, id: ValueId) -> ValueId {
        let (dtype, shape) = (self.builder.dtype(id), self.shape(id));
        self.builder.fill(dtype, &shape, 0.0)
    }

    /// A gradient repeated along the axes where it is constant.
    pub(super) fn full(&mut self, gradient: ValueId, shape: &[usize]) -> ValueId {
        let now = self.shape(gradient);
        if now == shape {
            return gradient;
        }
        let reps: Vec<usize> =
            now.iter().zip(shape).map(|(&n, &s)| if n == s { 1 } else { s }).collect();
        self.builder.tile(gradient, &reps)
    }

    /// The same along one axis only.
    pub(super) fn full_along(&mut self, gradient: ValueId, axis: usize, size: usize) -> ValueId {
        let mut shape = self.shape(gradient);
        shape[axis] = size;
        self.full(gradient, &shape)
    }

    /// The gradient of an operand that was broadcast from `target` to `shape`: sums over the
    /// axes it was repeated along. `gradient` has the rank of `shape` and may be constant along
    /// some axes; the result may be too.
    pub(super) fn reduce_to(
        &mut self,
        gradient: ValueId,
        shape: &[usize],
        target: &[usize],
    ) -> ValueId {
        let now = self.shape(gradient);
        let added = shape.len() - target.len();
        let mut axes = Vec::new();
        let mut repeated = 1;
        for axis in 0..shape.len() {
            let size = if axis < added { 1 } else { target[axis - added] };
            if size == 1 && shape[axis] > 1 {
                if now[axis] == 1 {
                    repeated *= shape[axis];
                } else {
                    axes.push(axis);
                }
            }
        }
        let mut result = gradient;
        if !axes.is_empty() {
            result = self.builder.reduce(Reduction::Sum, result, &axes, true);
        }
        if repeated > 1 {
            result = self.builder.scale(result, repeated as f64);
        }
        let kept = self.shape(result)[added..].to_vec();
        debug_assert_eq!(element_count(&kept), element_count(&self.shape(result)));
        self.builder.reshape(result, &kept)
    }

    /// Contributes the gradient of an operand that was broadcast to `shape`.
    pub(super) fn contribute_broadcast(
        &mut self,
        operand: ValueId,
        gradient: ValueId,
        shape: &[usize],
    ) {
        if self.wants(operand) {
            let target = self.shape(operand);
            let gradient = self.reduce_to(gradient, shape, &target);
            self.contribute(operand, gradient);
        }
    }
}
