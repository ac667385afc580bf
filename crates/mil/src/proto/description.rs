//! What Core ML asks a model to say about its inputs, outputs and states, from the signatures of
//! its functions.

use super::error::{ProtoError, ProtoErrorKind as Kind};
use super::model_messages::{
    ArrayFeatureType, DictionaryFeatureType, Empty, EnumeratedShapes, FeatureDescription,
    FeatureKind, FeatureType, FunctionDescription, KeyType, Metadata, ModelDescription, Shape,
    ShapeFlexibility, ShapeRange, SizeRange, StateFeatureType,
};
use super::{flexible, in_place, opset};
use crate::flexible::{Allowed, Flexible, flexible_inputs};
use crate::{Dialect, Dim, Function, Program, TensorType, Type};
use orion_tensor::DType;

/// Element types that inputs and outputs can have, and their numbers there.
const ARRAY_DTYPES: [(DType, i32); 4] =
    [(DType::F16, 65552), (DType::F32, 65568), (DType::I8, 131_080), (DType::I32, 131_104)];

/// The first version with states, several functions and `program(1.3)`.
const IOS18_VERSION: i32 = 9;

/// The lowest specification version that has everything the program uses.
pub(super) fn specification_version(program: &Program) -> i32 {
    let opsets = program.functions.iter().filter_map(|f| opset::specification_version(&f.opset));
    let of_types = program.functions.iter().flat_map(|f| {
        let results = f.body.results.iter().copied();
        f.params.iter().map(|p| p.value).chain(results).map(|id| match f.ty(id) {
            Type::State(_) => IOS18_VERSION,
            Type::Tensor(t) if t.dtype == DType::I8 => 10,
            Type::Tensor(t) if t.dtype == DType::F16 => 7,
            _ => 6,
        })
    });
    let newer = program.dialect == Dialect::V1_3 || !has_one_main(program);
    let least = if newer { IOS18_VERSION } else { 6 };
    opsets.chain(of_types).fold(least, i32::max)
}

/// Whether the description is that of the one function `main`, rather than one for each.
fn has_one_main(program: &Program) -> bool {
    matches!(&program.functions[..], [only] if only.name == "main")
}

/// The description of a program.
pub(super) fn describe(program: &Program, summary: &str) -> Result<ModelDescription, ProtoError> {
    let functions = program
        .functions
        .iter()
        .map(|function| describe_function(function).map_err(|e| e.in_function(&function.name)));
    let mut functions = functions.collect::<Result<Vec<_>, _>>()?;
    let mut user_defined = in_place::write(program);
    user_defined.extend(flexible::write(program));
    user_defined.insert("orion".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    let metadata = Some(Metadata { short_description: summary.to_owned(), user_defined });
    if has_one_main(program)
        && let Some(main) = functions.pop()
    {
        return Ok(ModelDescription {
            input: main.input,
            output: main.output,
            state: main.state,
            predicted_feature_name: main.predicted_feature_name,
            predicted_probabilities_name: main.predicted_probabilities_name,
            metadata,
            ..ModelDescription::default()
        });
    }
    functions.sort_by(|a, b| a.name.cmp(&b.name));
    let main = functions.iter().find(|f| f.name == "main").or(functions.first());
    let default_function_name = main.map(|f| f.name.clone()).unwrap_or_default();
    Ok(ModelDescription { functions, default_function_name, metadata, ..Default::default() })
}

fn describe_function(function: &Function) -> Result<FunctionDescription, ProtoError> {
    let mut description =
        FunctionDescription { name: function.name.clone(), ..FunctionDescription::default() };
    let sizes = flexible_inputs(function);
    for param in &function.params {
        let name = function.value_name(param.value);
        let refuse = |e: ProtoError| e.at(|| format!("input `{name}`"));
        match function.ty(param.value) {
            Type::Tensor(t) => {
                let array = input_array(t, sizes.get(name)).map_err(refuse)?;
                description.input.push(feature(name, FeatureKind::MultiArray(array)));
            }
            Type::State(t) => {
                let array = state_array(t).map_err(refuse)?;
                let state = StateFeatureType { array: Some(array) };
                description.state.push(feature(name, FeatureKind::State(state)));
            }
            ty => return Err(refuse(unsupported(format!("an input of type {ty}")))),
        }
    }
    for &result in &function.body.results {
        let name = function.value_name(result);
        let kind =
            output_kind(function.ty(result)).map_err(|e| e.at(|| format!("output `{name}`")))?;
        description.output.push(feature(name, kind));
    }
    if let Some(classify) = function.body.operations.iter().find(|o| o.name == "classify")
        && let [label, probabilities] = classify.outputs[..]
    {
        description.predicted_feature_name = function.value_name(label).to_owned();
        description.predicted_probabilities_name = function.value_name(probabilities).to_owned();
    }
    Ok(description)
}

fn unsupported(detail: String) -> ProtoError {
    ProtoError::new(Kind::NotRepresentable, detail)
}

fn feature(name: &str, kind: FeatureKind) -> FeatureDescription {
    FeatureDescription {
        name: name.to_owned(),
        short_description: String::new(),
        r#type: Some(FeatureType { kind: Some(kind), is_optional: false }),
    }
}

fn array_number(dtype: DType) -> Result<i32, ProtoError> {
    let found = ARRAY_DTYPES.iter().find(|row| row.0 == dtype).map(|row| row.1);
    found.ok_or_else(|| {
        unsupported(format!("{dtype} at the border of a model; fp16, fp32, int8 and int32 can be"))
    })
}

/// Sizes that are all known; a scalar is described as one element.
fn fixed_shape(t: &TensorType) -> Option<Vec<i64>> {
    let shape: Vec<i64> = t.shape()?.into_iter().map(|n| n as i64).collect();
    Some(if shape.is_empty() { vec![1] } else { shape })
}

/// The array that a feature is, if it is one.
pub(super) fn array_of(feature: &FeatureDescription) -> Option<&ArrayFeatureType> {
    match feature.r#type.as_ref()?.kind.as_ref()? {
        FeatureKind::MultiArray(array) => Some(array),
        _ => None,
    }
}

