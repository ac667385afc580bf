//! Gradients of reductions, running sums and softmax.
//! Sums and means give gradients that stay constant along the reduced axes: nothing is repeated.

use super::backward::Backward;
use orion_mil::op::{Binary, Reduction, Unary};
use orion_mil::{Op, ValueId};
use orion_tensor::DType;

impl Backward {
    /// A result of a reduction, or its gradient, with the reduced axes back as size 1.
    fn with_reduced_axes(&mut self, v: ValueId, x: ValueId, axes: &[usize]) -> ValueId {
        let shape = self.shape(x);
        let now = self.shape(v);
        if now.len() == shape.len() {
            return v;
        }
        let mut kept = now.into_iter();
        let target: Vec<usize> = (0..shape.len())
            .map(|axis| if axes.contains(&axis) { 1 } else { kept.next().expect("an axis") })
            .collect();
        self.builder.reshape(v, &target)
    }

    pub(super) fn reduce(
        &mut self,
        kind: Reduction,
        x: ValueId,
        axes: &[usize],
        out: ValueId,
        g: ValueId,
    ) {
        let g = self.with_reduced_axes(g, x, axes);
        let shape = self.shape(x);
        let count: usize = axes.iter().map(|&axis| shape[axis]).product();
        let gradient = match kind {
            Reduction::Sum => g,
            Reduction::Mean => self.builder.scale(g, 1.0 / count as f64),
            Reduction::Max | Reduction::Min => {
                // Ties share the gradient evenly.
                let out = self.with_reduced_axes(out, x, axes);
                let b = &mut self.builder;
                let is_extreme = b.binary(Binary::Equal, x, out);
                let dtype = b.dtype(x);
                let share = b.cast(is_extreme, dtype);
                let ties = b.reduce(Reduction::Sum, share, axes, true);
                let each = b.div(g, ties);
                b.mul(share, each)
            }
            Reduction::Prod => self.product_gradient(x, axes, g),
            Reduction::L2Norm => {
                // Zero at the origin, where the norm has no derivative.
                let out = self.with_reduced_axes(out, x, axes);
                let b = &mut self.builder;
                let zero = b.number(g, 0.0);
                let is_zero = b.binary(Binary::Equal, out, zero);
                let quotient = b.div(g, out);
                let factor = b.select(is_zero, zero, quotient);
                b.mul(x, factor)
            }
            Reduction::L1Norm => {
                let sign = self.builder.unary(Unary::Sign, x);
                self.builder.mul(g, sign)
            }
            Reduction::SumSquare => {
                let double = self.builder.scale(g, 2.0);
                self.builder.mul(double, x)
            }
            Reduction::LogSum => {
                let b = &mut self.builder;
                let sum = b.reduce(Reduction::Sum, x, axes, true);
                b.div(g, sum)
            }
            Reduction::LogSumExp => {
                let softmax = if let [axis] = axes {
                    self.builder.softmax(x, *axis)
                } else {
                    let out = self.with_reduced_axes(out, x, axes);
                    let shifted = self.builder.sub(x, out);
                    self.builder.unary(Unary::Exp, shifted)
                };
                self.builder.mul(softmax, g)
            }
        };
        self.contribute(x, gradient);
    }

    /// The product of all others, right also where one or more elements are zero.
    fn product_gradient(&mut self, x: ValueId, axes: &[usize], g: ValueId) -> ValueId {
        let b = &mut self.builder;
        let dtype = b.dtype(x);
        let (zero, one) = (b.number(x, 0.0), b.number(x, 1.0));
        let is_zero = b.binary(Binary::Equal, x, zero);
        let zeros = b.cast(is_zero, dtype);
        let zero_count = b.reduce(Reduction::Sum, zeros, axes, true);
        let nonzero = b.select(is_zero, one, x);
        let product = b.reduce(Reduction::Prod, nonzero, axes, true);
        let others = b.div(product, nonzero);
        // An element's others are free of zeros when every zero is the element itself.
        let own_only = b.binary(Binary::Equal, zero_count, zeros);
        let slope = b.select(own_only, others, zero);
        b.mul(g, slope)
    }

    pub(super) fn cumsum(
        &mut self,
        x: ValueId,
        axis: usize,
        exclusive: bool,
        reverse: bool,
        g: ValueId,
    ) {
        let size = self.shape(x)[axis];
        let whole = self.full_along(g, axis, size);
        let gradient =
            self.builder.push(&Op::Cumsum { x: whole, axis, exclusive, reverse: !reverse });
        self.contribute(x, gradient);
    }

    /// `y (g - Σ g y)`
    pub(super) fn softmax(&mut self, x: ValueId, axis: usize, y: ValueId, g: ValueId) {
        let b = &mut self.builder;
        let weighted = b.mul(g, y);
        let sum = b.reduce(Reduction::Sum, weighted, &[axis], true);
        let centered = b.sub(g, sum);
        let gradient = b.mul(y, centered);
        self.contribute(x, gradient);
    }

    /// int32 view of indices, which may be of any integer type.
    pub(super) fn int32(&mut self, indices: ValueId) -> ValueId {
        self.builder.cast(indices, DType::I32)
    }
}
