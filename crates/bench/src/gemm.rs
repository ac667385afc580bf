//! The matrix products of three models, each as a program of its own, so that what is measured
//! is what runs. `O` outputs, `I` inputs, `N` tokens.

use crate::program::Running;
use crate::{Bench, Result, TestResult, Unit, Work};
use orion_engine::Random;
use orion_mil::{Builder, Program, TensorType, ValueId, WEIGHT_FILE, Weights};
use orion_tensor::{DType, Tensor};

/// A matrix of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GemmShape {
    /// The model it is from.
    pub model: &'static str,
    /// `O`
    pub outputs: usize,
    /// `I`
    pub inputs: usize,
}

/// The shapes of the models that we measure ourselves by.
pub const GEMM_SHAPES: &[GemmShape] = &[
    shape("stories110m", 768, 768),
    shape("stories110m", 2048, 768),
    shape("stories110m", 768, 2048),
    shape("stories110m", 32000, 768),
    shape("golf-baseline", 512, 512),
    shape("golf-baseline", 256, 512),
    shape("golf-baseline", 1024, 512),
    shape("golf-baseline", 512, 1024),
    shape("gpt2-124m", 2304, 768),
    shape("gpt2-124m", 768, 768),
    shape("gpt2-124m", 3072, 768),
    shape("gpt2-124m", 768, 3072),
    shape("gpt2-124m", 50257, 768),
];

/// Tokens that the products are measured with.
pub const GEMM_TOKENS: usize = 256;

const fn shape(model: &'static str, outputs: usize, inputs: usize) -> GemmShape {
    GemmShape { model, outputs, inputs }
}

/// Which product of a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GemmKind {
    /// `W[O, I] · X[I, N]` with the weights an input, as in training.
    Forward,
    /// The same with constant weights, as in generation.
    ForwardConstant,
    /// `Wᵀ · dY[O, N]`, the gradient of the input.
    InputGradient,
    /// `dY · Xᵀ`, the gradient of the weights.
    WeightGradient,
}

impl GemmKind {
    /// Every product.
    pub const ALL: [Self; 4] =
        [Self::Forward, Self::ForwardConstant, Self::InputGradient, Self::WeightGradient];

    /// A short name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "fwd",
            Self::ForwardConstant => "fwd-const",
            Self::InputGradient => "dX",
            Self::WeightGradient => "dW",
        }
    }

    fn program(self, shape: &GemmShape, tokens: usize) -> (Program, Weights) {
        let (o, i, n) = (shape.outputs, shape.inputs, tokens);
        let mut weights = Weights::new();
        let mut b = Builder::new("main");
        let input = |b: &mut Builder, name: &str, shape: &[usize]| -> ValueId {
            b.input(name, TensorType::new(DType::F32, shape))
        };
        let y = match self {
            Self::Forward => {
                let w = input(&mut b, "w", &[o, i, 1, 1]);
                let x = input(&mut b, "x", &[1, i, 1, n]);
                b.conv_1x1(x, w, None)
            }
            Self::ForwardConstant => {
                let mut random = Random::new(2);
                let values: Vec<f32> = (0..o * i).map(|_| random.uniform() as f32).collect();
                let stored = Tensor::from_slice(&[o, i, 1, 1], &values);
                let offset = weights.append(WEIGHT_FILE, stored);
                let ty = TensorType::new(DType::F32, &[o, i, 1, 1]);
                let w = b.blob("w", ty, WEIGHT_FILE, offset);
                let x = input(&mut b, "x", &[1, i, 1, n]);
                b.conv_1x1(x, w, None)
            }
            Self::InputGradient => {
                let w = input(&mut b, "w", &[o, i]);
                let dy = input(&mut b, "dy", &[o, n]);
                b.matmul(w, dy, true, false)
            }
            Self::WeightGradient => {
                let dy = input(&mut b, "dy", &[o, n]);
                let x = input(&mut b, "x", &[i, n]);
                b.matmul(dy, x, false, true)
            }
        };
        (Program::with_function(b.finish(&[y])), weights)
    }
}

impl Bench<'_> {
    /// One product of one shape in the precision of the bench, in GFLOP/s.
    ///
    /// # Errors
    /// When the device fails.
    pub fn gemm(&mut self, shape: &GemmShape, kind: GemmKind, tokens: usize) -> Result<TestResult> {
        let GemmShape { model, outputs, inputs } = *shape;
        let device = self.one_device()?;
        let flops = 2.0 * outputs as f64 * inputs as f64 * tokens as f64;
        let measurement =
            self.measure(Work { flops, precision: self.precision, ..Work::default() }, || {
                let (program, weights) = kind.program(shape, tokens);
                let mut running = Running::new(&*device, &program, &weights)?;
                Ok(move || running.repetition())
            })?;
        let test = format!("gemm {} {outputs}x{inputs}x{tokens}", kind.name());
        let result = self
            .result(test, model, Unit::Gigaflops, &measurement, |seconds| flops / seconds / 1e9);
        Ok(TestResult { tokens: Some(tokens), ..result })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Products;

    #[test]
    fn every_program_is_the_product_its_name_says() {
        for kind in GemmKind::ALL {
            let (program, weights) = kind.program(&shape("m", 6, 4), 3);
            let products = Products::of(program.main().unwrap()).unwrap();
            assert_eq!(products.flops, 2 * 6 * 4 * 3, "{kind:?}");
            assert_eq!(weights.files().count(), usize::from(kind == GemmKind::ForwardConstant));
        }
    }
}