/// What is said of the sizes of an input, as far as it goes with its type.
fn flexibility(t: &TensorType, sizes: &Flexible) -> Option<ShapeFlexibility> {
    let signed = |n: usize| i64::try_from(n).ok();
    let fits = |shape: &[usize]| {
        let fits = |(&n, &d): (&usize, &Dim)| d == Dim::Unknown || d == Dim::Known(n);
        shape.len() == t.rank() && shape.iter().zip(&t.dims).all(fits)
    };
    if !fits(&sizes.default) {
        return None;
    }
    Some(match &sizes.allowed {
        Allowed::Ranges(ranges) if ranges.len() == t.rank() => {
            let range = |&(least, most): &(usize, Option<usize>)| {
                let upper_bound = most.map_or(Some(-1), signed)?;
                Some(SizeRange { lower_bound: least as u64, upper_bound })
            };
            let size_ranges = ranges.iter().map(range).collect::<Option<_>>()?;
            ShapeFlexibility::Range(ShapeRange { size_ranges })
        }
        Allowed::Enumerated(shapes) if shapes.iter().all(|s| fits(s)) => {
            let shape = |s: &Vec<usize>| {
                Some(Shape { shape: s.iter().map(|&n| signed(n)).collect::<Option<_>>()? })
            };
            let shapes = shapes.iter().map(shape).collect::<Option<_>>()?;
            ShapeFlexibility::Enumerated(EnumeratedShapes { shapes })
        }
        _ => return None,
    })
}

fn input_array(t: &TensorType, sizes: Option<&Flexible>) -> Result<ArrayFeatureType, ProtoError> {
    let data_type = array_number(t.dtype)?;
    if let Some(sizes) = sizes
        && let Some(flexibility) = flexibility(t, sizes)
    {
        let shape = sizes.default.iter().map(|&n| n as i64).collect();
        return Ok(ArrayFeatureType { shape, data_type, flexibility: Some(flexibility) });
    }
    if let Some(shape) = fixed_shape(t) {
        return Ok(ArrayFeatureType { shape, data_type, flexibility: None });
    }
    // Unknown sizes start at one, which is also the size by default, and have no end.
    let (shape, size_ranges) = t
        .dims
        .iter()
        .map(|d| match *d {
            Dim::Known(n) => (n as i64, SizeRange { lower_bound: n as u64, upper_bound: n as i64 }),
            Dim::Unknown => (1, SizeRange { lower_bound: 1, upper_bound: -1 }),
        })
        .unzip();
    let flexibility = Some(ShapeFlexibility::Range(ShapeRange { size_ranges }));
    Ok(ArrayFeatureType { shape, data_type, flexibility })
}

fn state_array(t: &TensorType) -> Result<ArrayFeatureType, ProtoError> {
    if t.dtype != DType::F16 {
        return Err(unsupported(format!("a state of {}; states are fp16", t.dtype)));
    }
    let shape = fixed_shape(t);
    let shape = shape.ok_or_else(|| unsupported("a state of unknown size".into()))?;
    Ok(ArrayFeatureType { shape, data_type: array_number(t.dtype)?, flexibility: None })
}

fn output_kind(ty: &Type) -> Result<FeatureKind, ProtoError> {
    let is_scalar = |ty: &Type, dtype| *ty == Type::scalar(dtype);
    Ok(match ty {
        // Labels and probabilities of a classifier.
        ty if is_scalar(ty, DType::String) => FeatureKind::String(Empty {}),
        ty if is_scalar(ty, DType::I64) => FeatureKind::Int64(Empty {}),
        Type::Dict(key, value) if is_scalar(value, DType::F64) || is_scalar(value, DType::F32) => {
            let key = match &**key {
                key if is_scalar(key, DType::String) => KeyType::String(Empty {}),
                key if is_scalar(key, DType::I64) => KeyType::Int64(Empty {}),
                _ => return Err(unsupported(format!("an output of type {ty}"))),
            };
            FeatureKind::Dictionary(DictionaryFeatureType { key: Some(key) })
        }
        Type::Tensor(t) => FeatureKind::MultiArray(ArrayFeatureType {
            // Sizes that differ from run to run are not described.
            shape: fixed_shape(t).unwrap_or_default(),
            data_type: array_number(t.dtype)?,
            flexibility: None,
        }),
        _ => return Err(unsupported(format!("an output of type {ty}"))),
    })
}
