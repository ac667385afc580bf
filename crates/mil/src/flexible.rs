//! Which sizes an input may have.
//!
//! In text this is the function attribute `FlexibleShapeInformation`, which Apple's compiler
//! writes; in protobuf it stands in the description of the model.

use crate::{Data, Dim, Function, TensorType, Type, Value};
use orion_tensor::{DType, Tensor};
use std::collections::BTreeMap;
use std::fmt;

/// The attribute that text has.
pub(crate) const ATTRIBUTE: &str = "FlexibleShapeInformation";

/// The sizes of one input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flexible {
    /// The shape when nobody asks for another.
    pub default: Vec<usize>,
    /// All there are.
    pub allowed: Allowed,
}

/// Shapes that are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// Each axis from a least size to a greatest, or without end.
    Ranges(Vec<(usize, Option<usize>)>),
    /// One of these.
    Enumerated(Vec<Vec<usize>>),
}

impl Flexible {
    /// Whether a shape is allowed.
    pub fn allows(&self, shape: &[usize]) -> bool {
        match &self.allowed {
            Allowed::Enumerated(shapes) => shapes.iter().any(|s| s == shape),
            Allowed::Ranges(ranges) => {
                let within = |(&n, &(least, most)): (&usize, &(usize, Option<usize>))| {
                    n >= least && most.is_none_or(|most| n <= most)
                };
                ranges.len() == shape.len() && shape.iter().zip(ranges).all(within)
            }
        }
    }
}

/// `[1, 1 to 32000]`, or `[1, 80] or [1, 160]`.
impl fmt::Display for Flexible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |&(least, most): &(usize, Option<usize>)| match most {
            Some(most) if most == least => least.to_string(),
            Some(most) => format!("{least} to {most}"),
            None => format!("{least} or more"),
        };
        match &self.allowed {
            Allowed::Ranges(ranges) => {
                let sizes: Vec<String> = ranges.iter().map(size).collect();
                write!(f, "[{}]", sizes.join(", "))
            }
            Allowed::Enumerated(shapes) => {
                let shapes: Vec<String> = shapes.iter().map(|s| format!("{s:?}")).collect();
                f.write_str(&shapes.join(" or "))
            }
        }
    }
}

/// The inputs of a function whose sizes may differ, by name.
pub type FlexibleInputs = BTreeMap<String, Flexible>;

/// What the function says about the sizes of its inputs. Nothing when it says nothing, or nothing
/// that is understood.
pub fn flexible_inputs(function: &Function) -> FlexibleInputs {
    let Some(Data::Tuple(parts)) = function.attributes.get(ATTRIBUTE).map(|v| &v.data) else {
        return FlexibleInputs::new();
    };
    let part = |wanted: &str| {
        parts.iter().find_map(|part| match &part.data {
            Data::Tuple(pair) => match &pair[..] {
                [name, value] if name.as_str() == Some(wanted) => Some(value),
                _ => None,
            },
            _ => None,
        })
    };
    let entries = |value: &Value| match &value.data {
        Data::Dict(pairs) => {
            let entry = |(k, v): &(Value, Value)| Some((k.as_str()?.to_owned(), v.clone()));
            pairs.iter().filter_map(entry).collect()
        }
        _ => Vec::new(),
    };
    let shape = |value: &Value| -> Option<Vec<usize>> {
        value.as_ints()?.into_iter().map(|n| usize::try_from(n).ok()).collect()
    };
    let mut allowed: BTreeMap<String, Allowed> = BTreeMap::new();
    for (name, value) in part("RangeDims").map(entries).unwrap_or_default() {
        let Data::List(dims) = &value.data else { continue };
        let range = |dim: &Value| match dim.as_ints()?[..] {
            // There is no end when it is negative.
            [least, most] => Some((usize::try_from(least).ok()?, usize::try_from(most).ok())),
            _ => None,
        };
        if let Some(ranges) = dims.iter().map(range).collect() {
            allowed.insert(name, Allowed::Ranges(ranges));
        }
    }
    for (_, value) in part("EnumeratedShapes").map(entries).unwrap_or_default() {
        for (name, value) in entries(&value) {
            let Some(shape) = shape(&value) else { continue };
            match allowed.entry(name).or_insert_with(|| Allowed::Enumerated(Vec::new())) {
                Allowed::Enumerated(shapes) if !shapes.contains(&shape) => shapes.push(shape),
                _ => {}
            }
        }
    }
    // In text they stand in the order of their names, which say nothing.
    for allowed in allowed.values_mut() {
        if let Allowed::Enumerated(shapes) = allowed {
            shapes.sort();
        }
    }
    let defaults: BTreeMap<String, Value> =
        part("DefaultShapes").map(entries).unwrap_or_default().into_iter().collect();
    let of = |(name, allowed): (String, Allowed)| {
        let default = defaults.get(&name).and_then(shape)?;
        Some((name, Flexible { default, allowed }))
    };
    allowed.into_iter().filter_map(of).collect()
}

