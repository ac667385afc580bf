//! What operations cost on the Neural Engine: a model with few parameters, from published
//! measurements. Operations run one after another; nothing overlaps.

use crate::Generation;
use crate::scope::Site;
use orion_mil::{Data, TensorType, ValueId};
use std::collections::HashSet;

/// What limits an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Arithmetic.
    Compute,
    /// Bringing weights in.
    Weights,
    /// Inputs, outputs, and operands that do not stay on chip.
    Activations,
}

impl Bound {
    /// As in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Weights => "weights",
            Self::Activations => "activations",
        }
    }
}

/// The work and the time of one operation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Multiplications and additions, or elements of other functions.
    pub operations: f64,
    /// Bytes of weights that no earlier operation brought in.
    pub weight_bytes: f64,
    /// Bytes of activations to and from memory.
    pub activation_bytes: f64,
    /// Microseconds.
    pub us: f64,
    /// What the time is for.
    pub bound: Bound,
}

/// The part of the peak that long products reach (M3, M4 and M5: 0.96 to 0.99).
const UTILIZATION: f64 = 0.97;
/// A product takes as long as one with this many columns more: at 64 columns a chain of 1×1
/// convolutions reaches 0.80 of the peak on M4, at 4096 it reaches 0.96.
const FILLING_COLUMNS: f64 = 12.0;
/// What a convolution of 8-bit activations with 8-bit weights takes of the time of one in fp16,
/// from M4 on.
const BYTES_TIME: f64 = 1.0 / 1.88;
/// Bytes of weights that lie in the cores at one time: 64 KiB in each of 16.
const RESIDENT_WEIGHT_BYTES: f64 = (1 << 20) as f64;
/// fp16 operations of the peak for one result of another function: one result a lane and cycle.
const OPERATIONS_PER_ELEMENT: f64 = 64.0;

pub(crate) fn is_product(name: &str) -> bool {
    matches!(
        name,
        "conv" | "conv_transpose" | "matmul" | "linear" | "einsum" | "scaled_dot_product_attention"
    )
}

/// Multiplications and additions of an operation; of others than products, how many elements the
/// engine goes over.
pub(crate) fn operations_of(site: &Site<'_>) -> f64 {
    let count = |shape: &[usize]| shape.iter().map(|&n| n as f64).product::<f64>();
    let out = site.output_shape().map_or(0.0, |s| count(&s));
    let each = match site.name() {
        "conv" => site.shape("weight").map(|w| count(&w[1.min(w.len())..])),
        "conv_transpose" => {
            let ratio = site.shape("x").map_or(1.0, |x| count(&x) / out.max(1.0));
            site.shape("weight").map(|w| count(&w[1.min(w.len())..]) * ratio)
        }
        "linear" => site.shape("x").and_then(|x| x.last().map(|&k| k as f64)),
        "matmul" => site.shape("x").and_then(|x| {
            let back = if site.flag("transpose_x") { 2 } else { 1 };
            x.get(x.len().checked_sub(back)?).map(|&k| k as f64)
        }),
        "scaled_dot_product_attention" => site.shape("key").and_then(|k| {
            let [.., s, _] = *k else { return None };
            Some(2.0 * s as f64)
        }),
        // Another view of the same bytes, or a part of the operations beside it.
        "reshape" | "expand_dims" | "squeeze" | "identity" | "flatten2d" | "read_state"
        | "quantize" | "dequantize" => {
            return 0.0;
        }
        // A maximum, a difference, a power, a sum, a reciprocal and a product.
        "softmax" => return 6.0 * out,
        "layer_norm" | "instance_norm" | "l2_norm" => return 5.0 * out,
        name if name.starts_with("reduce_") => {
            return site.shape("x").map_or(out, |x| count(&x));
        }
        _ => return out,
    };
    2.0 * out * each.unwrap_or(1.0)
}

/// Columns of the largest matrix that the cores go through with one set of weights.
fn columns(site: &Site<'_>) -> f64 {
    let Some(out) = site.output_shape() else { return 1.0 };
    let count = |axes: &[usize]| axes.iter().map(|&n| n as f64).product::<f64>();
    match site.name() {
        "conv" | "conv_transpose" => count(out.get(2..).unwrap_or(&[])),
        "linear" => count(&out[..out.len().saturating_sub(1)]),
        _ => out.iter().rev().take(2).map(|&n| n as f64).fold(1.0, f64::max),
    }
}

/// Prices operations in order. Weights and inputs that several operations name come in once.
#[derive(Debug, Default)]
pub(crate) struct Pricer {
    brought_in: HashSet<(String, u64)>,
    ports: HashSet<ValueId>,
}

