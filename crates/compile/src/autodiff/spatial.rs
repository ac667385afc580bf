//! Gradients of ops over windows and grids. What has none here is refused by name.

use super::backward::{Backward, Refusal};
use orion_mil::op::{Reduction, Spatial, Unary};
use orion_mil::{Op, ValueId};

impl Backward {
    pub(super) fn spatial(
        &mut self,
        op: &Spatial,
        out: ValueId,
        g: ValueId,
    ) -> Result<(), Refusal> {
        match op {
            Spatial::Rearrange { kind, x, block } => {
                let shape = self.shape(out);
                let x_gradient = self.full(g, &shape);
                let back =
                    Spatial::Rearrange { kind: kind.inverse(), x: x_gradient, block: *block };
                let gradient = self.builder.push(&Op::Spatial(back));
                self.contribute(*x, gradient);
                Ok(())
            }
            Spatial::InstanceNorm { x, gamma, beta, epsilon } => {
                self.instance_norm(*x, *gamma, *beta, *epsilon, g);
                Ok(())
            }
            Spatial::L2Norm { x, epsilon } => {
                self.l2_norm(*x, *epsilon, g);
                Ok(())
            }
            Spatial::Pool { .. } => Err(missing("pooling")),
            Spatial::ConvTranspose { .. } => Err(missing("a transposed convolution")),
            Spatial::Resize { .. } => Err(missing("resizing")),
            Spatial::SlidingWindows { .. } => Err(missing("windows over each other")),
            Spatial::LocalResponseNorm { .. } => Err(missing("local response normalization")),
        }
    }

    /// With `x̂ = (x - mean) r` over the spatial axes, as for layer normalization, and gamma and
    /// beta per channel.
    fn instance_norm(
        &mut self,
        x: ValueId,
        gamma: Option<ValueId>,
        beta: Option<ValueId>,
        epsilon: f64,
        g: ValueId,
    ) {
        let shape = self.shape(x);
        let spatial: Vec<usize> = (2..shape.len()).collect();
        let g = self.full(g, &shape);
        let mut others = spatial.clone();
        others.insert(0, 0);
        if let Some(beta) = beta
            && self.wants(beta)
        {
            let gradient = self.builder.reduce(Reduction::Sum, g, &others, false);
            self.contribute(beta, gradient);
        }
        if let Some(gamma) = gamma
            && self.wants(gamma)
        {
            let (axes, gamma_, beta) = (spatial.clone(), None, None);
            let normal =
                self.builder.push(&Op::LayerNorm { x, axes, gamma: gamma_, beta, epsilon });
            let product = self.builder.mul(g, normal);
            let gradient = self.builder.reduce(Reduction::Sum, product, &others, false);
            self.contribute(gamma, gradient);
        }
        if self.wants(x) {
            let inner = match gamma {
                None => g,
                Some(gamma) => {
                    let mut channels = vec![1; shape.len()];
                    channels[1] = shape[1];
                    let gamma = self.builder.reshape(gamma, &channels);
                    self.builder.mul(g, gamma)
                }
            };
            self.layer_norm(x, &spatial, None, None, epsilon, inner);
        }
    }

    /// With `r = (Σ x² + epsilon)^-½`: `dx = r g - r³ x Σ g x`.
    fn l2_norm(&mut self, x: ValueId, epsilon: f64, g: ValueId) {
        let shape = self.shape(x);
        let axes: Vec<usize> = (shape.len() - 3..shape.len()).collect();
        let g = self.full(g, &shape);
        let b = &mut self.builder;
        let squares = b.reduce(Reduction::SumSquare, x, &axes, true);
        let scale = b.unary(Unary::Rsqrt { epsilon }, squares);
        let product = b.mul(g, x);
        let along = b.reduce(Reduction::Sum, product, &axes, true);
        let square = b.unary(Unary::Square, scale);
        let along = b.mul(along, square);
        let projected = b.mul(x, along);
        let rest = b.sub(g, projected);
        let gradient = b.mul(rest, scale);
        self.contribute(x, gradient);
    }
}

fn missing(what: &str) -> Refusal {
    Refusal::NotSupported(format!("the derivative of {what} cannot be made here yet"))
}
