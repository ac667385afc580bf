//! Reverse-mode differentiation: from a function with a loss to one that also gives gradients.
//! It does not choose what to recompute, does not partition, and does not simplify: run the
//! pipeline afterwards.
//!
//! Every arm is one method that reads the gradient of an op's outputs and contributes gradients
//! to its operands, in the file of its family. Only operands on a path from a wanted parameter
//! get one, so a frozen network costs nothing. Integers and bools carry no gradient: a path ends
//! where one is made (a comparison, an index).
//!
//! Two conventions keep the graph lean. A gradient may be smaller than its value, with size 1 on
//! an axis along which it is constant, and is only repeated when an op needs it whole. And parts
//! of a gradient (from slices, from scatters) are kept apart until all are known: the slices
//! that cover a tensor become one `concat`, and a scatter adds into the sum of the others.

mod backward;
mod elementwise;
mod index;
mod linear_algebra;
mod normalization;
mod rare;
mod reduction;
mod shape;
mod spatial;

use crate::{CompileError, CompileErrorKind};
use backward::{Backward, Refusal};
use orion_mil::{Builder, Function, Op, TensorType, Type, ValueId, hoist_literals, typed};
use orion_tensor::{DType, Tensor};

/// How [`gradients_with`] starts and where gradients go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GradientOptions<'a> {
    /// Name of a new fp32 input of shape `[1]` that multiplies the loss before differentiation,
    /// so that small gradients survive fp16. The loss itself is given out unscaled.
    pub loss_scale: Option<&'a str>,
    /// Adds to what is there: for each parameter `p` a new input `{p}_grad` of its type, and a
    /// result `{p}_grad_next` written over it in place, instead of a result `{p}_grad`.
    pub accumulate: bool,
}

/// The function with, after its own results, a result `{p}_grad` for each parameter `p` of
/// `with_respect_to`, of the parameter's type: the derivative of the result `loss`, which has
/// one element.
///
/// A parameter that the loss does not depend on gets zeros, as does one that it depends on only
/// through integers, bools or piecewise constant functions such as rounding.
///
/// # Errors
/// See [`gradients_with`].
pub fn gradients(
    function: &Function,
    loss: &str,
    with_respect_to: &[&str],
) -> Result<Function, CompileError> {
    gradients_with(function, loss, with_respect_to, &GradientOptions::default())
}

