use crate::Error;
use orion_tensor::{AlignedBytes, Bytes, DType, Element, Tensor, element_count, row_major_strides};
use std::any::Any;
use std::fmt;

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

/// Memory that a device made, which it and the host see without copies.
///
/// The host's turn begins with the first call after a run of the device and ends with the next run
/// that is given the memory; an implementation tells the system, which may fail. Whoever calls
/// holds a reference to the surface for as long as it uses the bytes, and a device that is to
/// write them gets a mutable one: so turns never meet.
pub trait DeviceMemory: Any + Send + Sync + fmt::Debug {
    /// The bytes, to be read by the host.
    ///
    /// # Errors
    /// When the system does not let the host have them.
    fn bytes(&self) -> Result<&[u8], Error>;

    /// The bytes, to be read and written by the host.
    ///
    /// # Errors
    /// When the system does not let the host have them.
    fn bytes_mut(&mut self) -> Result<&mut [u8], Error>;
}

/// Memory that programs read and write: 64-byte aligned, zero at first.
///
/// It is the host's own, or a device's ([`Device::surface`](crate::Device::surface)). A clone is a
/// copy in memory of the host's own.
#[derive(Debug)]
pub struct Surface {
    layout: Layout,
    memory: Memory,
}

#[derive(Debug)]
enum Memory {
    Host(AlignedBytes),
    Device(Box<dyn DeviceMemory>),
}

/// Why it is a panic: see [`Surface::ready_to_read`].
const LOST: &str = "the system takes back memory that it gave";

impl Surface {
    /// A zeroed surface.
    ///
    /// # Panics
    /// When the element type is `String`.
    pub fn zeros(layout: Layout) -> Self {
        assert_ne!(layout.dtype, DType::String, "surfaces hold numbers");
        let memory = Memory::Host(AlignedBytes::zeroed(layout.size_bytes));
        Self { layout, memory }
    }

    /// A surface in memory of a device, which is zero and has as many bytes as the layout,
    /// aligned to 64.
    ///
    /// # Panics
    /// When the element type is `String`.
    pub fn in_device_memory(layout: Layout, memory: Box<dyn DeviceMemory>) -> Self {
        assert_ne!(layout.dtype, DType::String, "surfaces hold numbers");
        Self { layout, memory: Memory::Device(memory) }
    }

    /// The memory, if it is of this device's kind.
    pub fn device_memory<M: DeviceMemory>(&self) -> Option<&M> {
        match &self.memory {
            Memory::Host(_) => None,
            Memory::Device(memory) => (&**memory as &dyn Any).downcast_ref(),
        }
    }

    /// The memory, if it is of this device's kind.
    pub fn device_memory_mut<M: DeviceMemory>(&mut self) -> Option<&mut M> {
        match &mut self.memory {
            Memory::Host(_) => None,
            Memory::Device(memory) => (&mut **memory as &mut dyn Any).downcast_mut(),
        }
    }

    /// Begins the host's turn with a device's memory, so that reading it cannot fail until a
    /// device writes it.
    ///
    /// # Errors
    /// When the system does not let the host have the memory.
    pub fn ready_to_read(&self) -> Result<(), Error> {
        match &self.memory {
            Memory::Host(_) => Ok(()),
            Memory::Device(memory) => memory.bytes().map(drop),
        }
    }

    /// The same for writing.
    ///
    /// # Errors
    /// When the system does not let the host have the memory.
    pub fn ready_to_write(&mut self) -> Result<(), Error> {
        match &mut self.memory {
            Memory::Host(_) => Ok(()),
            Memory::Device(memory) => memory.bytes_mut().map(drop),
        }
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
            self.bytes_mut().copy_from_slice(tensor.bytes());
            return;
        }
        let (size, layout) = (dtype.size_bytes(), layout.clone());
        let bytes = self.bytes_mut();
        for (place, element) in layout.places().zip(tensor.bytes().chunks_exact(size)) {
            bytes[place..place + size].copy_from_slice(element);
        }
    }

    /// A copy as a tensor.
    pub fn to_tensor(&self) -> Tensor {
        let layout = &self.layout;
        let bytes = if layout.is_dense() {
            Bytes::new(AlignedBytes::copy_of(self.bytes()))
        } else {
            let size = layout.dtype.size_bytes();
            let memory = self.bytes();
            let elements = layout.places().flat_map(|p| memory[p..p + size].iter().copied());
            Bytes::new(AlignedBytes::copy_of(&elements.collect::<Vec<u8>>()))
        };
        Tensor::new(layout.dtype, layout.shape.clone(), bytes).expect("sizes agree")
    }

    /// How the memory is laid out.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The memory, gaps included.
    ///
    /// # Panics
    /// When it is a device's and the system does not let the host have it:
    /// [`Surface::ready_to_read`] says so instead.
    pub fn bytes(&self) -> &[u8] {
        match &self.memory {
            Memory::Host(bytes) => bytes,
            Memory::Device(memory) => memory.bytes().expect(LOST),
        }
    }

    /// The memory, gaps included.
    ///
    /// # Panics
    /// When it is a device's and the system does not let the host have it:
    /// [`Surface::ready_to_write`] says so instead.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Host(bytes) => bytes,
            Memory::Device(memory) => memory.bytes_mut().expect(LOST),
        }
    }

    /// The memory as elements, gaps included.
    ///
    /// # Panics
    /// When `T` is not the element type, and like [`Surface::bytes`].
    pub fn elements<T: Element>(&self) -> &[T] {
        assert_eq!(T::DTYPE, self.layout.dtype, "element type");
        bytemuck::cast_slice(self.bytes())
    }

    /// The memory as elements, gaps included.
    ///
    /// # Panics
    /// When `T` is not the element type, and like [`Surface::bytes_mut`].
    pub fn elements_mut<T: Element>(&mut self) -> &mut [T] {
        assert_eq!(T::DTYPE, self.layout.dtype, "element type");
        bytemuck::cast_slice_mut(self.bytes_mut())
    }
}

impl Clone for Surface {
    /// # Panics
    /// Like [`Surface::bytes`].
    fn clone(&self) -> Self {
        let memory = Memory::Host(AlignedBytes::copy_of(self.bytes()));
        Self { layout: self.layout.clone(), memory }
    }
}
