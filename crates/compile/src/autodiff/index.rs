//! Gradients of ops that move elements at computed positions: gathers add up by scatters,
//! scatters are read back by gathers. Scatters that multiply or compare are refused.

use super::backward::{Backward, Refusal};
use orion_mil::op::{Binary, ScatterMode};
use orion_mil::{Builder, Op, ValueId};
use orion_tensor::{DType, Tensor, element_count};

impl Backward {
    pub(super) fn dynamic_slice(&mut self, x: ValueId, begin: ValueId, out: ValueId, g: ValueId) {
        let shape = self.shape(out);
        let update = self.full(g, &shape);
        let zeros = self.zeros_like(x);
        let gradient = self.builder.slice_update(zeros, update, begin);
        self.contribute(x, gradient);
    }

    /// Of x's gradient the replaced part is zero; that part is the update's.
    pub(super) fn slice_update(&mut self, op: &Op, g: ValueId) {
        let Op::SliceUpdate { x, update, begin, end, begin_mask, end_mask } = op else {
            unreachable!("a slice_update")
        };
        let shape = self.shape(*x);
        let g = self.full(g, &shape);
        if self.wants(*x) {
            let zeros = self.zeros_like(*update);
            let gradient = self.builder.push(&Op::SliceUpdate {
                x: g,
                update: zeros,
                begin: *begin,
                end: *end,
                begin_mask: begin_mask.clone(),
                end_mask: end_mask.clone(),
            });
            self.contribute(*x, gradient);
        }
        if self.wants(*update) {
            let begin = self.int32(*begin);
            let begin = if begin_mask.contains(&true) {
                let kept: Vec<i32> = begin_mask.iter().map(|&masked| i32::from(!masked)).collect();
                let kept = self.builder.ints(&kept);
                self.builder.mul(begin, kept)
            } else {
                begin
            };
            let size = self.shape(*update);
            let gradient = self.builder.push(&Op::DynamicSlice { x: g, begin, size });
            self.contribute(*update, gradient);
        }
    }

    pub(super) fn gather(
        &mut self,
        x: ValueId,
        indices: ValueId,
        axis: usize,
        batch_dims: usize,
        out: ValueId,
        g: ValueId,
    ) {
        let shape = self.shape(out);
        let g = self.full(g, &shape);
        if batch_dims == 0 {
            self.contribute_scattered(x, false, indices, g, axis);
            return;
        }
        // With x as [B, M, D, P] and indices as [B, J]: batch and axis become one axis, and the
        // index of batch b starts at b D.
        let x_shape = self.shape(x);
        let index_shape = self.shape(indices);
        let batch = element_count(&x_shape[..batch_dims]);
        let middle = element_count(&x_shape[batch_dims..axis]);
        let size = x_shape[axis];
        let after = element_count(&x_shape[axis + 1..]);
        let count = element_count(&index_shape[batch_dims..]);

        let indices = self.int32(indices);
        let b = &mut self.builder;
        let indices = b.reshape(indices, &[batch, count]);
        let wrapped = b.offset(indices, size as f64);
        let zero = b.number(indices, 0.0);
        let is_negative = b.binary(Binary::Less, indices, zero);
        let positive = b.select(is_negative, wrapped, indices);
        let starts: Vec<i32> = (0..batch).map(|i| (i * size) as i32).collect();
        let starts = b.constant(Tensor::from_slice(&[batch, 1], &starts));
        let positions = b.add(positive, starts);
        let positions = b.reshape(positions, &[batch * count]);

        let updates = b.reshape(g, &[batch, middle, count, after]);
        let updates = b.transpose(updates, &[0, 2, 1, 3]);
        let updates = b.reshape(updates, &[batch * count, middle * after]);
        let dtype = b.dtype(g);
        let zeros = b.fill(dtype, &[batch * size, middle * after], 0.0);
        let sums = b.scatter_add(zeros, positions, updates, 0);
        let sums = b.reshape(sums, &[batch, size, middle, after]);
        let sums = b.transpose(sums, &[0, 2, 1, 3]);
        let gradient = b.reshape(sums, &x_shape);
        self.contribute(x, gradient);
    }

    pub(super) fn gather_along_axis(
        &mut self,
        x: ValueId,
        indices: ValueId,
        axis: usize,
        out: ValueId,
        g: ValueId,
    ) {
        let shape = self.shape(out);
        let updates = self.full(g, &shape);
        self.contribute_scattered(x, true, indices, updates, axis);
    }

