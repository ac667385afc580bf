//! Gradients of layer and batch normalization.
//! Statistics are computed again from the input: they are not outputs of the ops.

use super::backward::Backward;
use orion_mil::ValueId;
use orion_mil::op::{Reduction, Unary};

impl Backward {
    /// With `x̂ = (x - mean) r`: `dx = r (γg - mean(γg) - x̂ mean(γg x̂))`.
    pub(super) fn layer_norm(
        &mut self,
        x: ValueId,
        axes: &[usize],
        gamma: Option<ValueId>,
        beta: Option<ValueId>,
        epsilon: f64,
        g: ValueId,
    ) {
        let shape = self.shape(x);
        // Gamma and beta with x's rank, and the axes their gradients are summed over.
        let affine: Vec<usize> =
            (0..shape.len()).map(|a| if axes.contains(&a) { shape[a] } else { 1 }).collect();
        if let Some(beta) = beta
            && self.wants(beta)
        {
            self.contribute_affine(beta, g, &shape, &affine);
        }
        if !self.wants(x) && !gamma.is_some_and(|gamma| self.wants(gamma)) {
            return;
        }
        let b = &mut self.builder;
        let mean = b.reduce(Reduction::Mean, x, axes, true);
        let centered = b.sub(x, mean);
        let square = b.unary(Unary::Square, centered);
        let variance = b.reduce(Reduction::Mean, square, axes, true);
        let scale = b.unary(Unary::Rsqrt { epsilon }, variance);
        let normal = b.mul(centered, scale);
        if let Some(gamma) = gamma
            && self.wants(gamma)
        {
            let product = self.builder.mul(g, normal);
            self.contribute_affine(gamma, product, &shape, &affine);
        }
        if self.wants(x) {
            let inner = match gamma {
                None => g,
                Some(gamma) => {
                    let gamma = self.builder.reshape(gamma, &affine);
                    self.builder.mul(g, gamma)
                }
            };
            let b = &mut self.builder;
            let mean = b.reduce(Reduction::Mean, inner, axes, true);
            let along = b.mul(inner, normal);
            let along = b.reduce(Reduction::Mean, along, axes, true);
            let projected = b.mul(normal, along);
            let centered = b.sub(inner, mean);
            let rest = b.sub(centered, projected);
            let gradient = b.mul(rest, scale);
            self.contribute(x, gradient);
        }
    }

    /// Contributes to a per-axis scale or offset, whose shape with x's rank is `affine`.
    fn contribute_affine(
        &mut self,
        parameter: ValueId,
        gradient: ValueId,
        shape: &[usize],
        affine: &[usize],
    ) {
        let reduced = self.reduce_to(gradient, shape, affine);
        let reduced = self.full(reduced, affine);
        let target = self.shape(parameter);
        let gradient = self.builder.reshape(reduced, &target);
        self.contribute(parameter, gradient);
    }

    /// `y = (x - mean) r γ + β` with `r = (variance + ε)^-½`, all four inputs of the op.
    pub(super) fn batch_norm(
        &mut self,
        x: ValueId,
        [mean, variance]: [ValueId; 2],
        gamma: Option<ValueId>,
        beta: Option<ValueId>,
        epsilon: f64,
        g: ValueId,
    ) {
        let shape = self.shape(x);
        let mut channels = vec![1; shape.len()];
        channels[1] = shape[1];
        if let Some(beta) = beta
            && self.wants(beta)
        {
            self.contribute_affine(beta, g, &shape, &channels);
        }
        let b = &mut self.builder;
        let scale = b.unary(Unary::Rsqrt { epsilon }, variance);
        let scale = b.reshape(scale, &channels);
        let slope = match gamma {
            None => scale,
            Some(gamma) => {
                let gamma = b.reshape(gamma, &channels);
                b.mul(scale, gamma)
            }
        };
        if self.wants(x) {
            let gradient = self.builder.mul(g, slope);
            self.contribute(x, gradient);
        }
        if self.wants(mean) {
            let total = self.reduce_to(g, &shape, &channels);
            let product = self.builder.mul(total, slope);
            let negative = self.builder.scale(product, -1.0);
            self.contribute_affine(mean, negative, &channels, &channels);
        }
        let wants_gamma = gamma.filter(|&gamma| self.wants(gamma));
        if wants_gamma.is_none() && !self.wants(variance) {
            return;
        }
        let b = &mut self.builder;
        let mean = b.reshape(mean, &channels);
        let centered = b.sub(x, mean);
        let product = b.mul(g, centered);
        let total = self.reduce_to(product, &shape, &channels);
        if let Some(gamma) = wants_gamma {
            let gradient = self.builder.mul(total, scale);
            self.contribute_affine(gamma, gradient, &channels, &channels);
        }
        if self.wants(variance) {
            let b = &mut self.builder;
            let square = b.unary(Unary::Square, scale);
            let product = b.mul(square, slope);
            let product = b.mul(product, total);
            let gradient = b.scale(product, -0.5);
            self.contribute_affine(variance, gradient, &channels, &channels);
        }
    }
}