/// [`gradients`] with a loss scale, or accumulating into inputs.
///
/// # Errors
/// - `InvalidProgram` when the function does not verify;
/// - `UnknownValue` when `loss` is not a result or one of `with_respect_to` not a parameter;
/// - `WrongType` when the loss is not a float of one element, or a parameter not a float tensor
///   of known shape;
/// - `NameTaken` when the function has a value with the name of a new input or result;
/// - `NotDifferentiable` and `NotSupported`, naming the op, when one stands between a wanted
///   parameter and the loss.
pub fn gradients_with(
    function: &Function,
    loss: &str,
    with_respect_to: &[&str],
    options: &GradientOptions<'_>,
) -> Result<Function, CompileError> {
    let error = |kind, value: &str, message: String| {
        CompileError::new(kind, &function.name, message).at_value(value)
    };
    let function = &hoist_literals(function);
    let ops = typed::analyze(function).map_err(|diagnostics| {
        let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        CompileError::new(CompileErrorKind::InvalidProgram, &function.name, lines.join("\n"))
    })?;

    let loss_id = function.body.results.iter().copied().find(|&r| function.value_name(r) == loss);
    let Some(loss_id) = loss_id else {
        let message = "no result has the name of the loss".to_owned();
        return Err(error(CompileErrorKind::UnknownValue, loss, message));
    };
    let loss_ty = float_type(function, loss_id).filter(|ty| ty.element_count() == Some(1));
    let Some(loss_ty) = loss_ty else {
        let message = format!("a loss is one float, this is {}", function.ty(loss_id));
        return Err(error(CompileErrorKind::WrongType, loss, message));
    };

    let mut parameters = Vec::with_capacity(with_respect_to.len());
    for &name in with_respect_to {
        let found = function.params.iter().find(|p| function.value_name(p.value) == name);
        let Some(found) = found else {
            let message = "no parameter has this name".to_owned();
            return Err(error(CompileErrorKind::UnknownValue, name, message));
        };
        if float_type(function, found.value).is_none() {
            let message = format!("{} is no float tensor of known shape", function.ty(found.value));
            return Err(error(CompileErrorKind::WrongType, name, message));
        }
        parameters.push((name, found.value));
    }
    for (index, (name, _)) in parameters.iter().enumerate() {
        if parameters[..index].iter().any(|(other, _)| other == name) {
            let message = "the parameter is asked for twice".to_owned();
            return Err(error(CompileErrorKind::NameTaken, name, message));
        }
    }
    let mut new_names: Vec<String> = options.loss_scale.iter().map(|s| (*s).to_owned()).collect();
    for (name, _) in &parameters {
        new_names.push(format!("{name}_grad"));
        if options.accumulate {
            new_names.push(format!("{name}_grad_next"));
        }
    }
    for name in &new_names {
        if function.values.iter().any(|(_, v)| v.name == *name) {
            let message = "the function already has a value of this name".to_owned();
            return Err(error(CompileErrorKind::NameTaken, name, message));
        }
    }

    let active = active_values(function, &ops, &parameters);
    let mut builder = Builder::extend(function.clone());
    let inputs: Vec<Option<ValueId>> = parameters
        .iter()
        .map(|(name, id)| {
            let ty = builder.ty(*id).clone();
            options.accumulate.then(|| builder.input(&format!("{name}_grad"), ty))
        })
        .collect();
    let scale =
        options.loss_scale.map(|name| builder.input(name, TensorType::new(DType::F32, &[1])));

    let first_readers = first_readers(&ops, &parameters);
    let mut backward = Backward::new(builder, active);
    backward.builder.set_scope(format!("d_{loss}"));
    backward.seed(loss_id, &loss_ty, scale);
    for ((_, id), input) in parameters.iter().zip(&inputs) {
        // What is there is one more part of the sum.
        if let Some(input) = input {
            backward.contribute(*id, *input);
        }
    }
    let mut sums = vec![None; parameters.len()];
    for (index, (operation, op)) in function.body.operations.iter().zip(&ops).enumerate().rev() {
        let outputs = &operation.outputs;
        if !outputs.iter().any(|&output| backward.has_gradient(output)) {
            continue;
        }
        backward.builder.set_scope(format!("d_{}", function.value_name(outputs[0])));
        let gradients: Vec<Option<ValueId>> =
            outputs.iter().map(|&output| backward.take_gradient(output)).collect();
        differentiate(&mut backward, op, outputs, &gradients).map_err(|refusal| {
            let (kind, message) = match refusal {
                Refusal::NotDifferentiable => (
                    CompileErrorKind::NotDifferentiable,
                    "the op has no derivative, and stands between a parameter and the loss"
                        .to_owned(),
                ),
                Refusal::NotSupported(what) => (CompileErrorKind::NotSupported, what),
            };
            let value = function.value_name(outputs[0]);
            error(kind, value, message).at_op(&operation.name)
        })?;
        // A gradient that is done is given out at once, so that nothing keeps it waiting.
        for (parameter, sum) in sums.iter_mut().enumerate() {
            if first_readers[parameter] == Some(index) {
                let (name, id) = parameters[parameter];
                *sum = Some(backward.finish_parameter(id, &result_name(name, options)));
            }
        }
    }

    let mut results = function.body.results.clone();
    let mut pairs = Vec::new();
    for (sum, (name, id)) in sums.into_iter().zip(&parameters) {
        let result = result_name(name, options);
        results.push(sum.unwrap_or_else(|| backward.finish_parameter(*id, &result)));
        if options.accumulate {
            pairs.push((result, format!("{name}_grad")));
        }
    }
    let mut result = backward.builder.finish(&results);
    if !pairs.is_empty() {
        let before: Vec<(String, String)> =
            function.in_place().iter().map(|(o, i)| ((*o).to_owned(), (*i).to_owned())).collect();
        let all = before.iter().chain(&pairs).map(|(o, i)| (o.as_str(), i.as_str()));
        result.set_in_place(all);
    }
    Ok(result)
}