    pub(super) fn scatter(
        &mut self,
        data: ValueId,
        indices: ValueId,
        updates: ValueId,
        axis: usize,
        mode: ScatterMode,
        g: ValueId,
    ) -> Result<(), Refusal> {
        let put = |b: &mut Builder, data, updates| {
            b.push(&Op::Scatter { data, indices, updates, axis, mode })
        };
        let take = |b: &mut Builder, data| b.gather(data, indices, axis);
        let (shape, index_shape) = (self.shape(data), self.shape(indices));
        self.scattered(data, updates, mode, g, &put, &take, &|b| {
            let count = element_count(&index_shape);
            let numbers: Vec<i32> = (0..count as i32).collect();
            let numbers = b.constant(Tensor::from_slice(&index_shape, &numbers));
            let none = b.fill(DType::I32, &[shape[axis]], -1.0);
            let last =
                b.push(&Op::Scatter { data: none, indices, updates: numbers, axis: 0, mode });
            let winner = b.gather(last, indices, 0);
            let wins = b.binary(Binary::Equal, winner, numbers);
            // Shape of updates: data[..axis] ++ indices ++ data[axis + 1..].
            let mut aligned = vec![1; axis];
            aligned.extend(&index_shape);
            aligned.resize(shape.len() - 1 + index_shape.len(), 1);
            b.reshape(wins, &aligned)
        })
    }

    pub(super) fn scatter_along_axis(
        &mut self,
        data: ValueId,
        indices: ValueId,
        updates: ValueId,
        axis: usize,
        mode: ScatterMode,
        g: ValueId,
    ) -> Result<(), Refusal> {
        let put = |b: &mut Builder, data, updates| {
            b.push(&Op::ScatterAlongAxis { data, indices, updates, axis, mode })
        };
        let take = |b: &mut Builder, data| b.gather_along_axis(data, indices, axis);
        let (shape, index_shape) = (self.shape(data), self.shape(indices));
        self.scattered(data, updates, mode, g, &put, &take, &|b| {
            // A number for each position of the axis.
            let count = index_shape[axis];
            let mut aligned = vec![1; index_shape.len()];
            aligned[axis] = count;
            let numbers: Vec<i32> = (0..count as i32).collect();
            let numbers = b.constant(Tensor::from_slice(&aligned, &numbers));
            let mut reps = index_shape.clone();
            reps[axis] = 1;
            let numbers = b.tile(numbers, &reps);
            let none = b.fill(DType::I32, &shape, -1.0);
            let last = put(b, none, numbers);
            let winner = take(b, last);
            b.binary(Binary::Equal, winner, numbers)
        })
    }

    /// The backward pass of an operation that `put`s updates where `take` takes them from.
    /// `wins` says which updates stay when several go to one position: the last of them.
    #[expect(clippy::too_many_arguments, reason = "an operation, its gradient and its inverse")]
    fn scattered(
        &mut self,
        data: ValueId,
        updates: ValueId,
        mode: ScatterMode,
        g: ValueId,
        put: &dyn Fn(&mut Builder, ValueId, ValueId) -> ValueId,
        take: &dyn Fn(&mut Builder, ValueId) -> ValueId,
        wins: &dyn Fn(&mut Builder) -> ValueId,
    ) -> Result<(), Refusal> {
        let shape = self.shape(data);
        let g = self.full(g, &shape);
        match mode {
            ScatterMode::Add | ScatterMode::Sub => self.contribute(data, g),
            ScatterMode::Update => {
                if self.wants(data) {
                    let zeros = self.zeros_like(updates);
                    let gradient = put(&mut self.builder, g, zeros);
                    self.contribute(data, gradient);
                }
            }
            _ => return Err(unsupported_mode(mode)),
        }
        if self.wants(updates) {
            let b = &mut self.builder;
            let mut gradient = take(b, g);
            if mode == ScatterMode::Sub {
                gradient = b.scale(gradient, -1.0);
            }
            if mode == ScatterMode::Update {
                let wins = wins(b);
                let zero = b.number(gradient, 0.0);
                gradient = b.select(wins, gradient, zero);
            }
            self.contribute(updates, gradient);
        }
        Ok(())
    }

    pub(super) fn top_k(
        &mut self,
        x: ValueId,
        k: usize,
        axis: usize,
        ascending: bool,
        outputs: &[ValueId],
        g: ValueId,
    ) {
        let indices = match outputs {
            [_, indices] => *indices,
            _ => self.builder.push_all(&Op::TopK { x, k, axis, ascending }, 2)[1],
        };
        let updates = self.full_along_all(g, outputs[0]);
        self.contribute_scattered(x, true, indices, updates, axis);
    }

    fn full_along_all(&mut self, g: ValueId, like: ValueId) -> ValueId {
        let shape = self.shape(like);
        self.full(g, &shape)
    }
}

fn unsupported_mode(mode: ScatterMode) -> Refusal {
    Refusal::NotSupported(format!(
        "gradients of a scatter that combines by {mode:?} are not supported: only update, add \
         and sub are"
    ))
}
