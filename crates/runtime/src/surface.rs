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
    /// Bytes of memory, the padding behind the last row included.
    pub size_bytes: usize,
}

impl Layout {
    /// Row-major without gaps.
    pub fn dense(dtype: DType, shape: &[usize]) -> Self {
        let size_bytes = element_count(shape) * dtype.size_bytes();
        Self { dtype, shape: shape.to_vec(), strides: row_major_strides(shape), size_bytes }
    }

    /// Whether elements lie row-major without gaps, and nothing behind them.
    pub fn is_dense(&self) -> bool {
        self.strides == row_major_strides(&self.shape)
            && self.size_bytes == element_count(&self.shape) * self.dtype.size_bytes()
    }

    /// Where each element lies, row-major, in bytes.
    fn places(&self) -> impl Iterator<Item = usize> + '_ {
        let size = self.dtype.size_bytes();
        (0..element_count(&self.shape)).map(move |element| {
            let mut rest = element;
            let axes = self.shape.iter().zip(&self.strides).rev();
            let at: usize = axes
                .map(|(&n, &stride)| {
                    let at = rest % n * stride;
                    rest /= n;
                    at
                })
                .sum();
            at * size
        })
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
        let bytes = AlignedBytes::zeroed(layout.size_bytes);
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
        Self::holding(Layout::dense(tensor.dtype(), tensor.shape()), tensor)
    }

    /// A surface of that layout holding a copy of a tensor; what lies between is zero.
    ///
    /// # Panics
    /// When the tensor is of another type or shape.
    pub fn holding(layout: Layout, tensor: &Tensor) -> Self {
        let mut surface = Self::zeros(layout);
        surface.store(tensor);
        surface
    }

    /// Replaces the elements by those of a tensor; what lies between stays.
    ///
    /// # Panics
    /// When the tensor is of another type or shape.
    pub fn store(&mut self, tensor: &Tensor) {
        let layout = &self.layout;
        let (dtype, shape) = (layout.dtype, &layout.shape);
        assert!((tensor.dtype(), tensor.shape()) == (dtype, &shape[..]), "the surface's type");
        if layout.is_dense() {
            self.bytes.copy_from_slice(tensor.bytes());
            return;
        }
        let size = dtype.size_bytes();
        for (place, element) in layout.places().zip(tensor.bytes().chunks_exact(size)) {
            self.bytes[place..place + size].copy_from_slice(element);
        }
    }

    /// A copy as a tensor.
    pub fn to_tensor(&self) -> Tensor {
        let layout = &self.layout;
        let bytes = if layout.is_dense() {
            Bytes::new(self.bytes.clone())
        } else {
            let size = layout.dtype.size_bytes();
            let elements = layout.places().flat_map(|p| self.bytes[p..p + size].iter().copied());
            Bytes::new(AlignedBytes::copy_of(&elements.collect::<Vec<u8>>()))
        };
        Tensor::new(layout.dtype, layout.shape.clone(), bytes).expect("sizes agree")
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
