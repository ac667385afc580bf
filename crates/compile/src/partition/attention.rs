//! Which operations of layers look at other tokens or at positions: attention with what belongs to
//! it, up to the next product with weights. Chooses nothing; see
//! [`super::PartitionOptions::on_host`].

use super::groups::{Graph, Group, Origin};
use super::{PartitionOptions, Unit, WeightForm};
use crate::CompileError;
use orion_mil::{Function, Op, ValueId};
use orion_tensor::DType;
use std::collections::BTreeSet;

/// The names of the values that such operations of layers make. `stream` is the input that goes
/// through the layers, such as `tokens`; what is of the other inputs but the parameters are
/// positions and caches.
///
/// # Errors
/// `InvalidProgram` when the function has operations without a meaning.
pub fn attention(
    function: &Function,
    layers: &[String],
    parameters: &[&str],
    stream: &str,
) -> Result<BTreeSet<String>, CompileError> {
    let options = PartitionOptions {
        layers,
        together: 1,
        columns: None,
        parameters,
        numbers: DType::F32,
        weights: WeightForm::AsGiven,
        tables: WeightForm::Inputs,
        on_host: &|_, _| false,
    };
    let graph = Graph::new(function, &options)?;
    let mut of_stream = vec![false; function.values.len()];
    for param in &function.params {
        of_stream[param.value.index()] = function.value_name(param.value) == stream;
    }
    let mut found = vec![false; function.values.len()];
    for i in 0..graph.ops.len() {
        let operands = graph.ops[i].operands();
        let is_run = |v: &ValueId| graph.origin(*v) == Origin::Run;
        let meets_others = operands.iter().any(|v| is_run(v) && !of_stream[v.index()]);
        let last = |v: ValueId| function.ty(v).as_tensor().map_or(0, |ty| ty.rank().max(1) - 1);
        let mixes = match &graph.ops[i] {
            Op::Matmul { .. } => operands.iter().all(is_run),
            // Columns of one sequence are taken from those of several.
            Op::Split { x, axis, .. } => *axis == last(*x),
            _ => false,
        };
        let goes_on = operands.iter().any(|v| found[v.index()]);
        let in_layer = graph.groups[i] != Group::Outside;
        let is_of_attention = in_layer
            && !graph.is_weight_product(i)
            && (graph.units[i] == Unit::Host || meets_others || mixes || goes_on);
        let is_of_stream = operands.iter().any(|v| of_stream[v.index()]);
        for v in graph.outputs(i) {
            found[v.index()] = is_of_attention;
            of_stream[v.index()] = is_of_stream;
        }
    }
    let values = function.values.iter().filter(|(id, _)| found[id.index()]);
    Ok(values.map(|(id, _)| function.value_name(id).to_owned()).collect())
}
