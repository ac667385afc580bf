//! Where inputs and outputs are: their numbers, their rows, and memory of a program's own.

use crate::description::Symbol;
use crate::memory::SharedMemory;
use crate::prepare::DevicePort;
use crate::programs::Programs;
use crate::rows::RowLayout;
use crate::{Binding, Error, ErrorKind, Framework, Order, Rows, Scheme};
use orion_device::SurfaceLayout;
use orion_runtime::Surface;
use orion_tensor::{DType, element_count};

/// One input or output of a compiled program.
pub(crate) struct Placed<F: Framework> {
    pub(crate) rows: RowLayout,
    pub(crate) index: usize,
    /// Memory of the program's own, which it has from the first time that something is copied.
    own: Option<F::Surface>,
}

impl<F: Framework> Placed<F> {
    /// The caller's memory, if the engine can use it as it is.
    pub(crate) fn shared<'a>(&self, surface: &'a Surface) -> Option<&'a SharedMemory<F>> {
        surface.device_memory().filter(|memory| self.fits(memory))
    }

    /// The caller's memory, if the engine can use it as it is.
    pub(crate) fn shared_mut<'a>(
        &self,
        surface: &'a mut Surface,
    ) -> Option<&'a mut SharedMemory<F>> {
        surface.device_memory_mut().filter(|memory| self.fits(memory))
    }

    fn fits(&self, memory: &SharedMemory<F>) -> bool {
        self.rows.is_dense() && self.rows.size_bytes() == memory.size_bytes()
    }

    /// Copies dense elements to memory of the program's own, for the engine to read.
    pub(crate) fn copy_in(&mut self, programs: &Programs<F>, dense: &[u8]) -> Result<(), Error> {
        let failed = |e| Error::of_call(ErrorKind::Surface, "an input cannot be written", e);
        let framework = &programs.framework;
        let own = Self::own(&mut self.own, &self.rows, programs)?;
        programs
            .again(|| {
                self.rows.spread(dense, framework.write(own)?);
                framework.finish_writing(own)
            })
            .map_err(failed)
    }

    /// Makes memory of the program's own ready for the engine to write.
    pub(crate) fn make_room(&mut self, programs: &Programs<F>) -> Result<(), Error> {
        let own = Self::own(&mut self.own, &self.rows, programs)?;
        programs
            .again(|| programs.framework.release(own))
            .map_err(|e| Error::of_call(ErrorKind::Surface, "an output cannot be written", e))
    }

    /// Copies dense elements from memory of the program's own.
    ///
    /// # Panics
    /// When it has none.
    pub(crate) fn copy_out(&self, programs: &Programs<F>, dense: &mut [u8]) -> Result<(), Error> {
        let own = self.own.as_ref().expect("a run made room");
        let bytes = programs
            .again(|| programs.framework.read(own))
            .map_err(|e| Error::of_call(ErrorKind::Surface, "an output cannot be read", e))?;
        self.rows.gather(bytes, dense);
        Ok(())
    }

    fn own<'a>(
        own: &'a mut Option<F::Surface>,
        rows: &RowLayout,
        programs: &Programs<F>,
    ) -> Result<&'a mut F::Surface, Error> {
        if own.is_none() {
            *own = Some(programs.surface(rows.size_bytes())?);
        }
        Ok(own.as_mut().expect("just made"))
    }

    /// What the engine is given: this memory, or else the program's own.
    ///
    /// # Panics
    /// When neither is there.
    pub(crate) fn binding<'a>(
        &'a self,
        shared: Option<&'a SharedMemory<F>>,
    ) -> Binding<'a, F::Surface> {
        let own = || self.own.as_ref().expect("a run copied there");
        Binding { index: self.index, surface: shared.map_or_else(own, SharedMemory::surface) }
    }
}

/// The number and rows of every port.
pub(crate) fn place<F: Framework>(
    ports: &[&DevicePort],
    symbols: &[Symbol],
    scheme: Scheme,
) -> Result<Vec<Placed<F>>, Error> {
    let mut names: Vec<&str> = ports.iter().map(|p| p.name.as_str()).collect();
    names.sort_unstable();
    let mut placed = Vec::with_capacity(ports.len());
    for (position, port) in ports.iter().enumerate() {
        let symbol = symbols.iter().find(|s| s.name == port.name);
        let missing = |what: &str| {
            let message = format!("the compiled program does not say {what} of `{}`", port.name);
            Error::new(ErrorKind::Binding, message)
        };
        let index = match scheme.order {
            Order::Reported => symbol.ok_or_else(|| missing("the number"))?.index,
            Order::Alphabetical => names.binary_search(&port.name.as_str()).unwrap_or(position),
            Order::Written => position,
        };
        let rows = match scheme.rows {
            Rows::Reported => {
                let layout = symbol.and_then(|s| s.layout).ok_or_else(|| missing("the layout"))?;
                layout.rows(&port.shape, port.dtype.size_bytes())
            }
            Rows::Padded => padded(port.dtype, &port.shape),
            Rows::Packed => packed(port.dtype, &port.shape),
        };
        let rows = rows.map_err(|e| {
            let message = format!("the memory of `{}` is not understood: {e}", port.name);
            Error::new(ErrorKind::Binding, message)
        })?;
        placed.push(Placed { rows, index, own: None });
    }
    Ok(placed)
}

/// Whether programs can be expected to take a tensor without gaps as it is.
pub(crate) fn is_shareable(dtype: DType, shape: &[usize], scheme: Scheme) -> bool {
    let rows = match scheme.rows {
        // What a compiled program says of itself is not known here, and it may still copy.
        Rows::Reported | Rows::Padded => padded(dtype, shape),
        Rows::Packed => packed(dtype, shape),
    };
    let bytes = element_count(shape) * dtype.size_bytes();
    rows.is_ok_and(|rows| rows.is_dense() && rows.size_bytes() == bytes)
}

/// Rows at multiples of 64 bytes.
fn padded(dtype: DType, shape: &[usize]) -> Result<RowLayout, String> {
    let layout =
        SurfaceLayout::of(dtype, shape).ok_or_else(|| format!("{shape:?} does not fit memory"))?;
    let size = dtype.size_bytes();
    let outer = shape.len().saturating_sub(1);
    let strides: Vec<usize> = layout.strides[..outer].iter().map(|s| s * size).collect();
    RowLayout::new(shape, size, &strides, layout.size_bytes)
}

/// Rows side by side.
fn packed(dtype: DType, shape: &[usize]) -> Result<RowLayout, String> {
    let size = dtype.size_bytes();
    let strides = orion_tensor::row_major_strides(shape);
    let outer = shape.len().saturating_sub(1);
    let strides: Vec<usize> = strides[..outer].iter().map(|s| s * size).collect();
    RowLayout::new(shape, size, &strides, (element_count(shape) * size).max(64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_64_bytes_are_shared_and_others_are_not() {
        let with = |rows| Scheme { order: Order::Reported, rows };
        let shareable = |shape: &[usize], rows| is_shareable(DType::F16, shape, with(rows));
        for rows in [Rows::Reported, Rows::Padded] {
            assert!(shareable(&[1, 3, 2, 32], rows) && shareable(&[1, 3, 2, 256], rows));
            assert!(!shareable(&[1, 3, 2, 40], rows) && !shareable(&[3, 1], rows));
            assert!(is_shareable(DType::F32, &[2, 16], with(rows)));
        }
        assert!(shareable(&[1, 3, 2, 40], Rows::Packed) && !shareable(&[1, 3], Rows::Packed));
    }
}
