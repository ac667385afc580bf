//! Memory that the engine sees.

use crate::{Call, CallError};
use objc2_core_foundation::{CFDictionary, CFNumber, CFRetained, CFString, CFType};
use objc2_io_surface::{
    IOSurfaceLockOptions, IOSurfaceRef, kIOSurfaceAllocSize, kIOSurfaceBytesPerElement,
    kIOSurfaceBytesPerRow, kIOSurfaceHeight, kIOSurfacePixelFormat, kIOSurfaceWidth,
};
use std::ptr;
use std::slice;

/// An `IOSurface` that is one row of bytes. Clones are the same memory.
#[derive(Debug, Clone)]
pub struct SystemSurface {
    surface: CFRetained<IOSurfaceRef>,
    size_bytes: usize,
}

// SAFETY: an IOSurface may be used from any thread. Its bytes are only reached while it is
// locked, and the client never writes to one that somebody else reads.
unsafe impl Send for SystemSurface {}
// SAFETY: as above.
unsafe impl Sync for SystemSurface {}

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
        Ok(Self { surface, size_bytes })
    }

    /// The surface as the framework takes it.
    pub(super) fn pointer(&self) -> *const IOSurfaceRef {
        CFRetained::as_ptr(&self.surface).as_ptr()
    }

    pub(super) fn read(&self, look: &mut dyn FnMut(&[u8])) -> Result<(), CallError> {
        let lock = Lock::new(self, IOSurfaceLockOptions::ReadOnly)?;
        // SAFETY: that many bytes are there for as long as it is locked, and nobody writes them.
        look(unsafe { slice::from_raw_parts(lock.address(), self.size_bytes) });
        Ok(())
    }

    pub(super) fn write(&self, fill: &mut dyn FnMut(&mut [u8])) -> Result<(), CallError> {
        let lock = Lock::new(self, IOSurfaceLockOptions::empty())?;
        // SAFETY: that many bytes are there for as long as it is locked, and nobody else uses
        // them.
        fill(unsafe { slice::from_raw_parts_mut(lock.address(), self.size_bytes) });
        Ok(())
    }
}

/// A locked surface.
struct Lock<'a> {
    surface: &'a IOSurfaceRef,
    options: IOSurfaceLockOptions,
}

impl<'a> Lock<'a> {
    fn new(surface: &'a SystemSurface, options: IOSurfaceLockOptions) -> Result<Self, CallError> {
        // SAFETY: no seed is wanted.
        let status = unsafe { surface.surface.lock(options, ptr::null_mut()) };
        if status != 0 {
            let text = "the surface cannot be locked".to_owned();
            return Err(CallError { call: Call::Lock, code: Some(i64::from(status)), text });
        }
        Ok(Self { surface: &surface.surface, options })
    }

    fn address(&self) -> *mut u8 {
        self.surface.base_address().as_ptr().cast()
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // SAFETY: it was locked with these options; no seed is wanted.
        let _ = unsafe { self.surface.unlock(self.options, ptr::null_mut()) };
    }
}
