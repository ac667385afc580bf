//! The surfaces between parts, and what is bound for a run.

use orion_compile::partition::{Part, PartSurface, Role};
use orion_mil::{WEIGHT_FILE, Weights};
use orion_runtime::{Bindings, Bound, Device, Error, Layout, Signature, Surface};
use std::collections::HashMap;

/// Where a surface of a partition is: memory of the schedule, or the port of that name.
pub(super) enum Memory {
    Own(Surface),
    Port(String),
}

impl Memory {
    /// Memory for a surface that is no port, of the accelerator where that sees it.
    pub(super) fn of(
        surface: &PartSurface,
        signature: &Signature,
        accelerator: Option<&dyn Device>,
    ) -> Result<Self, Error> {
        let is_port = matches!(surface.role, Role::Input | Role::Result);
        if is_port && signature.port(&surface.name).is_some() {
            return Ok(Self::Port(surface.name.clone()));
        }
        let shape = surface.ty.shape().expect("parts are of known shapes");
        let layout = Layout::dense(surface.ty.dtype, &shape);
        Ok(Self::Own(match accelerator {
            Some(device) => device.surface(&layout)?,
            None => Surface::zeros(layout),
        }))
    }
}

/// All memory of a partition for one run; `nothing` stands for ports that are not of the
/// signature.
pub(super) fn bound<'a>(
    memory: &'a mut [Memory],
    bindings: &'a mut Bindings<'_>,
    signature: &Signature,
    nothing: &'a Surface,
) -> Result<Vec<Bound<'a>>, Error> {
    let ordered = bindings.matched(signature, "two devices")?;
    let names = signature.ports.iter().map(|p| p.name.as_str());
    let mut ports: HashMap<&str, Bound<'a>> = names
        .zip(ordered)
        .map(|(name, bound)| {
            let bound = match bound {
                Bound::Read(surface) => Bound::Read(surface),
                Bound::Write(surface) => Bound::Write(surface),
            };
            (name, bound)
        })
        .collect();
    Ok(memory
        .iter_mut()
        .map(|memory| match memory {
            Memory::Own(surface) => Bound::Write(surface),
            Memory::Port(name) => ports.remove(name.as_str()).unwrap_or(Bound::Read(nothing)),
        })
        .collect())
}

/// The weight file of a part's program.
pub(super) fn constants(part: &Part, surfaces: &[Bound<'_>]) -> Weights {
    let mut weights = Weights::new();
    for constant in &part.constants {
        let tensor = surfaces[constant.surface].surface().to_tensor();
        weights.insert(WEIGHT_FILE, constant.offset, tensor);
    }
    weights
}
