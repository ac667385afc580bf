//! What operations cost on the Neural Engine: a model with few parameters, from published
//! measurements. Operations run one after another; nothing overlaps.

use crate::scope::Site;
use orion_mil::{Data, ValueId};
use std::collections::HashSet;

/// What limits an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Arithmetic.
    Compute,
    /// Bringing weights in.
    Weights,
    /// Moving activations that do not stay on chip.
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
    /// Multiplications and additions, or results of other functions.
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

/// GB/s of activations: between 24 (M1, M5 fits) and 35 (tile transfers of the M6).
const ACTIVATION_GB_PER_S: f64 = 30.0;
/// Above this many bytes weights of one operation come at half the speed (M4: 54 and 24 GB/s).
const FAST_WEIGHT_BYTES: f64 = 18e6;

pub(crate) fn is_product(name: &str) -> bool {
    matches!(
        name,
        "conv" | "conv_transpose" | "matmul" | "linear" | "einsum" | "scaled_dot_product_attention"
    )
}

/// Multiplications and additions of an operation; for others than products, results.
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
        _ => return out,
    };
    2.0 * out * each.unwrap_or(1.0)
}

/// Prices operations in order. Weights that several operations name come in once.
#[derive(Debug, Default)]
pub(crate) struct Pricer {
    brought_in: HashSet<(String, u64)>,
}

impl Pricer {
    pub(crate) fn price(&mut self, site: &Site<'_>) -> Cost {
        let chip = site.target().chip.parameters();
        let operations = operations_of(site);
        let weight_bytes: f64 = site.operation.operands().map(|v| self.weight(site, v)).sum();
        let activation_bytes = activation_bytes(site, chip.resident_operand_bytes);
        // The matrix unit reaches most of its peak with convolutions and a third of that with
        // products of two activations; other functions are one element a lane and cycle.
        let tflops = match site.name() {
            "conv" | "conv_transpose" => 0.87 * chip.peak_tflops(),
            name if is_product(name) => 0.29 * chip.peak_tflops(),
            _ => chip.peak_tflops() / 64.0,
        };
        let fast = weight_bytes.min(FAST_WEIGHT_BYTES);
        let slow = weight_bytes - fast;
        let times = [
            (operations / tflops / 1e6, Bound::Compute),
            ((fast + 2.0 * slow) / chip.weight_gb_per_s / 1e3, Bound::Weights),
            (activation_bytes / ACTIVATION_GB_PER_S / 1e3, Bound::Activations),
        ];
        let (us, bound) = times.into_iter().fold(times[0], |a, b| if b.0 > a.0 { b } else { a });
        Cost { operations, weight_bytes, activation_bytes, us, bound }
    }

    /// The bytes of a constant operand that are new.
    fn weight(&mut self, site: &Site<'_>, value: ValueId) -> f64 {
        let scope = site.scope;
        if let Some(producer) = scope.producer(value).filter(|p| p.name().starts_with("constexpr_"))
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
        ty.element_count().unwrap_or(0) as f64 * ty.dtype.bits() as f64 / 8.0
    }
}

/// Inputs and outputs of the program, and tensors that are too large to stay on chip.
fn activation_bytes(site: &Site<'_>, resident: usize) -> f64 {
    site.tensors()
        .map(|(value, ty)| {
            let bytes = ty.element_count().unwrap_or(0) * ty.dtype.size_bytes();
            let crosses =
                site.scope.is_parameter(value) || site.scope.function.body.results.contains(&value);
            if crosses || bytes > resident { bytes as f64 } else { 0.0 }
        })
        .sum()
}