/// Has the function say which sizes its inputs may have; nothing when there are none.
pub fn set_flexible_inputs(function: &mut Function, inputs: &FlexibleInputs) {
    if inputs.is_empty() {
        function.attributes.remove(ATTRIBUTE);
        return;
    }
    let string = || Type::scalar(DType::String);
    let open = |rank: &[Dim]| Type::from(TensorType { dtype: DType::I32, dims: rank.to_vec() });
    let numbers = |shape: &[usize], dims: &[Dim]| {
        let shape: Vec<i32> = shape.iter().map(|&n| i32::try_from(n).unwrap_or(-1)).collect();
        let data = Data::Tensor(Tensor::from_slice(&[shape.len()], &shape));
        Value { ty: open(dims), data }
    };
    let dict = |ty: Type, pairs: Vec<(String, Value)>| Value {
        ty: Type::Dict(Box::new(string()), Box::new(ty)),
        data: Data::Dict(pairs.into_iter().map(|(k, v)| (Value::string(k), v)).collect()),
    };
    let named = |name: &str, value: Value| Value {
        ty: Type::Tuple(vec![string(), value.ty.clone()]),
        data: Data::Tuple(vec![Value::string(name), value]),
    };
    let shape_type = || open(&[Dim::Unknown]);
    let shape = |shape: &[usize]| numbers(shape, &[Dim::Unknown]);
    let defaults = inputs.iter().map(|(name, f)| (name.clone(), shape(&f.default))).collect();
    let mut parts = vec![named("DefaultShapes", dict(shape_type(), defaults))];
    let mut enumerated: BTreeMap<String, Vec<(String, Value)>> = BTreeMap::new();
    let mut ranged = Vec::new();
    let pair = Type::List { element: Box::new(open(&[Dim::Known(2)])), length: Dim::Unknown };
    for (name, flexible) in inputs {
        match &flexible.allowed {
            Allowed::Enumerated(shapes) => {
                for one in shapes {
                    enumerated.entry(key(one)).or_default().push((name.clone(), shape(one)));
                }
            }
            Allowed::Ranges(ranges) => {
                let ends = ranges.iter().map(|&(least, most)| {
                    numbers(&[least, most.unwrap_or(usize::MAX)], &[Dim::Known(2)])
                });
                let list = Value { ty: pair.clone(), data: Data::List(ends.collect()) };
                ranged.push((name.clone(), list));
            }
        }
    }
    if !enumerated.is_empty() {
        let sets = enumerated.into_iter().map(|(key, set)| (key, dict(shape_type(), set)));
        let each = Type::Dict(Box::new(string()), Box::new(shape_type()));
        parts.push(named("EnumeratedShapes", dict(each, sets.collect())));
    }
    if !ranged.is_empty() {
        parts.push(named("RangeDims", dict(pair, ranged)));
    }
    let types = parts.iter().map(|p| p.ty.clone()).collect();
    let value = Value { ty: Type::Tuple(types), data: Data::Tuple(parts) };
    function.attributes.insert(ATTRIBUTE.to_owned(), value);
}

/// The name of a shape among others: eight hexadecimal digits that depend on it alone.
fn key(shape: &[usize]) -> String {
    let hash = shape.iter().fold(0x811c_9dc5_u32, |hash, &n| {
        (n as u64)
            .to_le_bytes()
            .iter()
            .fold(hash, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    });
    format!("{hash:08x}")
}
