//! Memory of the stand-in, and where elements lie in it.

use super::ledger::Token;
use orion_ane::Attribute;
use orion_device::SurfaceLayout;
use orion_runtime::{Layout, Surface};
use orion_tensor::{element_count, row_major_strides};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Memory of the stand-in. Clones are the same memory.
#[derive(Debug, Clone)]
pub struct StandInSurface(Arc<Memory>);

#[derive(Debug)]
struct Memory {
    bytes: Mutex<Vec<u8>>,
    _token: Token,
}

impl StandInSurface {
    pub(super) fn new(size_bytes: usize, token: Token) -> Self {
        let bytes = Mutex::new(vec![0; size_bytes]);
        Self(Arc::new(Memory { bytes, _token: token }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of the surface of a tensor.
pub(super) fn size_bytes(layout: &Layout, packed: bool) -> usize {
    if packed {
        return layout.size_bytes.max(64);
    }
    SurfaceLayout::of(layout.dtype, &layout.shape).map_or(0, |l| l.size_bytes)
}

/// Distances along each axis, in elements.
fn strides(layout: &Layout, packed: bool) -> Vec<usize> {
    if packed {
        return row_major_strides(&layout.shape);
    }
    SurfaceLayout::of(layout.dtype, &layout.shape).map_or_else(Vec::new, |l| l.strides)
}

/// Byte offsets of all elements, in row-major order.
fn offsets(layout: &Layout, packed: bool) -> impl Iterator<Item = usize> {
    let strides = strides(layout, packed);
    let shape = layout.shape.clone();
    let size = layout.dtype.size_bytes();
    (0..element_count(&shape)).map(move |element| {
        let mut rest = element;
        let axes = shape.iter().zip(&strides).rev();
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

/// Elements from their places to a dense surface.
pub(super) fn gather(memory: &[u8], packed: bool, dense: &mut Surface) {
    let layout = dense.layout().clone();
    let size = layout.dtype.size_bytes();
    let elements = dense.bytes_mut().chunks_exact_mut(size);
    for (element, at) in elements.zip(offsets(&layout, packed)) {
        element.copy_from_slice(&memory[at..at + size]);
    }
}

/// The other way. What lies between rows is overwritten, as nothing promises that it is not.
pub(super) fn spread(dense: &Surface, packed: bool, memory: &mut [u8]) {
    memory.fill(0xab);
    let size = dense.layout().dtype.size_bytes();
    for (element, at) in dense.bytes().chunks_exact(size).zip(offsets(dense.layout(), packed)) {
        memory[at..at + size].copy_from_slice(element);
    }
}

/// What a compiled program says of one input or output.
pub(super) fn describe(layout: &Layout, packed: bool) -> Attribute {
    let size = layout.dtype.size_bytes();
    let strides = strides(layout, packed);
    // The engine's axes from the innermost; those that the tensor lacks are 1.
    let axis = |from_last: usize| {
        let position = layout.shape.len().checked_sub(1 + from_last);
        position.map_or((1, None), |p| (layout.shape[p], Some(strides[p] * size)))
    };
    let (width, height, channels) = (axis(0), axis(1), axis(2));
    let (depth, batches) = match layout.shape.len() {
        5 => (axis(3), axis(4)),
        _ => ((1, None), axis(3)),
    };
    let whole = size_bytes(layout, packed);
    let or_whole = |(_, stride): (usize, Option<usize>)| Attribute::from(stride.unwrap_or(whole));
    Attribute::from([
        ("BatchStride", or_whole(batches)),
        ("Batches", batches.0.into()),
        ("Channels", channels.0.into()),
        ("Depth", depth.0.into()),
        ("DepthStride", or_whole(depth)),
        ("Height", height.0.into()),
        ("Interleave", 1.into()),
        ("PlaneCount", channels.0.into()),
        ("PlaneStride", or_whole(channels)),
        ("RowStride", or_whole(height)),
        ("Type", layout.dtype.name().into()),
        ("Width", width.0.into()),
    ])
}
