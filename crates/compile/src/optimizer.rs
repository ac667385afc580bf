//! Optimizers as programs: from parameters, gradients and moments to their next values.
//! Schedules, bias corrections and loss scales are inputs: what counts steps is outside.

use orion_mil::op::{Binary, Reduction, Unary};
use orion_mil::{Builder, Function, TensorType, ValueId};
use orion_tensor::DType;

/// A parameter to be trained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterSpec {
    /// Its name; unique.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Whether weight decay applies; usually not to norms and biases.
    pub weight_decay: bool,
}

/// The constants of [`adamw`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay, multiplied by the learning rate.
    pub weight_decay: f64,
    /// Largest global norm of the gradients; longer ones are shortened to it.
    pub clip: Option<f64>,
}

/// One step of AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019) with
/// clipping by global norm, over all parameters, in fp32, computed as PyTorch does.
///
/// Inputs, per parameter `p` of its shape: `p`, `{p}_grad`, and the moments `{p}_m`, `{p}_v`.
/// Inputs of shape `[1]`: `learning_rate`; `beta1_correction` and `beta2_correction`, which are
/// `1 - betaᵗ` for step `t` from 1 on; `gradient_scale`, which gradients are multiplied by first:
/// 1 / (loss scale · number of micro-batches).
///
/// Results: `{p}_next`, `{p}_m_next` and `{p}_v_next`, in place of what they replace;
/// `gradient_norm` `[1]`, of the scaled gradients before clipping; `finite` `[1]`, 1 when that
/// norm is a finite number. Otherwise it is 0, and parameters and moments stay as they are.
///
/// # Panics
/// When two inputs would have one name.
pub fn adamw(parameters: &[ParameterSpec], config: &AdamWConfig) -> Function {
    let mut builder = Builder::new("main");
    let b = &mut builder;
    let scalar = TensorType::new(DType::F32, &[1]);
    let learning_rate = b.input("learning_rate", scalar.clone());
    let beta1_correction = b.input("beta1_correction", scalar.clone());
    let beta2_correction = b.input("beta2_correction", scalar.clone());
    let gradient_scale = b.input("gradient_scale", scalar);

    let inputs: Vec<[ValueId; 4]> = parameters
        .iter()
        .map(|spec| {
            ["", "_grad", "_m", "_v"].map(|suffix| {
                let ty = TensorType::new(DType::F32, &spec.shape);
                b.input(&format!("{}{suffix}", spec.name), ty)
            })
        })
        .collect();

    let norm = global_norm(b, inputs.iter().map(|[_, gradient, ..]| *gradient));
    let norm = b.mul(norm, gradient_scale);
    b.rename(norm, "gradient_norm");
    // False for infinity and NaN.
    let largest = b.number(norm, f64::from(f32::MAX));
    let is_finite = b.binary(Binary::LessEqual, norm, largest);
    let finite = b.cast(is_finite, DType::F32);
    b.rename(finite, "finite");

    let factor = match config.clip {
        None => gradient_scale,
        Some(clip) => {
            let above_zero = b.offset(norm, 1e-6);
            let clip = b.number(norm, clip);
            let ratio = b.div(clip, above_zero);
            let one = b.number(norm, 1.0);
            let ratio = b.binary(Binary::Minimum, ratio, one);
            b.mul(gradient_scale, ratio)
        }
    };
    let keep = b.scale(learning_rate, -config.weight_decay);
    let keep = b.offset(keep, 1.0);
    let step_size = b.div(learning_rate, beta1_correction);
    let correction = b.unary(Unary::Rsqrt { epsilon: 0.0 }, beta2_correction);

    let mut results = Vec::with_capacity(3 * parameters.len() + 2);
    let mut pairs = Vec::with_capacity(3 * parameters.len());
    for (spec, [parameter, gradient, m, v]) in parameters.iter().zip(inputs) {
        let gradient = b.mul(gradient, factor);
        let change = b.sub(gradient, m);
        let change = b.scale(change, 1.0 - config.beta1);
        let m_next = b.add(m, change);
        let square = b.unary(Unary::Square, gradient);
        let square = b.scale(square, 1.0 - config.beta2);
        let v_kept = b.scale(v, config.beta2);
        let v_next = b.add(v_kept, square);

        let root = b.unary(Unary::Sqrt, v_next);
        let root = b.mul(root, correction);
        let below = b.offset(root, config.epsilon);
        let direction = b.div(m_next, below);
        let step = b.mul(direction, step_size);
        let decays = spec.weight_decay && config.weight_decay != 0.0;
        let decayed = if decays { b.mul(parameter, keep) } else { parameter };
        let next = b.sub(decayed, step);

        for (next, before, suffix) in [(next, parameter, ""), (m_next, m, "_m"), (v_next, v, "_v")]
        {
            let result = b.select(is_finite, next, before);
            let name = format!("{}{suffix}", spec.name);
            b.rename(result, &format!("{name}_next"));
            results.push(result);
            pairs.push((format!("{name}_next"), name));
        }
    }
    results.extend([norm, finite]);
    let mut function = builder.finish(&results);
    function.set_in_place(pairs.iter().map(|(next, name)| (next.as_str(), name.as_str())));
    function
}

/// `√Σ g²` over all elements of all gradients, `[1]`.
fn global_norm(b: &mut Builder, gradients: impl Iterator<Item = ValueId>) -> ValueId {
    let mut total = None;
    for gradient in gradients {
        let axes: Vec<usize> = (0..b.shape(gradient).len()).collect();
        let square = if axes.is_empty() {
            b.unary(Unary::Square, gradient)
        } else {
            b.reduce(Reduction::SumSquare, gradient, &axes, false)
        };
        let square = b.reshape(square, &[1]);
        total = Some(total.map_or(square, |total| b.add(total, square)));
    }
    let total = total.unwrap_or_else(|| b.fill(DType::F32, &[1], 0.0));
    b.unary(Unary::Sqrt, total)
}