impl Pricer {
    pub(crate) fn price(&mut self, site: &Site<'_>) -> Cost {
        let chip = site.target().chip.parameters();
        let operations = operations_of(site);
        let weight_bytes: f64 = site.operation.operands().map(|v| self.weight(site, v)).sum();
        let port_bytes = self.port_bytes(site);
        let reread_bytes = reread_bytes(site, chip.resident_operand_bytes as f64);
        let peak = chip.peak_tflops() * 1e6;
        let compute = if is_product(site.name()) {
            let n = columns(site);
            let bytes = if in_bytes(site) { BYTES_TIME } else { 1.0 };
            operations * bytes / (peak * UTILIZATION) * (n + FILLING_COLUMNS) / n.max(1.0)
        } else {
            operations * OPERATIONS_PER_ELEMENT / peak
        };
        let streamed = weight_bytes.min(chip.streamed_weight_bytes as f64);
        let weights = streamed / chip.weight_gb_per_s / 1e3
            + (weight_bytes - streamed) / chip.late_weight_gb_per_s / 1e3;
        let activations =
            port_bytes / chip.port_gb_per_s / 1e3 + reread_bytes / chip.reread_gb_per_s / 1e3;
        let times = [
            (compute, Bound::Compute),
            (weights, Bound::Weights),
            (activations, Bound::Activations),
        ];
        let (_, bound) = times.into_iter().fold(times[0], |a, b| if b.0 > a.0 { b } else { a });
        Cost {
            operations,
            weight_bytes,
            activation_bytes: port_bytes + reread_bytes,
            us: compute.max(weights) + activations,
            bound,
        }
    }

    /// Inputs that no operation before has read, and outputs, in their own types.
    fn port_bytes(&mut self, site: &Site<'_>) -> f64 {
        let results = &site.scope.function.body.results;
        let read = site.operation.operands().filter(|&v| site.scope.is_parameter(v));
        let written = site.outputs().iter().copied().filter(|v| results.contains(v));
        let crossing: Vec<ValueId> = read.chain(written).collect();
        let new = crossing.into_iter().filter(|&v| self.ports.insert(v));
        new.filter_map(|v| site.scope.tensor_type(v))
            .map(|ty| elements(ty) * ty.dtype.size_bytes() as f64)
            .sum()
    }

    /// The bytes of a constant operand that are new.
    fn weight(&mut self, site: &Site<'_>, value: ValueId) -> f64 {
        let scope = site.scope;
        // A look-up takes rows, not the table.
        if site.is(&["gather", "gather_along_axis", "gather_nd"]) && scope.is_constant(value) {
            let rows = site.outputs().first().and_then(|&v| scope.tensor_type(v));
            return rows.map_or(0.0, |ty| 2.0 * elements(ty));
        }
        if let Some(producer) =
            scope.producer(value).filter(|p| p.is_folded() && p.name() != "const")
        {
            // Compressed weights travel compressed.
            let attributes = producer.operation.attributes.values();
            let here: f64 = attributes.map(|v| self.constant(v)).sum();
            let operands = producer.operation.operands();
            return here + operands.map(|v| self.weight(site, v)).sum::<f64>();
        }
        scope.constants.get(value).map_or(0.0, |v| self.constant(v))
    }

    fn constant(&mut self, value: &orion_mil::Value) -> f64 {
        let Data::Blob { file, offset } = &value.data else { return 0.0 };
        if !self.brought_in.insert((file.clone(), *offset)) {
            return 0.0;
        }
        let Some(ty) = value.ty.as_tensor() else { return 0.0 };
        // Whatever type floats are written in, the engine keeps them in fp16.
        let bits = if ty.dtype.is_float() { 16 } else { ty.dtype.bits() };
        elements(ty) * bits as f64 / 8.0
    }
}

fn elements(ty: &TensorType) -> f64 {
    ty.element_count().unwrap_or(0) as f64
}

/// Whether a convolution's operands are both 8-bit numbers with a scale, on a chip that has
/// units for them.
fn in_bytes(site: &Site<'_>) -> bool {
    let producer = |argument| {
        let value = site.operand(argument)?;
        site.scope.producer(value).map(|p| p.name())
    };
    site.target().chip.generation >= Generation::M4
        && producer("x") == Some("dequantize")
        && producer("weight") == Some("constexpr_affine_dequantize")
}

/// Bytes that are read again because neither operand of a product stays on chip.
fn reread_bytes(site: &Site<'_>, resident: f64) -> f64 {
    let bytes = |argument: &str, axes: usize| {
        let shape = site.shape(argument)?;
        let last = shape.iter().rev().take(axes).map(|&n| n as f64);
        Some(2.0 * last.product::<f64>())
    };
    let of_operands = || match site.name() {
        // As many columns of one operand as stay, and the other once for each such part.
        "matmul" => {
            let (x, y) = (bytes("x", 2)?, bytes("y", 2)?);
            let again = x * y / resident - x.max(y);
            let shape = site.output_shape()?;
            let matrices: f64 = shape.iter().rev().skip(2).map(|&n| n as f64).product::<f64>();
            (x > resident && y > resident).then_some(again * matrices)
        }
        // All of the input for each part of the weights that fits the cores.
        "conv" => {
            let (x, weight) = (bytes("x", 3)?, bytes("weight", 4)?);
            let parts = weight / RESIDENT_WEIGHT_BYTES;
            (x > resident && parts > 1.0).then_some(x * (parts - 1.0))
        }
        _ => None,
    };
    of_operands().unwrap_or(0.0)
}