fn result_name(parameter: &str, options: &GradientOptions<'_>) -> String {
    format!("{parameter}_grad{}", if options.accumulate { "_next" } else { "" })
}

/// The first operation that reads each parameter: the last to contribute to its gradient.
fn first_readers(ops: &[Op], parameters: &[(&str, ValueId)]) -> Vec<Option<usize>> {
    let reads = |op: &Op, id| op.operands().contains(&id);
    parameters.iter().map(|&(_, id)| ops.iter().position(|op| reads(op, id))).collect()
}

/// The type of a float tensor of known shape.
fn float_type(function: &Function, id: ValueId) -> Option<TensorType> {
    let ty = function.ty(id).as_tensor()?;
    (ty.dtype.is_float() && ty.shape().is_some()).then(|| ty.clone())
}

/// Which values are floats that depend on a wanted parameter. A state that holds such a value
/// counts too, so that reading it back is noticed.
fn active_values(function: &Function, ops: &[Op], parameters: &[(&str, ValueId)]) -> Vec<bool> {
    let mut active = vec![false; function.values.len()];
    for (_, id) in parameters {
        active[id.index()] = true;
    }
    for (operation, op) in function.body.operations.iter().zip(ops) {
        if let Op::WriteState { state, data } = op {
            active[state.index()] |= active[data.index()];
        }
        if op.operands().iter().any(|v| active[v.index()]) {
            for &output in &operation.outputs {
                let is_float =
                    matches!(function.ty(output), Type::Tensor(ty) if ty.dtype.is_float());
                active[output.index()] = is_float;
            }
        }
    }
    active
}

