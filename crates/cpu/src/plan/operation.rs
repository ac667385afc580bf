//! Lowers operations that are not computed element by element: what moves elements, and what
//! chooses them by index. The rest is in `contract` and `normalize`.

use super::Home;
use super::expression::Expression;
use super::lower::{Lowering, Stored};
use super::view::View;
use crate::steps::{Gather, GatherAlongAxis, Kind, Map, Moved, Scatter, ScatterAlongAxis};
use orion_mil::evaluate::evaluate;
use orion_mil::op::{PadMode, ScatterMode};
use orion_mil::{Op, ValueId};
use orion_tensor::{DType, element_count};

impl Lowering<'_> {
    /// Lowers one operation.
    pub(super) fn operation(&mut self, op: &Op, outputs: &[ValueId]) {
        let empty = |this: &Self, v: &ValueId| this.shape(*v).contains(&0);
        let known_empty = match op {
            Op::Const(_) | Op::Constexpr(_) | Op::ReadState { .. } | Op::WriteState { .. } => false,
            _ => op.operands().iter().chain(outputs).any(|v| empty(self, v)),
        };
        if known_empty {
            // Nothing to compute, but perhaps something to fill: the definition knows.
            return self.evaluate(op, outputs);
        }
        match op {
            Op::Const(_) => {}
            // Unpacked when planning, unless it is computed from what a program is given.
            Op::Constexpr(_) => {
                if matches!(self.stored[outputs[0].index()], Stored::Nothing) {
                    self.evaluate(op, outputs);
                }
            }
            Op::Fill { .. } | Op::Range { .. } => self.generated(op, outputs[0]),
            Op::Identity { x } => self.stored[outputs[0].index()] = self.stored[x.index()].clone(),
            Op::Reshape { x, shape } => {
                let view = self.view(*x);
                let view = view.reshape(shape).unwrap_or_else(|| {
                    self.dense(*x).reshape(shape).expect("dense tensors take any shape")
                });
                self.stored[outputs[0].index()] = Stored::At(view);
            }
            Op::Transpose { x, perm } => self.transpose(*x, perm, outputs[0]),
            Op::Slice { x, begin, size, stride, squeeze } => {
                let view = self.view(*x).slice(begin, size, stride);
                let view = dropped(&view, squeeze);
                self.stored[outputs[0].index()] = Stored::At(view);
            }
            Op::Split { x, axis, sizes } => {
                let view = self.view(*x);
                let mut begin = 0;
                for (&output, &size) in outputs.iter().zip(sizes) {
                    let part = view.part(*axis, begin, size);
                    self.stored[output.index()] = Stored::At(part);
                    begin += size;
                }
            }
            Op::Concat { values, axis, interleave } => {
                self.concat(values, *axis, *interleave, outputs[0]);
            }
            Op::Stack { values, axis } => {
                let whole = self.output(outputs[0]);
                for (i, &value) in values.iter().enumerate() {
                    let to = whole.part(*axis, i, 1);
                    let view = self.view(value);
                    let from = view.reshape(&to.shape).expect("an axis of size 1 fits anywhere");
                    self.copy(&from, &to);
                }
            }
            Op::Tile { x, reps } => {
                let x = self.view(*x);
                let whole = self.output(outputs[0]);
                let mut from = x.clone();
                (from.shape, from.strides) = (Vec::new(), Vec::new());
                for (axis, &count) in reps.iter().enumerate() {
                    from.shape.extend([count, x.shape[axis]]);
                    from.strides.extend([0, x.strides[axis]]);
                }
                let to = whole.reshape(&from.shape).expect("new buffers are dense");
                self.copy(&from, &to);
            }
            Op::Pad { x, pads, mode: PadMode::Constant(value) } => {
                let Some(bits) = super::lower::bits_of(self.ty(*x).dtype, *value) else {
                    return self.evaluate(op, outputs);
                };
                let x = self.view(*x);
                let whole = self.output(outputs[0]);
                let mut fill = Expression::over(&whole.shape);
                let number = fill.bits(bits);
                self.map(fill, &[(number, whole.clone())]);
                let begin: Vec<usize> = pads.iter().map(|p| p.0).collect();
                let to = whole.slice(&begin, &x.shape, &vec![1; begin.len()]);
                self.copy(&x, &to);
            }
            Op::DynamicSlice { x, begin, size } => {
                if self.ty(*begin).dtype != DType::I32 || self.ty(*x).dtype.size_bytes() > 4 {
                    return self.evaluate(op, outputs);
                }
                let (of, begin) = (self.view(*x), self.dense(*begin));
                let to = self.output(outputs[0]);
                let window = self.buffer(0, Home::Window);
                let from = View { buffer: window, shape: size.clone(), ..of.clone() };
                let ignored = vec![false; size.len()];
                self.window(from, to, Moved { begin, of, size: size.clone(), ignored, window });
            }
            Op::SliceUpdate { x, update, begin, begin_mask, .. } => {
                if self.ty(*begin).dtype != DType::I32 || self.ty(*x).dtype.size_bytes() > 4 {
                    return self.evaluate(op, outputs);
                }
                let (old, begin) = (self.view(*x), self.dense(*begin));
                let from = self.view(*update);
                let of = self.output(outputs[0]);
                self.copy(&old, &of);
                let window = self.buffer(0, Home::Window);
                let size = from.shape.clone();
                let to = View { buffer: window, shape: size.clone(), ..of.clone() };
                let ignored = begin_mask.clone();
                self.window(from, to, Moved { begin, of, size, ignored, window });
            }
            Op::Gather { .. }
            | Op::GatherAlongAxis { .. }
            | Op::Scatter { .. }
            | Op::ScatterAlongAxis { .. } => self.indexed(op, outputs),
            Op::Matmul { .. } | Op::Linear { .. } | Op::Conv { .. } | Op::Attention { .. } => {
                self.contract(op, outputs);
            }
            Op::Reduce { .. }
            | Op::Softmax { .. }
            | Op::LayerNorm { .. }
            | Op::BatchNorm { .. } => self.normalize(op, outputs),
            Op::ReadState { state } => {
                let current = self.states.get(state).copied().unwrap_or(*state);
                self.stored[outputs[0].index()] = self.stored[current.index()].clone();
            }
            Op::WriteState { state, data } => {
                self.states.insert(*state, *data);
            }
            Op::Cast { x, .. } if self.is_widened_by_products(op, outputs[0]) => {
                self.stored[outputs[0].index()] = Stored::At(self.view(*x));
            }
            Op::Cast { .. }
            | Op::Unary { .. }
            | Op::Binary { .. }
            | Op::Select { .. }
            | Op::ArgReduce { .. }
            | Op::Cumsum { .. }
            | Op::Pad { .. }
            | Op::BandPart { .. }
            | Op::OneHot { .. }
            | Op::TopK { .. }
            | Op::Einsum { .. }
            | Op::Prelu { .. }
            | Op::GatherNd { .. }
            | Op::ScatterNd { .. }
            | Op::ArgSort { .. }
            | Op::Quantize { .. }
            | Op::Dequantize { .. }
            | Op::Spatial(_)
            | Op::Sample(_)
            | Op::Suppression(_)
            | Op::Random(_)
            | Op::Recurrent(_) => self.evaluate(op, outputs),
        }
    }

    /// A tensor that depends on nothing.
    fn generated(&mut self, op: &Op, output: ValueId) {
        if !matches!(self.stored[output.index()], Stored::Nothing) {
            return;
        }
        match evaluate(op, &[], std::slice::from_ref(self.ty(output))) {
            Ok(mut tensors) => self.computed_constant(output, tensors.remove(0)),
            // What cannot be computed now cannot be computed later; running says why.
            Err(_) => self.evaluate(op, &[output]),
        }
    }

    /// Operations that read a value, also by way of others that only look at it differently.
    fn readers(&self, id: ValueId) -> Vec<usize> {
        let mut readers = Vec::new();
        let mut stack = self.uses[id.index()].clone();
        while let Some(i) = stack.pop() {
            match self.ops[i] {
                Op::Reshape { .. } | Op::Identity { .. } | Op::Slice { .. } => {
                    let output = self.function.body.operations[i].outputs[0];
                    stack.extend(&self.uses[output.index()]);
                }
                _ => readers.push(i),
            }
        }
        readers
    }

    fn transpose(&mut self, x: ValueId, perm: &[usize], output: ValueId) {
        let view = self.view(x).permute(perm);
        let last = |v: &View| {
            let moved = v.shape.iter().zip(&v.strides).rev().find(|&(&n, _)| n != 1);
            moved.is_none_or(|(_, &s)| s == 1)
        };
        let readers = self.readers(output);
        // Products take any strides; rows that stay rows cost nothing; one reader may as well
        // do the moving itself.
        let in_products = readers
            .iter()
            .all(|&i| matches!(self.ops[i], Op::Matmul { .. } | Op::Attention { .. }));
        let stays = last(&view) || in_products || readers.len() == 1;
        if stays && !self.is_result[output.index()] || view.is_dense() {
            self.stored[output.index()] = Stored::At(view);
        } else {
            let to = self.output(output);
            self.reason = if self.is_result[output.index()] {
                "a result of the program"
            } else {
                "several operations read it, and none that takes any strides"
            };
            self.copy(&view, &to);
        }
    }

    fn concat(&mut self, values: &[ValueId], axis: usize, interleave: bool, output: ValueId) {
        let whole = match &self.stored[output.index()] {
            Stored::At(view) => view.clone(),
            _ => self.output(output),
        };
        let mut begin = 0;
        for (i, &value) in values.iter().enumerate() {
            let from = self.view(value);
            let size = from.shape[axis];
            if interleave {
                let mut to = whole.clone();
                to.offset += i as isize * to.strides[axis];
                to.strides[axis] *= values.len() as isize;
                to.shape[axis] = size;
                self.copy(&from, &to);
                continue;
            }
            let to = whole.part(axis, begin, size);
            if !(self.is_in_place(value, output, begin) && from == to) {
                self.reason = "not computed right in its part of the whole";
                self.copy(&from, &to);
            }
            begin += size;
        }
    }

    /// A copy from or to a window at a computed position.
    fn window(&mut self, from: View, to: View, moved: Moved) {
        let mut copy = Expression::over(&to.shape);
        let (source, target) = (super::lower::lanes(&from), super::lower::lanes(&to));
        let value = copy.input(&source);
        let program = copy.into_map(&[(value, target)]);
        let reads = vec![from, moved.begin.clone(), moved.of.clone()];
        let real = |v: &View| v.buffer != moved.window;
        let reads: Vec<View> = reads.into_iter().filter(real).collect();
        let writes = vec![if real(&to) { to } else { moved.of.clone() }];
        self.step(Kind::Map(Map { program, moved: Some(moved) }), reads, writes);
    }

    /// Indices as dense int32, where their type can be converted.
    fn indices(&mut self, id: ValueId) -> Option<View> {
        let view = self.dense(id);
        match view.dtype {
            DType::I32 => Some(view),
            DType::I8 | DType::U8 | DType::I16 | DType::U16 => {
                let wide = self.temporary(DType::I32, &view.shape);
                self.convert(&view, &wide);
                Some(wide)
            }
            _ => None,
        }
    }

    fn indexed(&mut self, op: &Op, outputs: &[ValueId]) {
        let id = match op {
            Op::Gather { indices, .. }
            | Op::GatherAlongAxis { indices, .. }
            | Op::Scatter { indices, .. }
            | Op::ScatterAlongAxis { indices, .. } => *indices,
            _ => unreachable!("called for indexed operations"),
        };
        let dtype = self.ty(outputs[0]).dtype;
        let combines = |mode: ScatterMode| {
            dtype == DType::F32 || dtype == DType::I32 && mode != ScatterMode::Div
        };
        let known = match op {
            Op::Scatter { mode, .. } | Op::ScatterAlongAxis { mode, .. } => combines(*mode),
            _ => true,
        };
        let Some(indices) = known.then(|| self.indices(id)).flatten() else {
            return self.evaluate(op, outputs);
        };
        match op {
            Op::Gather { x, axis, batch_dims, .. } => {
                let x = self.dense(*x);
                let to = self.output(outputs[0]);
                let gather = Gather {
                    batch: element_count(&x.shape[..*batch_dims]),
                    outer: element_count(&x.shape[*batch_dims..*axis]),
                    axis: x.shape[*axis],
                    inner: element_count(&x.shape[axis + 1..]),
                    count: element_count(&indices.shape[*batch_dims..]),
                    x: x.clone(),
                    indices: indices.clone(),
                    to: to.clone(),
                };
                self.step(Kind::Gather(gather), vec![x, indices], vec![to]);
            }
            Op::GatherAlongAxis { x, axis, .. } => {
                let x = self.dense(*x);
                let to = self.output(outputs[0]);
                let gather = GatherAlongAxis {
                    axis: x.shape[*axis],
                    count: indices.shape[*axis],
                    inner: element_count(&x.shape[axis + 1..]),
                    x: x.clone(),
                    indices: indices.clone(),
                    to: to.clone(),
                };
                self.step(Kind::GatherAlongAxis(gather), vec![x, indices], vec![to]);
            }
            Op::Scatter { data, updates, axis, mode, .. } => {
                let (old, updates) = (self.view(*data), self.dense(*updates));
                let to = self.output(outputs[0]);
                self.copy(&old, &to);
                let scatter = Scatter {
                    outer: element_count(&to.shape[..*axis]),
                    axis: to.shape[*axis],
                    inner: element_count(&to.shape[axis + 1..]),
                    count: indices.element_count(),
                    mode: *mode,
                    indices: indices.clone(),
                    updates: updates.clone(),
                    to: to.clone(),
                };
                let reads = vec![indices, updates, to.clone()];
                self.step(Kind::Scatter(scatter), reads, vec![to]);
            }
            Op::ScatterAlongAxis { data, updates, axis, mode, .. } => {
                let (old, updates) = (self.view(*data), self.dense(*updates));
                let to = self.output(outputs[0]);
                self.copy(&old, &to);
                let scatter = ScatterAlongAxis {
                    axis: to.shape[*axis],
                    count: indices.shape[*axis],
                    inner: element_count(&to.shape[axis + 1..]),
                    mode: *mode,
                    indices: indices.clone(),
                    updates: updates.clone(),
                    to: to.clone(),
                };
                let reads = vec![indices, updates, to.clone()];
                self.step(Kind::ScatterAlongAxis(scatter), reads, vec![to]);
            }
            _ => unreachable!("called for indexed operations"),
        }
    }
}

/// A view without the axes marked, which have size 1.
fn dropped(view: &View, squeeze: &[bool]) -> View {
    let kept = |all: &[usize]| -> Vec<usize> {
        all.iter().zip(squeeze).filter(|&(_, &s)| !s).map(|(&n, _)| n).collect()
    };
    let strides = view.strides.iter().zip(squeeze).filter(|&(_, &s)| !s).map(|(&n, _)| n);
    View { shape: kept(&view.shape), strides: strides.collect(), ..view.clone() }
}
