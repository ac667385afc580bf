//! Gradients of `matmul`, `linear`, `conv` and attention, all as matrix products.
//! Convolutions other than 1×1 are refused.

use super::backward::{Backward, Refusal};
use orion_mil::ValueId;
use orion_mil::op::Reduction;
use orion_tensor::{DType, element_count};

impl Backward {
    pub(super) fn matmul(
        &mut self,
        x: ValueId,
        y: ValueId,
        transpose_x: bool,
        transpose_y: bool,
        out: ValueId,
        g: ValueId,
    ) {
        let out_shape = self.shape(out);
        let g = self.full(g, &out_shape);
        // A vector is a row on the left, a column on the right; both are matrices from here on.
        let (x_shape, y_shape) = (self.shape(x), self.shape(y));
        let (x_is_row, y_is_column) = (x_shape.len() == 1, y_shape.len() == 1);
        let x_matrix = if x_is_row { vec![1, x_shape[0]] } else { x_shape.clone() };
        let y_matrix = if y_is_column { vec![y_shape[0], 1] } else { y_shape.clone() };
        let transpose_x = transpose_x && !x_is_row;
        let transpose_y = transpose_y && !y_is_column;
        let mut g_shape = out_shape;
        if y_is_column {
            g_shape.push(1);
        }
        if x_is_row {
            g_shape.insert(g_shape.len() - 1, 1);
        }
        let left = self.builder.reshape(x, &x_matrix);
        let right = self.builder.reshape(y, &y_matrix);
        let g = self.builder.reshape(g, &g_shape);
        let batch = &g_shape[..g_shape.len() - 2];

        if self.wants(x) {
            let gradient = if transpose_x {
                self.builder.matmul(right, g, transpose_y, true)
            } else {
                self.builder.matmul(g, right, false, !transpose_y)
            };
            let gradient = self.reduce_batch(gradient, batch, &x_matrix);
            let gradient = self.builder.reshape(gradient, &x_shape);
            self.contribute(x, gradient);
        }
        if self.wants(y) {
            let shared = element_count(&y_matrix[..y_matrix.len() - 2]) == 1;
            let gradient = if shared && !transpose_x && !batch.is_empty() {
                // One matrix for all of the batch: its rows are one long product.
                let rows = |s: &[usize]| {
                    let columns = s[s.len() - 1];
                    vec![element_count(&s[..s.len() - 1]), columns]
                };
                let left = self.builder.reshape(left, &rows(&x_matrix));
                let g = self.builder.reshape(g, &rows(&g_shape));
                if transpose_y {
                    self.builder.matmul(g, left, true, false)
                } else {
                    self.builder.matmul(left, g, true, false)
                }
            } else {
                let gradient = if transpose_y {
                    self.builder.matmul(g, left, true, transpose_x)
                } else {
                    self.builder.matmul(left, g, !transpose_x, false)
                };
                self.reduce_batch(gradient, batch, &y_matrix)
            };
            let gradient = self.builder.reshape(gradient, &y_shape);
            self.contribute(y, gradient);
        }
    }

    /// Sums a product over the batch axes that an operand of shape `target` was repeated along.
    fn reduce_batch(&mut self, gradient: ValueId, batch: &[usize], target: &[usize]) -> ValueId {
        let mut shape = batch.to_vec();
        shape.extend(&target[target.len() - 2..]);
        let gradient = self.builder.reshape(gradient, &shape);
        self.reduce_to(gradient, &shape, target)
    }

    pub(super) fn linear(
        &mut self,
        x: ValueId,
        weight: ValueId,
        bias: Option<ValueId>,
        g: ValueId,
    ) {
        let x_shape = self.shape(x);
        let [outputs, inputs] = self.shape(weight)[..] else { unreachable!("[O, I]") };
        let rows = element_count(&x_shape[..x_shape.len() - 1]);
        let mut out_shape = x_shape.clone();
        *out_shape.last_mut().expect("an axis") = outputs;
        let g = self.full(g, &out_shape);
        let g = self.builder.reshape(g, &[rows, outputs]);
        if self.wants(x) {
            let gradient = self.builder.matmul(g, weight, false, false);
            let gradient = self.builder.reshape(gradient, &x_shape);
            self.contribute(x, gradient);
        }
        if self.wants(weight) {
            let flat = self.builder.reshape(x, &[rows, inputs]);
            let gradient = self.builder.matmul(g, flat, true, false);
            self.contribute(weight, gradient);
        }
        if let Some(bias) = bias
            && self.wants(bias)
        {
            let gradient = self.builder.reduce(Reduction::Sum, g, &[0], false);
            self.contribute(bias, gradient);
        }
    }

