//! A function in fp16 instead of fp32, its inputs and results too.

use orion_mil::{Data, Function, TensorType, Type, Value};
use orion_tensor::{DType, Tensor, f16};

/// Every fp32 and bf16 value becomes fp16, constants rounded to it. Those of a weight file are said
/// to be fp16 there.
pub(super) fn to_half(function: &mut Function) {
    let ids: Vec<_> = function.values.iter().map(|(id, _)| id).collect();
    for id in ids {
        if let Type::Tensor(ty) = &mut function.values[id].ty
            && is_wide(ty.dtype)
        {
            ty.dtype = DType::F16;
        }
    }
    for operation in &mut function.body.operations {
        if operation.name == "const"
            && let Some(value) = operation.attributes.get_mut("val")
        {
            *value = half(value);
        }
    }
}

fn is_wide(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::BF16)
}

fn half(value: &Value) -> Value {
    if value.as_str() == Some(DType::F32.name()) {
        // What a cast goes to.
        return Value::string(DType::F16.name());
    }
    if let (Data::Blob { .. }, Type::Tensor(ty)) = (&value.data, &value.ty)
        && is_wide(ty.dtype)
    {
        let ty = TensorType { dtype: DType::F16, ..ty.clone() };
        return Value { ty: ty.into(), ..value.clone() };
    }
    match value.as_tensor() {
        Some(tensor) if tensor.dtype() == DType::F32 => {
            let numbers: Vec<f16> = tensor.to_f32_vec().into_iter().map(f16::from_f32).collect();
            let mut value = value.clone();
            let narrow = Value::tensor(Tensor::from_slice(tensor.shape(), &numbers));
            value.data = narrow.data;
            value.ty = narrow.ty;
            value
        }
        _ => value.clone(),
    }
}
