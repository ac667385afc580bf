use crate::{Error, ErrorKind, PortKind, Signature, Surface};
use std::collections::HashMap;

/// The surfaces of one run, by name.
#[derive(Debug, Default)]
pub struct Bindings<'a> {
    bound: HashMap<&'a str, Bound<'a>>,
}

/// One bound surface.
#[derive(Debug)]
pub enum Bound<'a> {
    /// Read by the program.
    Read(&'a Surface),
    /// Written by the program, and read first when its port is an update.
    Write(&'a mut Surface),
}

impl Bound<'_> {
    /// The surface, to be read.
    pub fn surface(&self) -> &Surface {
        match self {
            Self::Read(surface) => surface,
            Self::Write(surface) => surface,
        }
    }

    /// Begins the host's turn with the surface, where it is a device's.
    ///
    /// # Errors
    /// When the system does not let the host have it.
    pub fn ready(&mut self) -> Result<(), Error> {
        match self {
            Self::Read(surface) => surface.ready_to_read(),
            Self::Write(surface) => surface.ready_to_write(),
        }
    }
}

impl<'a> Bindings<'a> {
    /// Nothing bound.
    pub fn new() -> Self {
        Self::default()
    }

    /// Binds an input.
    pub fn input(&mut self, name: &'a str, surface: &'a Surface) -> &mut Self {
        self.bound.insert(name, Bound::Read(surface));
        self
    }

    /// Binds an output.
    pub fn output(&mut self, name: &'a str, surface: &'a mut Surface) -> &mut Self {
        self.bound.insert(name, Bound::Write(surface));
        self
    }

    /// Binds an input that is replaced in place, or a state, by the input's name.
    pub fn update(&mut self, name: &'a str, surface: &'a mut Surface) -> &mut Self {
        self.bound.insert(name, Bound::Write(surface));
        self
    }

    /// How many surfaces are bound.
    pub fn len(&self) -> usize {
        self.bound.len()
    }

    /// Whether nothing is bound.
    pub fn is_empty(&self) -> bool {
        self.bound.is_empty()
    }

    /// The surface bound to a name.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Bound<'a>> {
        self.bound.get_mut(name)
    }

    /// The bound surfaces in the order of the signature's ports, ready to be read and written by
    /// the host.
    ///
    /// # Errors
    /// Every port that is not bound or bound in another way or with another layout, and every
    /// bound name that is not a port. When a device's memory cannot be had.
    pub fn in_order<'b>(
        &'b mut self,
        signature: &Signature,
        device: &str,
    ) -> Result<Vec<&'b mut Bound<'a>>, Error> {
        let mut ordered = self.matched(signature, device)?;
        ordered.iter_mut().try_for_each(|bound| bound.ready())?;
        Ok(ordered)
    }

    /// The bound surfaces in the order of the signature's ports, wherever their memory is: for who
    /// hands them on.
    ///
    /// # Errors
    /// As for [`Bindings::in_order`], but for memory.
    pub fn matched<'b>(
        &'b mut self,
        signature: &Signature,
        device: &str,
    ) -> Result<Vec<&'b mut Bound<'a>>, Error> {
        let mut problems = Vec::new();
        let mut by_name: HashMap<&str, &'b mut Bound<'a>> =
            self.bound.iter_mut().map(|(name, bound)| (*name, bound)).collect();
        let mut ordered = Vec::with_capacity(signature.ports.len());
        for port in &signature.ports {
            let Some(bound) = by_name.remove(port.name.as_str()) else {
                problems.push(format!("`{}` is not bound", port.name));
                continue;
            };
            let (surface, writable) = (bound.surface(), matches!(bound, Bound::Write(_)));
            if writable != (port.kind != PortKind::Input) {
                let want = if writable { "an input" } else { "written by the program" };
                problems.push(format!("`{}` is {want}", port.name));
            }
            if *surface.layout() != port.layout {
                let (needs, is) = (&port.layout, surface.layout());
                let mut problem = format!(
                    "`{}` needs {}{:?}, the surface is {}{:?}",
                    port.name, needs.dtype, needs.shape, is.dtype, is.shape
                );
                if (needs.dtype, &needs.shape) == (is.dtype, &is.shape) {
                    problem += &format!(
                        " with strides {:?} in {} bytes instead of {:?} in {}",
                        is.strides, is.size_bytes, needs.strides, needs.size_bytes
                    );
                }
                problems.push(problem);
            }
            ordered.push(bound);
        }
        let mut unknown: Vec<_> = by_name.keys().collect();
        unknown.sort_unstable();
        problems.extend(unknown.iter().map(|name| format!("the program has no `{name}`")));
        if problems.is_empty() {
            Ok(ordered)
        } else {
            Err(Error::new(ErrorKind::Binding, device, problems.join("; ")))
        }
    }
}
