use orion_tensor::{AlignedBytes, Bytes, DType, Element, Tensor, element_count, row_major_strides};

/// How a tensor lies in memory. Devices may ask for padded rows; the CPU's are dense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Element type. Sub-byte types take a byte an element.
    pub dtype: DType,
    /// Size of each axis.
    pub shape: Vec<usize>,
    /// Distance of neighbours along each axis, in elements.
    pub strides: Vec<usize>,
}

impl Layout {
    /// Row-major without gaps.
    pub fn dense(dtype: DType, shape: &[usize]) -> Self {
        Self { dtype, shape: shape.to_vec(), strides: row_major_strides(shape) }
    }

    /// Whether elements lie row-major without gaps.
    pub fn is_dense(&self) -> bool {
        self.strides == row_major_strides(&self.shape)
    }

    /// Bytes of memory from the first to the last element.
    pub fn size_bytes(&self) -> usize {
        if element_count(&self.shape) == 0 {
            return 0;
        }
        let last: usize = self.shape.iter().zip(&self.strides).map(|(&n, &s)| (n - 1) * s).sum();
        (last + 1) * self.dtype.size_bytes()
    }
}

/// Memory that programs read and write: 64-byte aligned, zero at first.
#[derive(Debug, Clone)]
pub struct Surface {
    layout: Layout,
    bytes: AlignedBytes,
}

impl Surface {
    /// A zeroed surface.
    ///
    /// # Panics
    /// When the element type is `String`.
    pub fn zeros(layout: Layout) -> Self {
        assert_ne!(layout.dtype, DType::String, "surfaces hold numbers");
        let bytes = AlignedBytes::zeroed(layout.size_bytes());
        Self { layout, bytes }
    }

    /// A dense surface holding a copy of `elements`.
    ///
    /// # Panics
    /// When the shape does not have that many elements.
    pub fn from_slice<T: Element>(shape: &[usize], elements: &[T]) -> Self {
        let mut surface = Self::zeros(Layout::dense(T::DTYPE, shape));
        surface.elements_mut::<T>().copy_from_slice(elements);
        surface
    }

    /// A dense surface holding a copy of a tensor.
    pub fn from_tensor(tensor: &Tensor) -> Self {
        let mut surface = Self::zeros(Layout::dense(tensor.dtype(), tensor.shape()));
        surface.bytes.copy_from_slice(tensor.bytes());
        surface
    }

    /// A copy as a tensor.
    ///
    /// # Panics
    /// When the layout is not dense.
    pub fn to_tensor(&self) -> Tensor {
        assert!(self.layout.is_dense(), "a padded surface is not a tensor");
        let bytes = Bytes::new(self.bytes.clone());
        Tensor::new(self.layout.dtype, self.layout.shape.clone(), bytes).expect("sizes agree")
    }

    /// How the memory is laid out.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The memory, gaps included.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The memory, gaps included.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The memory as elements, gaps included.
    ///
    /// # Panics
    /// When `T` is not the element type.
    pub fn elements<T: Element>(&self) -> &[T] {
        assert_eq!(T::DTYPE, self.layout.dtype, "element type");
        bytemuck::cast_slice(&self.bytes)
    }

    /// The memory as elements, gaps included.
    ///
    /// # Panics
    /// When `T` is not the element type.
    pub fn elements_mut<T: Element>(&mut self) -> &mut [T] {
        assert_eq!(T::DTYPE, self.layout.dtype, "element type");
        bytemuck::cast_slice_mut(&mut self.bytes)
    }
}
