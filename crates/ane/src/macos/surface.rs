//! Memory that the engine sees.

use crate::{Call, CallError, Hold, Notice, Turns};
use objc2_core_foundation::{CFDictionary, CFNumber, CFRetained, CFString, CFType};
use objc2_io_surface::{
    IOSurfaceLockOptions, IOSurfaceRef, kIOSurfaceAllocSize, kIOSurfaceBytesPerElement,
    kIOSurfaceBytesPerRow, kIOSurfaceHeight, kIOSurfacePixelFormat, kIOSurfaceWidth,
};
use std::ptr;
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An `IOSurface` that is one row of bytes, as the host has it.
#[derive(Debug)]
pub struct SystemSurface(Arc<SharedSurface>);

/// The same as requests have it, which may live longer.
#[derive(Debug)]
pub(super) struct SharedSurface {
    surface: CFRetained<IOSurfaceRef>,
    size_bytes: usize,
    turns: Mutex<Turns>,
}

// SAFETY: an IOSurface may be used from any thread. Its bytes are only reached by the host while
// `turns` says that it holds them, and by the engine while it says that the engine does.
unsafe impl Send for SharedSurface {}
// SAFETY: as above.
unsafe impl Sync for SharedSurface {}

impl SystemSurface {
    /// New memory, which the system gives zeroed.
    pub(super) fn new(size_bytes: usize) -> Result<Self, CallError> {
        let none = |why: &str| CallError::new(Call::Surface, format!("{size_bytes} bytes: {why}"));
        let bytes = i64::try_from(size_bytes).map_err(|_| none("too many"))?;
        let number = CFNumber::new_i64;
        let numbers =
            [number(bytes), number(1), number(1), number(bytes), number(bytes), number(0)];
        // SAFETY: constants of the system.
        let keys: [&CFString; 6] = unsafe {
            [
                kIOSurfaceWidth,
                kIOSurfaceHeight,
                kIOSurfaceBytesPerElement,
                kIOSurfaceBytesPerRow,
                kIOSurfaceAllocSize,
                kIOSurfacePixelFormat,
            ]
        };
        let values: Vec<&CFType> = numbers.iter().map(|n| -> &CFType { n }).collect();
        let properties = CFDictionary::<CFString, CFType>::from_slices(&keys, &values);
        // SAFETY: the keys are those of surfaces, the values numbers as they take them.
        let surface = unsafe { IOSurfaceRef::new(properties.as_opaque()) };
        let surface = surface.ok_or_else(|| none("the system gives no surface"))?;
        if surface.alloc_size() < size_bytes {
            return Err(none(&format!("the surface has {}", surface.alloc_size())));
        }
        Ok(Self(Arc::new(SharedSurface { surface, size_bytes, turns: Mutex::default() })))
    }

    /// The same for a request.
    pub(super) fn shared(&self) -> &Arc<SharedSurface> {
        &self.0
    }

    /// Locked until it is written or released.
    pub(super) fn read(&self) -> Result<&[u8], CallError> {
        self.0.hold(Hold::Read)?;
        // SAFETY: that many bytes are there for as long as it is locked. It stays locked while the
        // result lives, because what unlocks it for reading takes `self` for itself; what was
        // written before is no longer referred to for the same reason. The engine writes only what
        // is not locked.
        Ok(unsafe { slice::from_raw_parts(self.0.address(), self.0.size_bytes) })
    }

    /// Locked until it is read or released.
    pub(super) fn write(&mut self) -> Result<&mut [u8], CallError> {
        self.0.hold(Hold::Write)?;
        // SAFETY: as above; `self` is taken for as long as the result lives, and the engine neither
        // reads nor writes what is locked for writing.
        Ok(unsafe { slice::from_raw_parts_mut(self.0.address(), self.0.size_bytes) })
    }

    /// Unlocks what was written; what is only read stays locked.
    pub(super) fn finish_writing(&self) -> Result<(), CallError> {
        self.0.finish_writing()
    }

    /// Unlocks.
    pub(super) fn release(&mut self) -> Result<(), CallError> {
        self.0.hold(Hold::Free)
    }
}

impl Drop for SystemSurface {
    fn drop(&mut self) {
        // Nobody is left to tell that it failed.
        let _ = self.0.hold(Hold::Free);
    }
}

impl SharedSurface {
    /// The surface as the framework takes it.
    pub(super) fn pointer(&self) -> *const IOSurfaceRef {
        CFRetained::as_ptr(&self.surface).as_ptr()
    }

    /// The engine begins to use it, until the result is dropped.
    pub(super) fn engine_turn(&self, writes: bool) -> Result<EngineTurn<'_>, CallError> {
        self.turns().engine_begins(writes)?;
        Ok(EngineTurn { surface: self, writes })
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, wanted: Hold) -> Result<(), CallError> {
        self.turns().hold(wanted, &mut |notice| self.tell(notice))
    }

    fn finish_writing(&self) -> Result<(), CallError> {
        let mut turns = self.turns();
        match turns.held() {
            Hold::Write => turns.hold(Hold::Free, &mut |notice| self.tell(notice)),
            Hold::Read | Hold::Free => Ok(()),
        }
    }

    /// Locks or unlocks. Both take the same options.
    fn tell(&self, notice: Notice) -> Result<(), CallError> {
        let options = |hold| match hold {
            Hold::Read => IOSurfaceLockOptions::ReadOnly,
            Hold::Write | Hold::Free => IOSurfaceLockOptions::empty(),
        };
        // SAFETY: no seed is wanted; what is unlocked was locked with the same options.
        let (call, status) = unsafe {
            match notice {
                Notice::Lock(hold) => {
                    (Call::Lock, self.surface.lock(options(hold), ptr::null_mut()))
                }
                Notice::Unlock(hold) => {
                    (Call::Unlock, self.surface.unlock(options(hold), ptr::null_mut()))
                }
            }
        };
        if status != 0 {
            let text = "the system gives no reason".to_owned();
            return Err(CallError { call, code: Some(i64::from(status)), text });
        }
        Ok(())
    }

    fn address(&self) -> *mut u8 {
        self.surface.base_address().as_ptr().cast()
    }
}

/// The engine is at work on a surface.
pub(super) struct EngineTurn<'a> {
    surface: &'a SharedSurface,
    writes: bool,
}

impl Drop for EngineTurn<'_> {
    fn drop(&mut self) {
        self.surface.turns().engine_ends(self.writes);
    }
}