    /// x `[B, I, spatial…]`, weight `[O, I, 1…]`: for each of the batch a product `W X` of
    /// `[O, I]` and `[I, S]`.
    #[expect(clippy::too_many_arguments, reason = "the op has as many")]
    pub(super) fn conv(
        &mut self,
        x: ValueId,
        weight: ValueId,
        bias: Option<ValueId>,
        strides: &[usize],
        pads: &[(usize, usize)],
        groups: usize,
        out: ValueId,
        g: ValueId,
    ) -> Result<(), Refusal> {
        let (x_shape, w_shape, out_shape) = (self.shape(x), self.shape(weight), self.shape(out));
        if let Some(bias) = bias
            && self.wants(bias)
        {
            let mut channels = vec![1; out_shape.len()];
            channels[1] = out_shape[1];
            let reduced = self.reduce_to(g, &out_shape, &channels);
            let reduced = self.full(reduced, &channels);
            let gradient = self.builder.reshape(reduced, &[out_shape[1]]);
            self.contribute(bias, gradient);
        }
        if !self.wants(x) && !self.wants(weight) {
            return Ok(());
        }
        let is_product = groups == 1
            && w_shape[2..].iter().all(|&k| k == 1)
            && strides.iter().all(|&s| s == 1)
            && pads.iter().all(|&p| p == (0, 0));
        if !is_product {
            return Err(Refusal::NotSupported(format!(
                "gradients of a convolution with weight {w_shape:?}, strides {strides:?}, pads \
                 {pads:?} and {groups} groups are not supported yet: only 1x1, unit strides, no \
                 padding and one group are"
            )));
        }
        let (batch, inputs, outputs) = (x_shape[0], x_shape[1], w_shape[0]);
        let positions = element_count(&x_shape[2..]);
        let matrix = |channels: usize| match batch {
            1 => vec![channels, positions],
            _ => vec![batch, channels, positions],
        };
        let g = self.full(g, &out_shape);
        let g = self.builder.reshape(g, &matrix(outputs));
        if self.wants(x) {
            // A weight with a batch axis of 1 is repeated by the product.
            let lead = if batch == 1 { vec![] } else { vec![1] };
            let w_matrix = [lead, vec![outputs, inputs]].concat();
            let w = self.builder.reshape(weight, &w_matrix);
            let gradient = self.builder.matmul(w, g, true, false);
            let gradient = self.builder.reshape(gradient, &x_shape);
            self.contribute(x, gradient);
        }
        if self.wants(weight) {
            let flat = self.builder.reshape(x, &matrix(inputs));
            let mut gradient = self.builder.matmul(g, flat, false, true);
            if batch > 1 {
                gradient = self.builder.reduce(Reduction::Sum, gradient, &[0], false);
            }
            let gradient = self.builder.reshape(gradient, &w_shape);
            self.contribute(weight, gradient);
        }
        Ok(())
    }

    /// With `P = softmax(q kᵀ s + mask)`, computed again: `dP = g vᵀ`,
    /// `dS = P (dP - Σ g out)`, `dq = s dS k`, `dk = s dSᵀ q`, `dv = Pᵀ g`.
    pub(super) fn attention(
        &mut self,
        query: ValueId,
        key: ValueId,
        value: ValueId,
        mask: Option<ValueId>,
        out: ValueId,
        g: ValueId,
    ) {
        let out_shape = self.shape(out);
        let g = self.full(g, &out_shape);
        let (q_shape, k_shape, v_shape) = (self.shape(query), self.shape(key), self.shape(value));
        let batch = &out_shape[..out_shape.len() - 2];
        let width = q_shape[q_shape.len() - 1];
        let factor = 1.0 / (width as f64).sqrt();

        let b = &mut self.builder;
        let scores = b.matmul(query, key, false, true);
        let scores = b.scale(scores, factor);
        let scores = match mask {
            None => scores,
            Some(mask) if b.dtype(mask) == DType::Bool => {
                // The most negative number of the type: its exponential is 0.
                let lowest = match b.dtype(scores) {
                    DType::F16 => -65504.0,
                    _ => f64::from(f32::MIN),
                };
                let lowest = b.number(scores, lowest);
                b.select(mask, scores, lowest)
            }
            Some(mask) => b.add(scores, mask),
        };
        let scores_shape = b.shape(scores);
        let weights = b.softmax(scores, scores_shape.len() - 1);

        if self.wants(value) {
            let gradient = self.builder.matmul(weights, g, true, false);
            let gradient = self.reduce_batch(gradient, batch, &v_shape);
            self.contribute(value, gradient);
        }
        let wanted_mask = mask.filter(|&mask| self.wants(mask));
        if !self.wants(query) && !self.wants(key) && wanted_mask.is_none() {
            return;
        }
        let b = &mut self.builder;
        let weight_gradient = b.matmul(g, value, false, true);
        let weighted = b.mul(g, out);
        let sum = b.reduce(Reduction::Sum, weighted, &[out_shape.len() - 1], true);
        let centered = b.sub(weight_gradient, sum);
        let score_gradient = b.mul(weights, centered);
        if let Some(mask) = wanted_mask {
            let shape = self.shape(score_gradient);
            self.contribute_broadcast(mask, score_gradient, &shape);
        }
        let scaled = self.builder.scale(score_gradient, factor);
        if self.wants(query) {
            let gradient = self.builder.matmul(scaled, key, false, false);
            let gradient = self.reduce_batch(gradient, batch, &q_shape);
            self.contribute(query, gradient);
        }
        if self.wants(key) {
            let gradient = self.builder.matmul(scaled, query, true, false);
            let gradient = self.reduce_batch(gradient, batch, &k_shape);
            self.contribute(key, gradient);
        }
    }
}
