//! Tensors as a person writes them: `tensor<fp32, [2, 2]>: 1 2 3 4`, or `random SEED`.

use orion_mil::{Type, ValueId};
use orion_tensor::{DType, Tensor, element_count};
use orion_testing::Random;

/// A tensor of this type from its numbers in row-major order, or `random SEED`. A single number
/// fills it.
pub(crate) fn read(dtype: DType, shape: &[usize], text: &str) -> Result<Tensor, String> {
    if let Some(seed) = text.strip_prefix("random ") {
        let seed = seed.trim().parse().map_err(|_| format!("`{seed}` is not a seed"))?;
        return Ok(Random::new(seed).suitable(dtype, shape));
    }
    let mut values = text
        .split_whitespace()
        .map(|word| word.parse::<f64>().map_err(|_| format!("`{word}` is not a number")))
        .collect::<Result<Vec<f64>, String>>()?;
    let count = element_count(shape);
    if values.len() == 1 {
        values = vec![values[0]; count];
    }
    if values.len() != count {
        return Err(format!("{} numbers for {count} elements of {shape:?}", values.len()));
    }
    Ok(Tensor::from_f64(dtype, shape, &values))
}

/// The same for a parameter.
pub(crate) fn read_for(
    function: &orion_mil::Function,
    id: ValueId,
    text: &str,
) -> Result<Tensor, String> {
    let (Type::Tensor(ty) | Type::State(ty)) = function.ty(id) else {
        return Err(format!("`{}` is no tensor", function.value_name(id)));
    };
    read(ty.dtype, &ty.shape().ok_or("its shape is not known")?, text)
}

/// Type and numbers. Floats have the fewest digits that read back as the same fp32 or fp16.
pub(crate) fn write(tensor: &Tensor) -> String {
    let numbers: Vec<String> = match tensor.dtype() {
        DType::F32 => tensor.elements::<f32>().iter().map(f32::to_string).collect(),
        _ => tensor.to_f64_vec().iter().map(f64::to_string).collect(),
    };
    let ty = Type::tensor(tensor.dtype(), tensor.shape());
    format!("{ty}: {}", numbers.join(" "))
}

/// The numbers after the type, for a comparison with a tolerance.
pub(crate) fn numbers(line: &str) -> Option<(&str, Vec<f64>)> {
    let (head, numbers) = line.rsplit_once(": ")?;
    let numbers = numbers.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    Some((head, numbers))
}
