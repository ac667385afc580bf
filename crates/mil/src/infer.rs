//! Type inference: the output types of an [`Op`] from the types of its operands.
//!
//! Every op that has no fixed shape of its own carries unknown sizes through; ops that count
//! elements (`reshape`, `split`, `slice_by_index`, …) refuse them. Float ops take every float type
//! of 16 bits or more: which of them a device can run is the device's to say.

mod compressed;
mod contraction;
mod elementwise;
mod indexing;
mod movement;
mod rare;
mod sample;
mod spatial;

use crate::{Data, Dim, Op, TensorType, Type, Value, ValueId, Values};
use orion_tensor::DType;

type Types = Result<Vec<Type>, String>;

/// The types of an op's outputs. [`Op::TopK`] gives two, the second of which may be left unused.
///
/// # Errors
/// What is wrong with the operands, with their types.
pub fn output_types(op: &Op, values: &Values) -> Result<Vec<Type>, String> {
    let operands = Operands { values };
    let types = match op {
        Op::Const(value) => constant(value),
        Op::Identity { x } => Ok(vec![values[*x].ty.clone()]),
        Op::Cast { .. } | Op::Unary { .. } | Op::Binary { .. } | Op::Select { .. } => {
            elementwise::types(op, operands)
        }
        Op::Reduce { .. } | Op::ArgReduce { .. } | Op::Cumsum { .. } | Op::Softmax { .. } => {
            elementwise::types_along_axes(op, operands)
        }
        Op::LayerNorm { .. } | Op::BatchNorm { .. } => elementwise::norm_types(op, operands),
        Op::Matmul { .. } | Op::Linear { .. } | Op::Conv { .. } | Op::Attention { .. } => {
            contraction::types(op, operands)
        }
        Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Concat { .. }
        | Op::Stack { .. }
        | Op::Split { .. }
        | Op::Slice { .. }
        | Op::Tile { .. }
        | Op::Pad { .. }
        | Op::BandPart { .. } => movement::types(op, operands),
        Op::DynamicSlice { .. }
        | Op::SliceUpdate { .. }
        | Op::Gather { .. }
        | Op::GatherAlongAxis { .. }
        | Op::Scatter { .. }
        | Op::ScatterAlongAxis { .. }
        | Op::OneHot { .. }
        | Op::TopK { .. } => indexing::types(op, operands),
        Op::Fill { dtype, shape, .. } => {
            require(is_number(*dtype) || *dtype == DType::Bool, || {
                format!("a tensor of {dtype} cannot be filled with a number")
            })?;
            Ok(vec![Type::tensor(*dtype, shape)])
        }
        Op::Einsum { .. }
        | Op::Prelu { .. }
        | Op::GatherNd { .. }
        | Op::ScatterNd { .. }
        | Op::ArgSort { .. }
        | Op::Quantize { .. }
        | Op::Dequantize { .. } => rare::types(op, operands),
        Op::Spatial(op) => spatial::types(op, operands),
        Op::Sample(op) => sample::sample(op, operands),
        Op::Suppression(op) => sample::suppression(op, operands),
        Op::Random(op) => sample::random(op, operands),
        Op::Recurrent(op) => spatial::recurrent(op, operands),
        Op::Constexpr(op) => compressed::types(op, operands),
        Op::Range { dtype, start, step, count } => range(*dtype, *start, *step, *count),
        Op::ReadState { state } => Ok(vec![operands.state("state", *state)?.clone().into()]),
        Op::WriteState { state, data } => {
            let held = operands.state("state", *state)?;
            let data = operands.tensor("data", *data)?;
            let fits = held.dtype == data.dtype && unify_all(&held.dims, &data.dims).is_some();
            require(fits, || {
                format!(
                    "the state holds {}, data is {}",
                    Type::from(held.clone()),
                    Type::from(data.clone())
                )
            })?;
            Ok(vec![])
        }
    }?;
    // A constant's size was checked against its data; the sizes of everything else are computed.
    match types.iter().find(|ty| !is_sized(ty)) {
        Some(ty) => Err(format!("the result would be {ty}, which is too large")),
        None => Ok(types),
    }
}

/// Whether two types can be the same type once unknown sizes are known.
pub fn compatible(a: &Type, b: &Type) -> bool {
    let dims = |a: &[Dim], b: &[Dim]| {
        a.len() == b.len() && a.iter().zip(b).all(|(&a, &b)| same_size(a, b))
    };
    match (a, b) {
        (Type::Tensor(a), Type::Tensor(b)) | (Type::State(a), Type::State(b)) => {
            a.dtype == b.dtype && dims(&a.dims, &b.dims)
        }
        _ => a == b,
    }
}

