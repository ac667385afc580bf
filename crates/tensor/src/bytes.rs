use memmap2::MmapMut;
use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

#[repr(C, align(64))]
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
struct Line([u8; 64]);

/// From this size on, memory comes in whole pages straight from the system: it is zero without
/// anybody writing zeros, what is never touched takes no room, and huge pages save address
/// look-ups. It is the size of such a page on most machines.
const LARGE: usize = 2 << 20;

/// A zero-initialised byte buffer of fixed size whose start is 64-byte aligned, so that it can be
/// seen as a slice of any element type and suits every vector width.
pub struct AlignedBytes {
    memory: Memory,
    len: usize,
}

enum Memory {
    Lines(Vec<Line>),
    Pages(MmapMut),
}

impl AlignedBytes {
    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> Self {
        let pages = if len >= LARGE { pages(len) } else { None };
        let lines = || Memory::Lines(bytemuck::zeroed_vec(len.div_ceil(64)));
        Self { memory: pages.map_or_else(lines, Memory::Pages), len }
    }

    /// A copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut this = Self::zeroed(bytes.len());
        this.copy_from_slice(bytes);
        this
    }
}

/// Memory of the system's own, huge pages where there are; `None` when it gives none.
fn pages(len: usize) -> Option<MmapMut> {
    let pages = MmapMut::map_anon(len).ok()?;
    // A system without huge pages gives others.
    #[cfg(target_os = "linux")]
    let _ = pages.advise(memmap2::Advice::HugePage);
    Some(pages)
}

impl Clone for AlignedBytes {
    fn clone(&self) -> Self {
        Self::copy_of(self)
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.memory {
            Memory::Lines(lines) => &bytemuck::cast_slice(lines)[..self.len],
            Memory::Pages(pages) => pages,
        }
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Lines(lines) => &mut bytemuck::cast_slice_mut(lines)[..self.len],
            Memory::Pages(pages) => pages,
        }
    }
}

impl AsRef<[u8]> for AlignedBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBytes({} bytes)", self.len)
    }
}

/// An immutable view into bytes that somebody keeps alive: a buffer or a memory-mapped file.
/// Cloning and slicing share the owner.
#[derive(Clone)]
pub struct Bytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl Bytes {
    /// All bytes of `owner`.
    pub fn new(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let len = owner.as_ref().len();
        Self { owner: Arc::new(owner), range: 0..len }
    }

    /// An aligned copy of `elements`.
    pub fn from_elements<T: bytemuck::NoUninit>(elements: &[T]) -> Self {
        Self::new(AlignedBytes::copy_of(bytemuck::cast_slice(elements)))
    }

    /// The bytes at `range` of this view; `None` where it reaches past the end.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        let start = self.range.start;
        Some(Self { owner: self.owner.clone(), range: start + range.start..start + range.end })
    }

    /// Whether both views are the same bytes of the same owner.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.owner, &other.owner) && self.range == other.range
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other) || **self == **other
    }
}

impl Eq for Bytes {}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_and_small_buffers_are_zero_aligned_and_cloned_by_value() {
        for len in [0, 1, 100, LARGE - 1, LARGE, LARGE + 1] {
            let mut bytes = AlignedBytes::zeroed(len);
            assert_eq!(bytes.len(), len);
            assert!(bytes.as_ptr().addr().is_multiple_of(64) || len == 0);
            assert!(bytes.iter().all(|&b| b == 0));
            let before = bytes.clone();
            if let Some(last) = bytes.last_mut() {
                *last = 7;
                assert_eq!((before[len - 1], bytes.clone()[len - 1]), (0, 7));
            }
        }
    }
}
