//! Weights to int8, in the arithmetic of the baseline's `quantize_state_dict_int8`.

use super::{ArtifactTensor, type_name};
use crate::Result;
use orion_tensor::{DType, Tensor, f16};

/// Tensors of up to so many numbers are not quantized.
const SMALL: usize = 65_536;

/// Parts of names of small tensors that stay fp32.
const KEPT_WIDE: [&str; 8] = [
    "attn_scale",
    "attn_scales",
    "mlp_scale",
    "mlp_scales",
    "resid_mix",
    "resid_mixes",
    "q_gain",
    "skip_weight",
];

/// Magnitudes above this quantile are cut off.
const CLIP_QUANTILE: f32 = 0.999_998_4;

/// The least scale of a row: weights below 1 are kept in steps of this.
const LEAST_SCALE: f32 = 1.0 / 127.0;

/// Quantizes a tensor as the baseline does; `name` decides what stays fp32.
///
/// Matrices of more than 65,536 numbers get one fp16 scale a row, other tensors of that size one
/// fp32 scale. Smaller ones become fp16.
///
/// # Errors
/// [`NotRepresentable`](crate::ErrorKind::NotRepresentable) for element types other than fp32,
/// fp16 and bf16.
pub fn quantize(name: &str, tensor: &Tensor) -> Result<ArtifactTensor> {
    type_name(tensor.dtype())?;
    let (shape, original) = (tensor.shape(), tensor.dtype());
    let values = tensor.to_f32_vec();
    if values.len() <= SMALL {
        if KEPT_WIDE.iter().any(|part| name.contains(part)) {
            let tensor = Tensor::from_slice(shape, &values);
            return Ok(ArtifactTensor::Plain { tensor, original: None });
        }
        if original == DType::F16 {
            return Ok(ArtifactTensor::Plain { tensor: tensor.clone(), original: None });
        }
        let narrow: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
        let tensor = Tensor::from_slice(shape, &narrow);
        crate::check_finite(name, &tensor)?;
        return Ok(ArtifactTensor::Plain { tensor, original: Some(original) });
    }
    let mut data = Vec::with_capacity(values.len());
    let mut rounded = |values: &[f32], clip: f32, scale: f32| {
        data.extend(values.iter().map(|v| {
            let whole = (v.clamp(-clip, clip) / scale).round_ties_even();
            whole.clamp(-127.0, 127.0) as i8
        }));
    };
    let scale = if let &[rows, columns] = shape {
        let mut scales = Vec::with_capacity(rows);
        for row in values.chunks_exact(columns) {
            let clip = quantile(row);
            let scale = (clip / 127.0).max(LEAST_SCALE);
            rounded(row, clip, scale);
            scales.push(f16::from_f32(scale));
        }
        let scales = Tensor::from_slice(&[rows], &scales);
        crate::check_finite(name, &scales)?;
        scales
    } else {
        let clip = quantile(&values);
        let scale = if clip > 0.0 { clip / 127.0 } else { 1.0 };
        rounded(&values, clip, scale);
        Tensor::from_slice(&[], &[scale])
    };
    let data = Tensor::from_slice(shape, &data);
    Ok(ArtifactTensor::Quantized { data, scale, original })
}

/// The quantile of magnitudes, between neighbours on a line, as PyTorch computes it: from the
/// quantile in fp32, which in rows of some hundred numbers moves the result in its last digits.
fn quantile(row: &[f32]) -> f32 {
    let mut magnitudes: Vec<f32> = row.iter().map(|v| v.abs()).collect();
    magnitudes.sort_unstable_by(f32::total_cmp);
    let rank = f64::from(CLIP_QUANTILE) * (row.len() - 1) as f64;
    let below = rank.floor();
    let weight = (rank - below) as f32;
    let (low, high) = (magnitudes[below as usize], magnitudes[rank.ceil() as usize]);
    // PyTorch's `lerp`, whose products are not rounded before they are added.
    if weight < 0.5 {
        weight.mul_add(high - low, low)
    } else {
        (weight - 1.0).mul_add(high - low, high)
    }
}
