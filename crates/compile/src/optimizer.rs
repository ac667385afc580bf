//! Optimizers as programs: from parameters, gradients and moments to their next values.
//! Schedules, bias corrections and loss scales are inputs: what counts steps is outside.

use orion_mil::op::{Binary, Reduction, Unary};
use orion_mil::{Builder, Function, Op, TensorType, ValueId};
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

/// The inputs of shape `[1]` that rates are computed from.
struct Rates {
    learning_rate: ValueId,
    beta1_correction: ValueId,
    beta2_correction: ValueId,
}

impl Rates {
    fn inputs(b: &mut Builder) -> Self {
        Self {
            learning_rate: number_input(b, "learning_rate"),
            beta1_correction: number_input(b, "beta1_correction"),
            beta2_correction: number_input(b, "beta2_correction"),
        }
    }
}

fn number_input(b: &mut Builder, name: &str) -> ValueId {
    b.input(name, TensorType::new(DType::F32, &[1]))
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
    let rates = Rates::inputs(b);
    let gradient_scale = number_input(b, "gradient_scale");
    let inputs: Vec<[ValueId; 4]> = parameters.iter().map(|spec| state_inputs(b, spec)).collect();

    let squares: Vec<ValueId> =
        inputs.iter().map(|[_, gradient, ..]| sum_of_squares(b, *gradient)).collect();
    let norm = global_norm(b, &squares, gradient_scale);
    let is_finite = is_finite(b, norm);
    let finite = b.cast(is_finite, DType::F32);
    b.rename(finite, "finite");
    let factor = factor(b, norm, gradient_scale, config);
    let (mut results, pairs) = updates(b, parameters, &inputs, [factor, is_finite], &rates, config);
    results.extend([norm, finite]);
    in_place(builder, &results, &pairs)
}

/// The first of three programs that do together what [`adamw`] does, to the bit, for gradients
/// that are not all there at one time: sums of squares.
///
/// Inputs: `{p}_grad` of each parameter. Results: `{p}_square` `[1]`.
///
/// # Panics
/// When two inputs would have one name.
pub fn adamw_squares(parameters: &[ParameterSpec]) -> Function {
    let mut builder = Builder::new("main");
    let b = &mut builder;
    let squares: Vec<ValueId> = parameters
        .iter()
        .map(|spec| {
            let ty = TensorType::new(DType::F32, &spec.shape);
            let gradient = b.input(&format!("{}_grad", spec.name), ty);
            let square = sum_of_squares(b, gradient);
            b.rename(square, &format!("{}_square", spec.name));
            square
        })
        .collect();
    builder.finish(&squares)
}

/// The second one, after [`adamw_squares`] of all parameters: how long the gradient is.
///
/// Inputs: `{p}_square` of each parameter in the order of [`adamw`], and `gradient_scale`. Results
/// of shape `[1]`: `gradient_norm`, and `gradient_factor`, which gradients are to be multiplied by.
///
/// # Panics
/// When two inputs would have one name.
pub fn adamw_norm(parameters: &[ParameterSpec], config: &AdamWConfig) -> Function {
    let mut builder = Builder::new("main");
    let b = &mut builder;
    let squares: Vec<ValueId> =
        parameters.iter().map(|spec| number_input(b, &format!("{}_square", spec.name))).collect();
    let gradient_scale = number_input(b, "gradient_scale");
    let norm = global_norm(b, &squares, gradient_scale);
    let mut factor = factor(b, norm, gradient_scale, config);
    if factor == gradient_scale {
        // A result has a memory of its own.
        factor = b.push(&Op::Identity { x: factor });
    }
    b.rename(factor, "gradient_factor");
    builder.finish(&[norm, factor])
}

