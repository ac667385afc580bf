//! Memory of the stand-in, and where elements lie in it.

use super::ledger::{Kind, Ledger, Token};
use orion_ane::{Attribute, Call, CallError, Hold, Notice, Turns};
use orion_device::SurfaceLayout;
use orion_runtime::{Layout, Surface};
use orion_tensor::{AlignedBytes, element_count, row_major_strides};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Memory of the stand-in, seen by the host. What the host writes reaches the engine when it
/// unlocks, and what the engine writes reaches the host when it locks: on a machine whose caches
/// see everything at once a lock that is missing would not show.
#[derive(Debug)]
pub struct StandInSurface {
    shared: Arc<EngineMemory>,
    /// The bytes as the host sees them, while it holds them.
    host: OnceLock<AlignedBytes>,
}

/// Memory of the stand-in, seen by the engine.
#[derive(Debug)]
pub(super) struct EngineMemory {
    bytes: Mutex<Vec<u8>>,
    turns: Mutex<Turns>,
    ledger: Arc<Ledger>,
    _token: Token,
}

impl EngineMemory {
    /// What lies there. The engine's.
    pub(super) fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the host holds it.
    pub(super) fn held(&self) -> Hold {
        self.turns().held()
    }

    /// The engine begins to use memory, until the result is dropped.
    pub(super) fn engine_turn(&self, writes: bool) -> Result<EngineTurn<'_>, CallError> {
        self.turns().engine_begins(writes)?;
        Ok(EngineTurn { memory: self, writes })
    }
}

/// The engine is at work on memory.
pub(super) struct EngineTurn<'a> {
    memory: &'a EngineMemory,
    writes: bool,
}

impl Drop for EngineTurn<'_> {
    fn drop(&mut self) {
        self.memory.turns().engine_ends(self.writes);
    }
}

impl StandInSurface {
    pub(super) fn new(size_bytes: usize, ledger: &Arc<Ledger>) -> Self {
        let shared = EngineMemory {
            bytes: Mutex::new(vec![0; size_bytes]),
            turns: Mutex::default(),
            ledger: ledger.clone(),
            _token: ledger.token(Kind::Surface),
        };
        Self { shared: Arc::new(shared), host: OnceLock::new() }
    }

    /// The same as the engine has it.
    pub(super) fn shared(&self) -> &Arc<EngineMemory> {
        &self.shared
    }

    /// Has the host hold it in another way.
    fn hold(&self, wanted: Hold) -> Result<(), CallError> {
        let Self { shared, host } = self;
        shared.turns().hold(wanted, &mut |notice| match notice {
            Notice::Lock(_) => shared.ledger.call(Call::Lock),
            Notice::Unlock(held) => {
                shared.ledger.call(Call::Unlock)?;
                if let (Hold::Write, Some(host)) = (held, host.get()) {
                    shared.bytes().copy_from_slice(host);
                }
                Ok(())
            }
        })
    }

    pub(super) fn read(&self) -> Result<&[u8], CallError> {
        self.hold(Hold::Read)?;
        Ok(self.host.get_or_init(|| AlignedBytes::copy_of(&self.shared.bytes())))
    }

    pub(super) fn write(&mut self) -> Result<&mut [u8], CallError> {
        self.hold(Hold::Write)?;
        self.host.get_or_init(|| AlignedBytes::copy_of(&self.shared.bytes()));
        Ok(self.host.get_mut().expect("just filled"))
    }

    pub(super) fn finish_writing(&self) -> Result<(), CallError> {
        match self.shared.held() {
            Hold::Write => self.hold(Hold::Free),
            Hold::Read | Hold::Free => Ok(()),
        }
    }

    pub(super) fn release(&mut self) -> Result<(), CallError> {
        self.hold(Hold::Free)?;
        self.host = OnceLock::new();
        Ok(())
    }
}

impl Drop for StandInSurface {
    fn drop(&mut self) {
        // As the real one; nobody is left to tell that it failed.
        let _ = self.hold(Hold::Free);
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
