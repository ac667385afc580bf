//! Gradients of ops that move elements at positions known when compiling.
//! They compute nothing but sums of what was repeated.

use super::backward::Backward;
use orion_mil::op::{PadMode, Reduction};
use orion_mil::{Op, ValueId};
use orion_tensor::element_count;

impl Backward {
    pub(super) fn reshape(&mut self, x: ValueId, out: ValueId, g: ValueId) {
        let (target, out_shape) = (self.shape(x), self.shape(out));
        let now = self.shape(g);
        let long = |shape: &[usize]| -> Vec<usize> {
            (0..shape.len()).filter(|&axis| shape[axis] != 1).collect()
        };
        let (from, to) = (long(&out_shape), long(&target));
        let same = from.len() == to.len()
            && from.iter().zip(&to).all(|(&f, &t)| out_shape[f] == target[t]);
        let gradient = if same {
            // Only axes of size 1 come and go: a gradient constant along an axis stays so.
            let mut shape = vec![1; target.len()];
            for (&f, &t) in from.iter().zip(&to) {
                shape[t] = now[f];
            }
            self.builder.reshape(g, &shape)
        } else if element_count(&now) == 1 {
            self.builder.reshape(g, &vec![1; target.len()])
        } else {
            let whole = self.full(g, &out_shape);
            self.builder.reshape(whole, &target)
        };
        self.contribute(x, gradient);
    }

    pub(super) fn transpose(&mut self, x: ValueId, perm: &[usize], g: ValueId) {
        let mut inverse = vec![0; perm.len()];
        for (to, &from) in perm.iter().enumerate() {
            inverse[from] = to;
        }
        let gradient = self.builder.transpose(g, &inverse);
        self.contribute(x, gradient);
    }

    pub(super) fn concat(
        &mut self,
        values: &[ValueId],
        axis: usize,
        interleave: bool,
        out: ValueId,
        g: ValueId,
    ) {
        let total = self.shape(out)[axis];
        let shape = self.shape(g);
        if shape[axis] == 1 && total > 1 {
            for &value in values {
                self.contribute(value, g);
            }
            return;
        }
        let mut offset = 0;
        for (position, &value) in values.iter().enumerate() {
            let count = self.shape(value)[axis];
            if self.wants(value) {
                let mut begin = vec![0; shape.len()];
                let mut size = shape.clone();
                let mut stride = vec![1; shape.len()];
                size[axis] = count;
                if interleave {
                    begin[axis] = position;
                    stride[axis] = values.len() as isize;
                } else {
                    begin[axis] = offset;
                }
                let squeeze = vec![false; shape.len()];
                let gradient = self.builder.push(&Op::Slice { x: g, begin, size, stride, squeeze });
                self.contribute(value, gradient);
            }
            offset += count;
        }
    }

    pub(super) fn stack(&mut self, values: &[ValueId], axis: usize, out: ValueId, g: ValueId) {
        let count = self.shape(out)[axis];
        let g = self.full_along(g, axis, count);
        let mut size = self.shape(g);
        size[axis] = 1;
        for (position, &value) in values.iter().enumerate() {
            if self.wants(value) {
                let mut begin = vec![0; size.len()];
                begin[axis] = position;
                let part = self.builder.slice(g, &begin, &size);
                let mut kept = size.clone();
                kept.remove(axis);
                let gradient = self.builder.reshape(part, &kept);
                self.contribute(value, gradient);
            }
        }
    }

    pub(super) fn split(
        &mut self,
        x: ValueId,
        axis: usize,
        sizes: &[usize],
        gradients: &[Option<ValueId>],
    ) {
        let mut begin = 0;
        for (&size, gradient) in sizes.iter().zip(gradients) {
            if let Some(gradient) = gradient {
                let part = self.full_along(*gradient, axis, size);
                self.contribute_range(x, axis, begin, part);
            }
            begin += size;
        }
    }

