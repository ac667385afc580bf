//! Gradients of ops that few programs have.

use super::backward::{Backward, Refusal};
use orion_mil::op::{Binary, Equation, Reduction, ScatterMode};
use orion_mil::{Op, ValueId};

impl Backward {
    /// The gradient of one factor is the einsum of the others and what comes in.
    pub(super) fn einsum(
        &mut self,
        values: &[ValueId],
        equation: &Equation,
        out: ValueId,
        g: ValueId,
    ) -> Result<(), Refusal> {
        let g = self.full(g, &self.shape(out));
        for (i, &value) in values.iter().enumerate() {
            if !self.wants(value) {
                continue;
            }
            let own = &equation.operands[i];
            let twice = own.iter().enumerate().any(|(k, axis)| own[..k].contains(axis));
            let mut others = vec![equation.result.clone()];
            others.extend(
                equation.operands.iter().enumerate().filter(|o| o.0 != i).map(|o| o.1.clone()),
            );
            let alone = own.iter().any(|axis| !others.iter().any(|o| o.contains(axis)));
            if twice || alone {
                return Err(Refusal::NotSupported(format!(
                    "the derivative of \"{equation}\" needs a diagonal or repeats an axis, which \
                     cannot be made here yet"
                )));
            }
            let mut factors = vec![g];
            factors.extend(values.iter().enumerate().filter(|o| o.0 != i).map(|o| *o.1));
            let equation = Equation { operands: others, result: own.clone() };
            let gradient = self.builder.push(&Op::Einsum { values: factors, equation });
            self.contribute(value, gradient);
        }
        Ok(())
    }

    pub(super) fn prelu(&mut self, x: ValueId, alpha: ValueId, g: ValueId) {
        let shape = self.shape(x);
        let g = self.full(g, &shape);
        let count = self.shape(alpha)[0];
        let zero = self.builder.number(x, 0.0);
        let below = self.builder.binary(Binary::Less, x, zero);
        if self.wants(x) {
            let mut channels = vec![1; shape.len()];
            channels[1] = count;
            let slope = self.builder.reshape(alpha, &channels);
            let scaled = self.builder.mul(g, slope);
            let gradient = self.builder.select(below, scaled, g);
            self.contribute(x, gradient);
        }
        if self.wants(alpha) {
            let product = self.builder.mul(g, x);
            let product = self.builder.select(below, product, zero);
            let others =
                (0..shape.len()).filter(|&a| a != 1 || count != shape[1]).collect::<Vec<_>>();
            let sum = self.builder.reduce(Reduction::Sum, product, &others, true);
            let gradient = self.builder.reshape(sum, &[count]);
            self.contribute(alpha, gradient);
        }
    }

    pub(super) fn gather_nd(
        &mut self,
        x: ValueId,
        indices: ValueId,
        batch_dims: usize,
        out: ValueId,
        g: ValueId,
    ) -> Result<(), Refusal> {
        if batch_dims > 0 {
            let what = "the derivative of gather_nd with `batch_dims` cannot be made here yet";
            return Err(Refusal::NotSupported(what.to_owned()));
        }
        if self.wants(x) {
            let updates = self.full(g, &self.shape(out));
            let dtype = self.builder.dtype(x);
            let data = self.builder.fill(dtype, &self.shape(x), 0.0);
            let mode = ScatterMode::Add;
            let gradient = self.builder.push(&Op::ScatterNd { data, indices, updates, mode });
            self.contribute(x, gradient);
        }
        Ok(())
    }

    pub(super) fn scatter_nd(
        &mut self,
        [data, indices, updates]: [ValueId; 3],
        mode: ScatterMode,
        out: ValueId,
        g: ValueId,
    ) -> Result<(), Refusal> {
        let sign = match mode {
            ScatterMode::Add => 1.0,
            ScatterMode::Sub => -1.0,
            _ => {
                return Err(Refusal::NotSupported(format!(
                    "the derivative of scatter_nd with `mode` \"{}\" cannot be made here yet",
                    mode.name()
                )));
            }
        };
        let g = self.full(g, &self.shape(out));
        self.contribute(data, g);
        if self.wants(updates) {
            let taken = self.builder.push(&Op::GatherNd { x: g, indices, batch_dims: 0 });
            let gradient = if sign < 0.0 { self.builder.scale(taken, sign) } else { taken };
            self.contribute(updates, gradient);
        }
        Ok(())
    }
}
