use crate::{Device, Error, Executable};
use orion_mil::{Program, Weights};
use std::collections::HashMap;
use std::sync::Arc;

/// Compiled programs over one set of weights, each compiled once.
///
/// The key is chosen by the caller, such as `decode 256`: making a program only to find that it
/// is already compiled would cost more than the look-up saves.
pub struct ProgramCache {
    device: Arc<dyn Device>,
    weights: Weights,
    compiled: HashMap<String, Box<dyn Executable>>,
}

impl ProgramCache {
    /// An empty cache.
    pub fn new(device: Arc<dyn Device>, weights: Weights) -> Self {
        Self { device, weights, compiled: HashMap::new() }
    }

    /// The device programs are compiled for.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// How many programs are compiled.
    pub fn len(&self) -> usize {
        self.compiled.len()
    }

    /// Whether nothing is compiled yet.
    pub fn is_empty(&self) -> bool {
        self.compiled.is_empty()
    }

    /// The executable for `key`, compiled from `program()` when it is new.
    ///
    /// # Errors
    /// When the device refuses the program.
    pub fn get(
        &mut self,
        key: &str,
        program: impl FnOnce() -> Program,
    ) -> Result<&mut dyn Executable, Error> {
        if !self.compiled.contains_key(key) {
            let executable = self.device.compile(&program(), &self.weights)?;
            self.compiled.insert(key.to_owned(), executable);
        }
        Ok(self.compiled.get_mut(key).expect("just inserted").as_mut())
    }

    /// Replaces the weights of every compiled program and of those to come.
    ///
    /// # Errors
    /// When an executable refuses them.
    pub fn update_weights(&mut self, weights: Weights) -> Result<(), Error> {
        for executable in self.compiled.values_mut() {
            executable.update_weights(&weights)?;
        }
        self.weights = weights;
        Ok(())
    }
}
