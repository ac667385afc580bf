//! Programs on devices, with inputs and outputs as tensors by name.

use orion_mil::{Program, Weights};
use orion_runtime::{Bindings, Device, Error, Executable, PortKind, Surface};
use orion_tensor::Tensor;
use std::collections::BTreeMap;

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// Compiles and runs once. `contents` holds inputs, initial states and inputs that are replaced
/// in place; returned is everything the program wrote, by the name of its surface.
///
/// # Errors
/// What the device says.
///
/// # Panics
/// When `contents` lacks a parameter.
pub fn run_once(
    device: &dyn Device,
    program: &Program,
    weights: &Weights,
    contents: &Tensors,
) -> Result<Tensors, Error> {
    let mut executable = device.compile(program, weights)?;
    let mut surfaces = Surfaces::new(&*executable, contents);
    surfaces.run(&mut *executable)?;
    Ok(surfaces.written(&*executable))
}

/// The surfaces of a program, kept from one run to the next.
#[derive(Debug)]
pub struct Surfaces(BTreeMap<String, Surface>);

impl Surfaces {
    /// Surfaces for every port: with contents where something is read, else full of bytes that no
    /// program would leave, so that an output which is not written shows.
    ///
    /// # Panics
    /// When `contents` lacks a parameter.
    pub fn new(executable: &dyn Executable, contents: &Tensors) -> Self {
        let ports = executable.signature().ports.iter();
        let filled = ports.map(|port| {
            let surface = if port.kind == PortKind::Output {
                let mut surface = Surface::zeros(port.layout.clone());
                surface.bytes_mut().fill(0xff);
                surface
            } else {
                let content = contents.get(&port.name);
                let content = content.unwrap_or_else(|| panic!("no content for `{}`", port.name));
                // A tensor of another shape is for the device to refuse.
                match (content.dtype(), content.shape()) == (port.layout.dtype, &port.layout.shape)
                {
                    true => Surface::holding(port.layout.clone(), content),
                    false => Surface::from_tensor(content),
                }
            };
            (port.name.clone(), surface)
        });
        Self(filled.collect())
    }

    /// Runs once over these surfaces.
    ///
    /// # Errors
    /// What the device says.
    pub fn run(&mut self, executable: &mut dyn Executable) -> Result<(), Error> {
        let ports = executable.signature().ports.clone();
        let mut bindings = Bindings::new();
        for (name, surface) in &mut self.0 {
            let port = ports.iter().find(|p| p.name == *name).expect("one surface a port");
            if port.kind == PortKind::Input {
                bindings.input(name, surface);
            } else {
                bindings.update(name, surface);
            }
        }
        executable.run(&mut bindings)
    }

    /// What is in the surfaces that the program writes.
    pub fn written(&self, executable: &dyn Executable) -> Tensors {
        let ports = executable.signature().ports.iter().filter(|p| p.kind != PortKind::Input);
        ports.map(|p| (p.name.clone(), self.0[&p.name].to_tensor())).collect()
    }
}
