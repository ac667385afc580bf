use orion_tensor::DType;

/// How a tensor lies in memory that the Neural Engine reads or writes: rows of the last axis
/// begin at multiples of 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurfaceLayout {
    /// Bytes from one row to the next.
    pub row_bytes: usize,
    /// Distance of neighbours along each axis, in elements.
    pub strides: Vec<usize>,
    /// Bytes of the whole.
    pub size_bytes: usize,
}

impl SurfaceLayout {
    /// The layout of a shape. `None` when it does not fit memory.
    pub fn of(dtype: DType, shape: &[usize]) -> Option<Self> {
        let size = dtype.size_bytes();
        let (&row, outer) = shape.split_last().unwrap_or((&1, &[]));
        let row_bytes = row.checked_mul(size)?.checked_next_multiple_of(64)?.max(64);
        let mut strides = vec![1; shape.len()];
        let mut stride = row_bytes / size;
        for (axis, &n) in outer.iter().enumerate().rev() {
            strides[axis] = stride;
            stride = stride.checked_mul(n)?;
        }
        Some(Self { row_bytes, strides, size_bytes: stride.checked_mul(size)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layouts_that_compiled_models_carry() {
        // Published: [1,8,1,1] has rows of 64 bytes and planes of 512, [1,8,64,64] planes of 8192.
        let of = |shape: &[usize]| SurfaceLayout::of(DType::F16, shape).unwrap();
        assert_eq!(of(&[1, 8, 8, 1]).strides, [2048, 256, 32, 1]);
        assert_eq!(of(&[1, 8, 64, 64]).strides[1] * 2, 8192);
        assert_eq!((of(&[1, 1, 1, 1]).row_bytes, of(&[1, 1, 1, 64]).row_bytes), (64, 128));
        // 768 channels of one element take the 49,152 bytes that were taken for a least size.
        assert_eq!(of(&[1, 768, 1, 1]).size_bytes, 49_152);
        assert_eq!(SurfaceLayout::of(DType::F32, &[1, 768, 1, 16]).unwrap().size_bytes, 49_152);
        assert!(SurfaceLayout::of(DType::F16, &[usize::MAX, 2]).is_none());
    }
}
