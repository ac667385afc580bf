//! Surfaces of callers in memory that the engine sees.

use crate::programs::Programs;
use crate::{CallError, Error, ErrorKind, Framework};
use orion_runtime as runtime;
use orion_runtime::DeviceMemory;
use std::fmt;
use std::sync::Arc;

/// Memory of a caller's surface: rows lie side by side and fill it.
pub(crate) struct SharedMemory<F: Framework> {
    programs: Arc<Programs<F>>,
    surface: F::Surface,
    size_bytes: usize,
    /// Tells one memory from another, and whether it still is.
    identity: Arc<()>,
}

impl<F: Framework> SharedMemory<F> {
    pub(crate) fn new(programs: &Arc<Programs<F>>, size_bytes: usize) -> Result<Self, Error> {
        let surface = programs.surface(size_bytes)?;
        Ok(Self { programs: programs.clone(), surface, size_bytes, identity: Arc::default() })
    }

    /// What the engine is given.
    pub(crate) fn surface(&self) -> &F::Surface {
        &self.surface
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    pub(crate) fn identity(&self) -> &Arc<()> {
        &self.identity
    }

    /// Lets the engine read what the host wrote. The host may read on.
    pub(crate) fn let_engine_read(&self) -> Result<(), CallError> {
        self.programs.again(|| self.programs.framework.finish_writing(&self.surface))
    }

    /// Lets the engine write.
    pub(crate) fn let_engine_write(&mut self) -> Result<(), CallError> {
        self.programs.again(|| self.programs.framework.release(&mut self.surface))
    }
}

/// A failed call, as the errors of devices.
fn unavailable(error: CallError) -> runtime::Error {
    Error::of_call(ErrorKind::Surface, "memory shared with the engine cannot be had", error)
        .for_device("ane")
}

impl<F: Framework> DeviceMemory for SharedMemory<F> {
    fn bytes(&self) -> Result<&[u8], runtime::Error> {
        self.programs.again(|| self.programs.framework.read(&self.surface)).map_err(unavailable)
    }

    fn bytes_mut(&mut self) -> Result<&mut [u8], runtime::Error> {
        let Self { programs, surface, .. } = self;
        // The second call finds the memory held already.
        programs.again(|| programs.framework.write(surface).map(drop)).map_err(unavailable)?;
        programs.framework.write(surface).map_err(unavailable)
    }
}

impl<F: Framework> fmt::Debug for SharedMemory<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedMemory({} bytes)", self.size_bytes)
    }
}
