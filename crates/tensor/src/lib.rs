//! Element types, shapes, shared byte storage, host tensors and named tolerances.
//!
//! This crate knows nothing of MIL or of any device.

mod bytes;
mod dtype;
mod parts;
mod shape;
mod tensor;
mod tolerance;

pub use bytes::{AlignedBytes, Bytes};
pub use dtype::{DType, Element};
pub use half::{bf16, f16};
pub use parts::{in_parts, over_parts};
pub use shape::{broadcast_shapes, element_count, row_major_strides};
pub use tensor::{Tensor, TensorError};
pub use tolerance::{Mismatch, Tolerance};