/// The `end` that gives `range_1d` this many elements once the numbers are rounded to the element
/// type: the next element or, where that rounds to more elements, half a step before it.
pub(crate) fn range_end(dtype: DType, start: f64, step: f64, count: usize) -> Option<f64> {
    let (first, by) = (rounded(dtype, start), rounded(dtype, step));
    let ends = [0.0, 0.5].map(|slack| rounded(dtype, first + by * (count as f64 - slack)));
    ends.into_iter().find(|&end| range_count(first, end, by) == Some(count))
}

/// How many elements `range_1d` gives; `None` for a step that never gets there.
pub(crate) fn range_count(start: f64, end: f64, step: f64) -> Option<usize> {
    let count = ((end - start) / step).ceil();
    (count >= 0.0 && count <= f64::from(i32::MAX)).then_some(count as usize)
}

/// The number as the element type stores it.
///
/// # Panics
/// For strings and 8-bit floats.
pub(crate) fn rounded(dtype: DType, v: f64) -> f64 {
    match Value::scalar(dtype, v).as_f64() {
        Some(v) => v,
        None => f64::from(u8::from(v != 0.0)),
    }
}

fn range(dtype: DType, start: f64, step: f64, count: usize) -> Types {
    require(is_number(dtype), || format!("a range of {dtype} has no meaning"))?;
    require(count > 0 && range_end(dtype, start, step, count).is_some(), || {
        format!("{count} steps of {step} from {start} cannot be written in {dtype}")
    })?;
    Ok(vec![Type::tensor(dtype, &[count])])
}

/// The type of a constant whose content fits it.
pub(crate) fn constant(value: &Value) -> Types {
    let Type::Tensor(ty) = &value.ty else { return Ok(vec![value.ty.clone()]) };
    let count = ty
        .element_count()
        .ok_or_else(|| format!("a constant of type {} has no fixed size", value.ty))?;
    let (dtype, held) = match &value.data {
        Data::Tensor(t) => (t.dtype(), t.element_count()),
        Data::Strings(s) => (DType::String, s.len()),
        Data::Blob { .. } => (ty.dtype, count),
        _ => return Err(format!("the value is not a tensor, its type is {}", value.ty)),
    };
    require(dtype == ty.dtype && held == count, || {
        format!("the value holds {held} {dtype} elements, its type is {}", value.ty)
    })?;
    Ok(vec![value.ty.clone()])
}

/// Whether memory could hold a tensor of this type, so that its sizes can be multiplied without
/// care. MIL's own sizes are int32.
pub(crate) fn is_sized(ty: &Type) -> bool {
    let (Type::Tensor(tensor) | Type::State(tensor)) = ty else { return true };
    let known = tensor.dims.iter().filter_map(|d| match d {
        Dim::Known(n) => Some(*n),
        Dim::Unknown => None,
    });
    let bytes = known.clone().try_fold(8usize, |n, d| n.checked_mul(d));
    bytes.is_some_and(|n| isize::try_from(n).is_ok())
        && known.clone().all(|n| i32::try_from(n).is_ok())
}

/// Operand types by id, with errors that name the argument.
#[derive(Clone, Copy)]
struct Operands<'a> {
    values: &'a Values,
}

impl<'a> Operands<'a> {
    fn tensor(self, name: &str, id: ValueId) -> Result<&'a TensorType, String> {
        let ty = &self.values[id].ty;
        ty.as_tensor().ok_or_else(|| format!("{name} must be a tensor, it is {ty}"))
    }

    fn state(self, name: &str, id: ValueId) -> Result<&'a TensorType, String> {
        match &self.values[id].ty {
            Type::State(t) => Ok(t),
            ty => Err(format!("{name} must be a state, it is {ty}")),
        }
    }

    fn number(self, name: &str, id: ValueId) -> Result<&'a TensorType, String> {
        self.check(name, id, "a float or integer tensor", is_number)
    }

    fn float(self, name: &str, id: ValueId) -> Result<&'a TensorType, String> {
        self.check(name, id, "a float tensor", |d| d.is_float() && d.bits() >= 16)
    }

    fn int(self, name: &str, id: ValueId) -> Result<&'a TensorType, String> {
        self.check(name, id, "an integer tensor", |d| d.is_int() && d.bits() >= 8)
    }

    fn bool(self, name: &str, id: ValueId) -> Result<&'a TensorType, String> {
        self.check(name, id, "a bool tensor", |d| d == DType::Bool)
    }

    /// Numbers or bools: what can be moved about.
    fn movable(self, name: &str, id: ValueId) -> Result<&'a TensorType, String> {
        self.check(name, id, "a numeric or bool tensor", |d| d != DType::String)
    }

    fn check(
        self,
        name: &str,
        id: ValueId,
        wanted: &str,
        fits: impl Fn(DType) -> bool,
    ) -> Result<&'a TensorType, String> {
        let t = self.tensor(name, id)?;
        if fits(t.dtype) {
            Ok(t)
        } else {
            Err(format!("{name} must be {wanted}, it is {}", show(t)))
        }
    }
}

