//! Lowers products of matrices: `matmul`, `linear`, pointwise `conv`, attention.

use super::expression::Expression;
use super::lower::{Lowering, is_float_lane};
use super::view::View;
use crate::kernels::gemm::Size;
use crate::steps::{Bias, Contraction, Factor, Kind, Method};
use orion_mil::op::Binary;
use orion_mil::{Op, ValueId};
use orion_tensor::{DType, broadcast_shapes, element_count};

impl Lowering<'_> {
    pub(super) fn contract(&mut self, op: &Op, outputs: &[ValueId]) {
        let output = outputs[0];
        let floats = op
            .operands()
            .iter()
            .all(|&v| is_float_lane(self.ty(v).dtype) || self.ty(v).dtype == DType::Bool);
        if !floats || !is_float_lane(self.ty(output).dtype) {
            return self.evaluate(op, outputs);
        }
        match op {
            Op::Matmul { x, y, transpose_x, transpose_y } => {
                let (mut a, mut b) = (self.view(*x), self.view(*y));
                if a.shape.len() == 1 {
                    a = a.with_rank(2);
                } else if *transpose_x {
                    a = a.transposed();
                }
                if b.shape.len() == 1 {
                    b = b.with_rank(2).transposed();
                } else if *transpose_y {
                    b = b.transposed();
                }
                let to = self.output(output);
                let batch =
                    broadcast_shapes(&a.shape[..a.shape.len() - 2], &b.shape[..b.shape.len() - 2]);
                let mut shape = batch.expect("inference checked the operands");
                shape.extend([a.shape[a.shape.len() - 2], b.shape[b.shape.len() - 1]]);
                let c = to.reshape(&shape).expect("axes of size 1 fit anywhere");
                self.product(&a, &b, &c);
            }
            Op::Linear { x, weight, bias } => {
                let (a, b) = (self.view(*x), self.view(*weight).transposed());
                let bias = bias.map(|b| self.view(b));
                let a = if a.shape.len() == 1 { a.with_rank(2) } else { a };
                let to = self.output(output);
                // All leading axes together, where strides can say that.
                let rows = element_count(&a.shape[..a.shape.len() - 1]);
                let a = self.dense_or_merged(&a, rows);
                let c = to.reshape(&[rows, b.shape[1]]).expect("new buffers are dense");
                self.product_with_bias(&a, &b, &c, bias.as_ref());
            }
            Op::Conv { x, weight, bias, .. } if self.is_pointwise(op) => {
                let (x, weight) = (self.view(*x), self.view(*weight));
                let bias = bias.map(|b| self.view(b));
                let (batch, channels) = (x.shape[0], x.shape[1]);
                let positions = element_count(&x.shape[2..]);
                let flat = [batch, channels, positions];
                let x = x.reshape(&flat).unwrap_or_else(|| {
                    let dense = self.dense_view(&x);
                    dense.reshape(&flat).expect("dense tensors take any shape")
                });
                let rows = weight.shape[0];
                let a = weight.reshape(&[1, rows, channels]).unwrap_or_else(|| {
                    let dense = self.dense_view(&weight);
                    dense.reshape(&[1, rows, channels]).expect("dense tensors take any shape")
                });
                let to = self.output(output);
                let bias = bias.map(|b| b.reshape(&[rows, 1]).expect("one axis"));
                let shape = [batch, rows, positions];
                match to.reshape(&shape) {
                    Some(c) => self.product_with_bias(&a, &x, &c, bias.as_ref()),
                    None => {
                        let c = self.temporary(to.dtype, &shape);
                        self.product_with_bias(&a, &x, &c, bias.as_ref());
                        let c = c.reshape(&to.shape).expect("dense tensors take any shape");
                        self.convert(&c, &to);
                    }
                }
            }
            Op::Attention { query, key, value, mask } => {
                self.attention(*query, *key, *value, *mask, output);
            }
            _ => self.evaluate(op, outputs),
        }
    }

    /// Whether a convolution is a product of matrices.
    pub(super) fn is_pointwise(&self, op: &Op) -> bool {
        let Op::Conv { weight, strides, pads, groups: 1, .. } = op else { return false };
        self.shape(*weight)[2..].iter().chain(strides).all(|&n| n == 1)
            && pads.iter().all(|&p| p == (0, 0))
    }

    fn dense_or_merged(&mut self, view: &View, rows: usize) -> View {
        let shape = [rows, view.shape[view.shape.len() - 1]];
        view.reshape(&shape).unwrap_or_else(|| {
            self.dense_view(view).reshape(&shape).expect("dense tensors take any shape")
        })
    }

    /// `c = a · b + bias`, with the bias broadcast.
    fn product_with_bias(&mut self, a: &View, b: &View, c: &View, bias: Option<&View>) {
        let Some(bias) = bias else { return self.product(a, b, c) };
        let rank = c.shape.len();
        let contiguous = c.shape[rank - 1] == 1 || c.strides[rank - 1] == 1;
        let is_f32 = c.dtype == DType::F32 && bias.dtype == DType::F32;
        if contiguous && is_f32 && bias.shape == [a_rows(a), 1] {
            self.product(a, b, c);
            let step = self.steps.last_mut().expect("a product is a step");
            if let Kind::Contraction(product) = &mut step.kind
                && product.size.m == a_rows(a)
                && product.size.n == c.shape[rank - 1]
                && product.method != Method::SumRows
            {
                let stride = bias.strides[0];
                product.bias = Some(Bias { buffer: bias.buffer, offset: bias.offset, stride });
                step.reads.push(bias.clone());
                return;
            }
            self.steps.pop();
        }
        let sum = self.temporary(DType::F32, &c.shape);
        self.product(a, b, &sum);
        let mut add = Expression::over(&c.shape);
        let (x, y) = (add.input(&sum), add.input(bias));
        let result = add.binary(Binary::Add, x, y);
        self.map(add, &[(result, c.clone())]);
    }

    /// `c = a · b` over the last two axes; leading axes of `a` and `b` broadcast to those of `c`.
    fn product(&mut self, a: &View, b: &View, c: &View) {
        let rank = c.shape.len();
        let columns_touch = |v: &View| v.shape[rank - 1] == 1 || v.strides[rank - 1] == 1;
        let rows_touch = |v: &View| v.shape[rank - 2] == 1 || v.strides[rank - 2] == 1;
        let scales = self.scales.get(&a.buffer).copied();
        // What is scaled by rows stays the left factor.
        let turns = rows_touch(c) && scales.is_none();
        if c.dtype != DType::F32 || !columns_touch(c) && !turns {
            let sum = self.temporary(DType::F32, &c.shape);
            self.product(a, b, &sum);
            return self.convert(&sum, c);
        }
        if !columns_touch(c) {
            // Cᵀ = Bᵀ Aᵀ
            return self.product(&b.transposed(), &a.transposed(), &c.transposed());
        }
        let batch_shape = &c.shape[..rank - 2];
        let of = |v: &View| {
            let full = [batch_shape, &v.shape[v.shape.len() - 2..]].concat();
            v.broadcast(&full)
        };
        let (a, b) = (of(a), of(b));
        let mut size = Size { m: c.shape[rank - 2], n: c.shape[rank - 1], k: a.shape[rank - 1] };
        let mut batch = vec![[a.offset, b.offset, c.offset]];
        for axis in 0..rank - 2 {
            let strides = [a.strides[axis], b.strides[axis], c.strides[axis]];
            let n = c.shape[axis] as isize;
            let next = batch.iter().flat_map(|start| {
                (0..n).map(move |i| std::array::from_fn(|f| start[f] + i * strides[f]))
            });
            batch = next.collect();
        }
        let (mut fa, mut fb, mut fc) = (Factor::of(&a), Factor::of(&b), Factor::of(c));
        // One column times a matrix whose columns lie together, or one row times one whose rows
        // do not: the transposed problem reads memory in order.
        let column = size.n == 1 && fa.column != 1 && fa.row == 1 && fc.row == 1;
        let row = size.m == 1 && size.n > 4 && fb.column != 1 && fb.row == 1 && scales.is_none();
        if column || row {
            fc = Factor { row: if column { size.m as isize } else { 1 }, column: 1, ..fc };
            size = Size { m: size.n, n: size.m, k: size.k };
            (fa, fb) = (fb.transposed(), fa.transposed());
            batch.iter_mut().for_each(|o| o.swap(0, 1));
        }
        let mut reads = vec![a, b];
        let by_block = scales.into_iter().flat_map(|s| [Some(s.buffer), s.offsets]).flatten();
        reads.extend(by_block.map(|buffer| self.whole(buffer, DType::F32)));
        let method = Contraction::method(size, &fa, &fb, batch.len());
        let contraction = Contraction {
            size,
            a: fa,
            b: fb,
            c: fc,
            scales,
            bias: None,
            batch,
            method,
            precision: self.precision,
        };
        self.step(Kind::Contraction(contraction), reads, vec![c.clone()]);
    }

    fn attention(
        &mut self,
        query: ValueId,
        key: ValueId,
        value: ValueId,
        mask: Option<ValueId>,
        output: ValueId,
    ) {
        let to = self.output(output);
        if to.dtype == DType::F32 {
            return self.attention_step([query, key, value], mask, &to);
        }
        let wide = self.temporary(DType::F32, &to.shape);
        self.attention_step([query, key, value], mask, &wide);
        self.convert(&wide, &to);
    }
}

/// Rows of a left factor.
fn a_rows(a: &View) -> usize {
    a.shape[a.shape.len() - 2]
}