    pub(super) fn slice(
        &mut self,
        x: ValueId,
        begin: &[usize],
        size: &[usize],
        stride: &[isize],
        out: ValueId,
        g: ValueId,
    ) {
        let shape = self.shape(x);
        let out_shape = self.shape(out);
        let part: Vec<usize> = (0..shape.len()).filter(|&axis| size[axis] != shape[axis]).collect();
        let whole = self.full(g, &out_shape);
        let mut gradient = self.builder.reshape(whole, size);
        let strided: Vec<usize> =
            (0..shape.len()).filter(|&axis| size[axis] > 1 && stride[axis] != 1).collect();
        if let ([axis], []) = (&part[..], &strided[..]) {
            self.contribute_range(x, *axis, begin[*axis], gradient);
            return;
        }
        for &axis in &strided {
            let positions: Vec<usize> = (0..size[axis])
                .map(|i| (begin[axis] as isize + i as isize * stride[axis]) as usize)
                .collect();
            gradient = self.scatter_axis(gradient, axis, &positions, shape[axis]);
        }
        let pads: Vec<(usize, usize)> = (0..shape.len())
            .map(|axis| match strided.contains(&axis) {
                true => (0, 0),
                false => (begin[axis], shape[axis] - begin[axis] - size[axis]),
            })
            .collect();
        if pads.iter().any(|&p| p != (0, 0)) {
            gradient = self.builder.pad_zero(gradient, &pads);
        }
        self.contribute(x, gradient);
    }

    /// Adds position `i` of an axis to position `positions[i]` of an axis of another size.
    fn scatter_axis(
        &mut self,
        gradient: ValueId,
        axis: usize,
        positions: &[usize],
        size: usize,
    ) -> ValueId {
        let mut shape = self.shape(gradient);
        shape[axis] = size;
        let dtype = self.builder.dtype(gradient);
        let zeros = self.builder.fill(dtype, &shape, 0.0);
        let positions: Vec<i32> = positions.iter().map(|&p| p as i32).collect();
        let positions = self.builder.ints(&positions);
        self.builder.scatter_add(zeros, positions, gradient, axis)
    }

    pub(super) fn tile(&mut self, x: ValueId, reps: &[usize], out: ValueId, g: ValueId) {
        let target = self.shape(x);
        let out_shape = self.shape(out);
        let mut gradient = g;
        for axis in 0..target.len() {
            let (size, repeats) = (target[axis], reps[axis]);
            if repeats == 1 {
                continue;
            }
            let mut shape = self.shape(gradient);
            if shape[axis] == 1 && out_shape[axis] > 1 {
                gradient = self.builder.scale(gradient, repeats as f64);
                continue;
            }
            // Three axes are enough, and some devices have no more than five.
            let before = element_count(&shape[..axis]);
            let after = size * element_count(&shape[axis + 1..]);
            let folded = self.builder.reshape(gradient, &[before, repeats, after]);
            let summed = self.builder.reduce(Reduction::Sum, folded, &[1], false);
            shape[axis] = size;
            gradient = self.builder.reshape(summed, &shape);
        }
        self.contribute(x, gradient);
    }

    pub(super) fn pad(
        &mut self,
        x: ValueId,
        pads: &[(usize, usize)],
        mode: PadMode,
        out: ValueId,
        g: ValueId,
    ) {
        let shape = self.shape(x);
        if let PadMode::Constant(_) = mode {
            // Where the gradient is constant along an axis it is so in the part, too.
            let now = self.shape(g);
            let out_shape = self.shape(out);
            let is_whole = |axis: usize| now[axis] == out_shape[axis];
            let begin: Vec<usize> = (0..shape.len())
                .map(|axis| if is_whole(axis) { pads[axis].0 } else { 0 })
                .collect();
            let size: Vec<usize> =
                (0..shape.len()).map(|axis| if is_whole(axis) { shape[axis] } else { 1 }).collect();
            let gradient = self.builder.slice(g, &begin, &size);
            self.contribute(x, gradient);
            return;
        }
        let out_shape = self.shape(out);
        let mut gradient = self.full(g, &out_shape);
        for (axis, &(before, after)) in pads.iter().enumerate() {
            if (before, after) == (0, 0) {
                continue;
            }
            let last = shape[axis] as isize - 1;
            let positions: Vec<usize> = (0..(before + shape[axis] + after) as isize)
                .map(|i| {
                    let inner = i - before as isize;
                    let source = match mode {
                        PadMode::Replicate => inner.clamp(0, last),
                        _ if inner < 0 => -inner,
                        _ if inner > last => 2 * last - inner,
                        _ => inner,
                    };
                    source as usize
                })
                .collect();
            gradient = self.scatter_axis(gradient, axis, &positions, shape[axis]);
        }
        self.contribute(x, gradient);
    }

    pub(super) fn band_part(&mut self, x: ValueId, lower: i64, upper: i64, g: ValueId) {
        let shape = self.shape(x);
        let whole = self.full(g, &shape);
        let gradient = self.builder.push(&Op::BandPart { x: whole, lower, upper });
        self.contribute(x, gradient);
    }
}
