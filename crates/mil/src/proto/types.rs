//! Types of a program, in both directions.

use super::error::{ProtoError, ProtoErrorKind as Kind};
use super::program_messages as message;
use crate::{Dim, TensorType, Type};
use message::{DimensionKind, TypeKind};
use orion_tensor::DType;

/// Tensors of more elements than this do not exist, and their byte counts could overflow.
const ELEMENT_LIMIT: u64 = 1 << 48;

/// Element types and their numbers in `MIL.proto`, which are not those of weight files.
const DTYPES: [(DType, i32); 22] = [
    (DType::Bool, 1),
    (DType::String, 2),
    (DType::F16, 10),
    (DType::F32, 11),
    (DType::F64, 12),
    (DType::BF16, 13),
    (DType::I8, 21),
    (DType::I16, 22),
    (DType::I32, 23),
    (DType::I64, 24),
    (DType::I4, 25),
    (DType::U8, 31),
    (DType::U16, 32),
    (DType::U32, 33),
    (DType::U64, 34),
    (DType::U4, 35),
    (DType::U2, 36),
    (DType::U1, 37),
    (DType::U6, 38),
    (DType::U3, 39),
    (DType::F8E4M3FN, 40),
    (DType::F8E5M2, 41),
];

pub(super) fn read_type(ty: Option<&message::ValueType>) -> Result<Type, ProtoError> {
    let kind = ty.and_then(|t| t.r#type.as_ref());
    let kind = kind.ok_or_else(|| ProtoError::new(Kind::Malformed, "a type is missing"))?;
    Ok(match kind {
        TypeKind::Tensor(t) => Type::Tensor(read_tensor_type(t)?),
        TypeKind::List(list) => Type::List {
            element: Box::new(read_type(list.r#type.as_ref())?),
            length: read_dim(list.length.as_ref())?,
        },
        TypeKind::Tuple(tuple) => {
            let items = tuple.types.iter().map(|t| read_type(Some(t)));
            Type::Tuple(items.collect::<Result<_, _>>()?)
        }
        TypeKind::Dictionary(dict) => Type::Dict(
            Box::new(read_type(dict.key_type.as_ref())?),
            Box::new(read_type(dict.value_type.as_ref())?),
        ),
        TypeKind::State(state) => match read_type(state.wrapped_type.as_ref())? {
            Type::Tensor(t) => Type::State(t),
            other => {
                let detail = format!("a state holds a tensor, not {other}");
                return Err(ProtoError::new(Kind::Malformed, detail));
            }
        },
    })
}

fn read_tensor_type(ty: &message::TensorType) -> Result<TensorType, ProtoError> {
    let fail = |kind, detail: String| Err(ProtoError::new(kind, detail));
    let Some(&(dtype, _)) = DTYPES.iter().find(|(_, number)| *number == ty.data_type) else {
        return fail(Kind::Unsupported, format!("element type number {}", ty.data_type));
    };
    if ty.rank < 0 {
        return fail(Kind::Unsupported, "types of variable rank".into());
    }
    if ty.rank != ty.dimensions.len() as i64 {
        let found = ty.dimensions.len();
        return fail(Kind::Malformed, format!("a tensor of rank {} has {found} sizes", ty.rank));
    }
    if let Some(name) = ty.attributes.keys().next() {
        return fail(Kind::Unsupported, format!("the attribute {name:?} of a tensor type"));
    }
    let dims: Vec<Dim> =
        ty.dimensions.iter().map(|d| read_dim(Some(d))).collect::<Result<_, _>>()?;
    let sizes = dims.iter().map(|d| if let Dim::Known(n) = d { (*n).max(1) as u64 } else { 1 });
    let product = sizes.into_iter().try_fold(1u64, |n, size| n.checked_mul(size));
    if product.is_none_or(|n| n > ELEMENT_LIMIT) {
        return fail(Kind::TooLarge, "a tensor of more than 2^48 elements".into());
    }
    Ok(TensorType { dtype, dims })
}

fn read_dim(dim: Option<&message::Dimension>) -> Result<Dim, ProtoError> {
    match dim.and_then(|d| d.dimension.as_ref()) {
        Some(DimensionKind::Constant(c)) if c.size <= ELEMENT_LIMIT => {
            Ok(Dim::Known(c.size as usize))
        }
        Some(DimensionKind::Constant(c)) => {
            let detail = format!("{} is no possible size", c.size);
            Err(ProtoError::new(Kind::TooLarge, detail))
        }
        Some(DimensionKind::Unknown(u)) if u.variadic => {
            Err(ProtoError::new(Kind::Unsupported, "types of variable rank"))
        }
        Some(DimensionKind::Unknown(_)) => Ok(Dim::Unknown),
        None => Err(ProtoError::new(Kind::Malformed, "a size is missing")),
    }
}

pub(super) fn write_type(ty: &Type) -> Result<message::ValueType, ProtoError> {
    let kind = match ty {
        Type::Tensor(t) => TypeKind::Tensor(write_tensor_type(t)),
        Type::List { element, length } => TypeKind::List(Box::new(message::ListType {
            r#type: Some(write_type(element)?),
            length: Some(write_dim(*length)),
        })),
        Type::Tuple(items) => TypeKind::Tuple(message::TupleType {
            types: items.iter().map(write_type).collect::<Result<_, _>>()?,
        }),
        Type::Dict(key, value) => TypeKind::Dictionary(Box::new(message::DictionaryType {
            key_type: Some(write_type(key)?),
            value_type: Some(write_type(value)?),
        })),
        Type::State(t) => {
            let tensor = TypeKind::Tensor(write_tensor_type(t));
            let wrapped_type = Some(message::ValueType { r#type: Some(tensor) });
            TypeKind::State(Box::new(message::StateType { wrapped_type }))
        }
        Type::TensorBuffer { .. } => {
            return Err(ProtoError::new(Kind::NotRepresentable, format!("the type {ty}")));
        }
    };
    Ok(message::ValueType { r#type: Some(kind) })
}

fn write_tensor_type(ty: &TensorType) -> message::TensorType {
    let number = DTYPES.iter().find(|(dtype, _)| *dtype == ty.dtype).map(|row| row.1);
    message::TensorType {
        data_type: number.expect("the table has every element type"),
        rank: ty.rank() as i64,
        dimensions: ty.dims.iter().map(|&d| write_dim(d)).collect(),
        attributes: Default::default(),
    }
}

fn write_dim(dim: Dim) -> message::Dimension {
    let kind = match dim {
        Dim::Known(n) => DimensionKind::Constant(message::ConstantDimension { size: n as u64 }),
        Dim::Unknown => DimensionKind::Unknown(message::UnknownDimension { variadic: false }),
    };
    message::Dimension { dimension: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_type_has_one_number() {
        for dtype in DType::all() {
            let ty = Type::tensor(dtype, &[2]);
            assert_eq!(read_type(Some(&write_type(&ty).unwrap())).unwrap(), ty);
        }
    }
}