/// One arm per op. `gradients` has one entry per output, `None` where the loss does not depend
/// on it; at least one is there.
fn differentiate(
    back: &mut Backward,
    op: &Op,
    outputs: &[ValueId],
    gradients: &[Option<ValueId>],
) -> Result<(), Refusal> {
    // The first output has a gradient unless the op is one of those with several.
    let g = || gradients[0].expect("the gradient of the only float output");
    match op {
        // Without operands there is nothing to pass a gradient to.
        Op::Const(_) | Op::Fill { .. } | Op::Range { .. } => {}
        // Operands are integers or results are: gradients end here.
        Op::OneHot { .. } | Op::ArgReduce { .. } | Op::ArgSort { .. } | Op::Quantize { .. } => {}
        // Scales that are trained are an op of their own; these belong to finished models.
        Op::Dequantize { .. } => return Err(Refusal::NotDifferentiable),
        Op::Einsum { values, equation } => back.einsum(values, equation, outputs[0], g())?,
        Op::Prelu { x, alpha } => back.prelu(*x, *alpha, g()),
        Op::GatherNd { x, indices, batch_dims } => {
            back.gather_nd(*x, *indices, *batch_dims, outputs[0], g())?;
        }
        Op::ScatterNd { data, indices, updates, mode } => {
            back.scatter_nd([*data, *indices, *updates], *mode, outputs[0], g())?;
        }
        Op::Spatial(op) => back.spatial(op, outputs[0], g())?,
        Op::Sample(_) => {
            let what = "the derivative of reading between pixels cannot be made here yet";
            return Err(Refusal::NotSupported(what.to_owned()));
        }
        // Which boxes are chosen, and which numbers are drawn, does not change smoothly.
        Op::Suppression(_) | Op::Random(_) => return Err(Refusal::NotDifferentiable),
        Op::Recurrent(_) => {
            let what = "the derivative of a recurrent layer cannot be made here yet";
            return Err(Refusal::NotSupported(what.to_owned()));
        }
        // Constants are trained in full precision and packed afterwards.
        Op::Constexpr(_) => return Err(Refusal::NotDifferentiable),
        // What a state held before is not a function of this function's parameters, but what
        // was written to it is, and ordering those is not supported by anyone's compiler.
        Op::ReadState { .. } | Op::WriteState { .. } => return Err(Refusal::NotDifferentiable),

        Op::Identity { x } => back.contribute(*x, g()),
        Op::Cast { x, .. } => back.cast(*x, g()),
        Op::Unary { kind, x } => back.unary(*kind, *x, outputs[0], g()),
        Op::Binary { kind, x, y } => back.binary(*kind, *x, *y, outputs[0], g()),
        Op::Select { cond, a, b } => back.select(*cond, *a, *b, outputs[0], g()),

        Op::Reduce { kind, x, axes, .. } => back.reduce(*kind, *x, axes, outputs[0], g()),
        Op::Cumsum { x, axis, exclusive, reverse } => {
            back.cumsum(*x, *axis, *exclusive, *reverse, g());
        }
        Op::Softmax { x, axis } => back.softmax(*x, *axis, outputs[0], g()),
        Op::LayerNorm { x, axes, gamma, beta, epsilon } => {
            back.layer_norm(*x, axes, *gamma, *beta, *epsilon, g());
        }
        Op::BatchNorm { x, mean, variance, gamma, beta, epsilon } => {
            back.batch_norm(*x, [*mean, *variance], *gamma, *beta, *epsilon, g());
        }

        Op::Matmul { x, y, transpose_x, transpose_y } => {
            back.matmul(*x, *y, *transpose_x, *transpose_y, outputs[0], g());
        }
        Op::Linear { x, weight, bias } => back.linear(*x, *weight, *bias, g()),
        Op::Conv { x, weight, bias, strides, pads, groups, .. } => {
            back.conv(*x, *weight, *bias, strides, pads, *groups, outputs[0], g())?;
        }
        Op::Attention { query, key, value, mask } => {
            back.attention(*query, *key, *value, *mask, outputs[0], g());
        }

        Op::Reshape { x, .. } => back.reshape(*x, outputs[0], g()),
        Op::Transpose { x, perm } => back.transpose(*x, perm, g()),
        Op::Concat { values, axis, interleave } => {
            back.concat(values, *axis, *interleave, outputs[0], g());
        }
        Op::Stack { values, axis } => back.stack(values, *axis, outputs[0], g()),
        Op::Split { x, axis, sizes } => back.split(*x, *axis, sizes, gradients),
        Op::Slice { x, begin, size, stride, .. } => {
            back.slice(*x, begin, size, stride, outputs[0], g());
        }
        Op::Tile { x, reps } => back.tile(*x, reps, outputs[0], g()),
        Op::Pad { x, pads, mode } => back.pad(*x, pads, *mode, outputs[0], g()),
        Op::BandPart { x, lower, upper } => back.band_part(*x, *lower, *upper, g()),

        Op::DynamicSlice { x, begin, .. } => back.dynamic_slice(*x, *begin, outputs[0], g()),
        Op::SliceUpdate { .. } => back.slice_update(op, g()),
        Op::Gather { x, indices, axis, batch_dims } => {
            back.gather(*x, *indices, *axis, *batch_dims, outputs[0], g());
        }
        Op::GatherAlongAxis { x, indices, axis } => {
            back.gather_along_axis(*x, *indices, *axis, outputs[0], g());
        }
        Op::Scatter { data, indices, updates, axis, mode } => {
            back.scatter(*data, *indices, *updates, *axis, *mode, g())?;
        }
        Op::ScatterAlongAxis { data, indices, updates, axis, mode } => {
            back.scatter_along_axis(*data, *indices, *updates, *axis, *mode, g())?;
        }
        Op::TopK { x, k, axis, ascending } => {
            // Gradients reach the values only; the indices are integers.
            back.top_k(*x, *k, *axis, *ascending, outputs, g());
        }
    }
    Ok(())
}

/// One in the loss's type.
fn one(builder: &mut Builder, ty: &TensorType) -> ValueId {
    let shape = ty.shape().expect("a known shape");
    builder.constant(Tensor::from_f64(ty.dtype, &shape, &[1.0]))
}