/// The third one, after [`adamw_norm`]: next values of some of the parameters.
///
/// Inputs and results: those of [`adamw`], with `gradient_norm` and `gradient_factor` in the place
/// of `gradient_scale`.
///
/// # Panics
/// When two inputs would have one name.
pub fn adamw_update(parameters: &[ParameterSpec], config: &AdamWConfig) -> Function {
    let mut builder = Builder::new("main");
    let b = &mut builder;
    let rates = Rates::inputs(b);
    let [norm, factor] = ["gradient_norm", "gradient_factor"].map(|name| number_input(b, name));
    let inputs: Vec<[ValueId; 4]> = parameters.iter().map(|spec| state_inputs(b, spec)).collect();
    let is_finite = is_finite(b, norm);
    let (results, pairs) = updates(b, parameters, &inputs, [factor, is_finite], &rates, config);
    in_place(builder, &results, &pairs)
}

/// A parameter, its gradient and its moments.
fn state_inputs(b: &mut Builder, spec: &ParameterSpec) -> [ValueId; 4] {
    ["", "_grad", "_m", "_v"].map(|suffix| {
        let ty = TensorType::new(DType::F32, &spec.shape);
        b.input(&format!("{}{suffix}", spec.name), ty)
    })
}

/// `Σ g²` over all elements, `[1]`.
fn sum_of_squares(b: &mut Builder, gradient: ValueId) -> ValueId {
    let axes: Vec<usize> = (0..b.shape(gradient).len()).collect();
    let square = if axes.is_empty() {
        b.unary(Unary::Square, gradient)
    } else {
        b.reduce(Reduction::SumSquare, gradient, &axes, false)
    };
    b.reshape(square, &[1])
}

/// The root of the sum of these, times the scale; called `gradient_norm`.
fn global_norm(b: &mut Builder, squares: &[ValueId], gradient_scale: ValueId) -> ValueId {
    let total = squares.iter().copied().reduce(|total, square| b.add(total, square));
    let total = total.unwrap_or_else(|| b.fill(DType::F32, &[1], 0.0));
    let norm = b.unary(Unary::Sqrt, total);
    let norm = b.mul(norm, gradient_scale);
    b.rename(norm, "gradient_norm");
    norm
}

/// False for infinity and NaN.
fn is_finite(b: &mut Builder, norm: ValueId) -> ValueId {
    let largest = b.number(norm, f64::from(f32::MAX));
    b.binary(Binary::LessEqual, norm, largest)
}

/// What gradients are multiplied by: the scale, and less where they are too long.
fn factor(
    b: &mut Builder,
    norm: ValueId,
    gradient_scale: ValueId,
    config: &AdamWConfig,
) -> ValueId {
    let Some(clip) = config.clip else { return gradient_scale };
    let above_zero = b.offset(norm, 1e-6);
    let clip = b.number(norm, clip);
    let ratio = b.div(clip, above_zero);
    let one = b.number(norm, 1.0);
    let ratio = b.binary(Binary::Minimum, ratio, one);
    b.mul(gradient_scale, ratio)
}

/// The next values of parameters and moments, and which input each replaces.
fn updates(
    b: &mut Builder,
    parameters: &[ParameterSpec],
    inputs: &[[ValueId; 4]],
    [factor, is_finite]: [ValueId; 2],
    rates: &Rates,
    config: &AdamWConfig,
) -> (Vec<ValueId>, Vec<(String, String)>) {
    let keep = b.scale(rates.learning_rate, -config.weight_decay);
    let keep = b.offset(keep, 1.0);
    let step_size = b.div(rates.learning_rate, rates.beta1_correction);
    let correction = b.unary(Unary::Rsqrt { epsilon: 0.0 }, rates.beta2_correction);

    let mut results = Vec::with_capacity(3 * parameters.len() + 2);
    let mut pairs = Vec::with_capacity(3 * parameters.len());
    for (spec, &[parameter, gradient, m, v]) in parameters.iter().zip(inputs) {
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
    (results, pairs)
}

fn in_place(builder: Builder, results: &[ValueId], pairs: &[(String, String)]) -> Function {
    let mut function = builder.finish(results);
    function.set_in_place(pairs.iter().map(|(next, name)| (next.as_str(), name.as_str())));
    function
}