/// Floats of 16 bits or more and integers of 8 bits or more.
fn is_number(dtype: DType) -> bool {
    (dtype.is_float() && dtype.bits() >= 16) || (dtype.is_int() && dtype.bits() >= 8)
}

fn require(condition: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(message()) }
}

fn show(t: &TensorType) -> String {
    Type::from(t.clone()).to_string()
}

/// `[2, ?, 3]`
fn show_dims(dims: &[Dim]) -> String {
    let dims: Vec<String> = dims.iter().map(Dim::to_string).collect();
    format!("[{}]", dims.join(", "))
}

fn require_same_dtype(a: (&str, &TensorType), b: (&str, &TensorType)) -> Result<(), String> {
    require(a.1.dtype == b.1.dtype, || {
        format!(
            "{} and {} must have one element type, they are {} and {}",
            a.0,
            b.0,
            show(a.1),
            show(b.1)
        )
    })
}

fn require_same_rank(a: (&str, &TensorType), b: (&str, &TensorType)) -> Result<(), String> {
    require(a.1.rank() == b.1.rank(), || {
        format!("{} and {} must have one rank, they are {} and {}", a.0, b.0, show(a.1), show(b.1))
    })
}

fn require_axis(axis: usize, t: &TensorType) -> Result<(), String> {
    require(axis < t.rank(), || format!("axis {axis} is outside of x, which is {}", show(t)))
}

fn require_axes(axes: &[usize], t: &TensorType) -> Result<(), String> {
    require(!axes.is_empty(), || "there must be at least one axis".to_owned())?;
    axes.iter().try_for_each(|&axis| require_axis(axis, t))?;
    require(axes.windows(2).all(|w| w[0] < w[1]), || {
        format!("axes must be sorted and distinct, they are {axes:?}")
    })
}

/// `per_axis`, such as pads, must have one entry for each of `rank` axes.
fn require_per_axis(name: &str, entries: usize, rank: usize) -> Result<(), String> {
    require(entries == rank, || format!("{name} has {entries} entries for {rank} axes"))
}

fn known_shape(name: &str, t: &TensorType) -> Result<Vec<usize>, String> {
    t.shape().ok_or_else(|| format!("the shape of {name} is not known, it is {}", show(t)))
}

/// Whether two sizes can be equal.
fn same_size(a: Dim, b: Dim) -> bool {
    match (a, b) {
        (Dim::Known(a), Dim::Known(b)) => a == b,
        _ => true,
    }
}

/// The better known of two sizes that can be equal.
fn unify(a: Dim, b: Dim) -> Option<Dim> {
    match (a, b) {
        (Dim::Unknown, d) => Some(d),
        (d, Dim::Unknown) => Some(d),
        (a, b) => (a == b).then_some(a),
    }
}

fn unify_all(a: &[Dim], b: &[Dim]) -> Option<Vec<Dim>> {
    if a.len() != b.len() {
        return None;
    }
    a.iter().zip(b).map(|(&a, &b)| unify(a, b)).collect()
}

/// NumPy's broadcasting, where an unknown size against a known one above 1 becomes that one.
fn broadcast(a: &[Dim], b: &[Dim]) -> Option<Vec<Dim>> {
    let rank = a.len().max(b.len());
    let at =
        |d: &[Dim], axis: usize| (axis + d.len()).checked_sub(rank).map_or(Dim::Known(1), |i| d[i]);
    (0..rank)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (Dim::Known(1), d) | (d, Dim::Known(1)) => Some(d),
            (a, b) => unify(a, b),
        })
        .collect()
}

/// Whether `a` broadcast against `b` has `b`'s shape.
fn broadcasts_to(a: &[Dim], b: &[Dim]) -> bool {
    a.len() <= b.len() && broadcast(a, b).is_some_and(|d| unify_all(&d, b).is_some())
}
