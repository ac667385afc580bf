//! Adapters as they are named on the command line.

use crate::failure::{Failure, Result};
use orion_engine::{Adapter, Generator, load_adapter};
use orion_models::Network;
use std::path::Path;

/// Adapters by name, in the order in which they were given.
#[derive(Default)]
pub(crate) struct Adapters {
    named: Vec<(String, Adapter)>,
}

impl Adapters {
    /// Loads what `--adapter` names, each `DIR` or `NAME=DIR`.
    ///
    /// # Errors
    /// When two have the same name, or a directory holds no adapter of this network.
    pub(crate) fn open(arguments: &[String], network: &Network) -> Result<Self> {
        let mut this = Self::default();
        for argument in arguments {
            let (name, path) = match argument.split_once('=') {
                Some((name, path)) if !name.is_empty() => (name.to_owned(), Path::new(path)),
                _ => {
                    let path = Path::new(argument);
                    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                    (name.unwrap_or_else(|| argument.clone()), path)
                }
            };
            if this.named.iter().any(|(taken, _)| *taken == name) {
                return Err(Failure::usage(format!("two adapters are called {name}"))
                    .hint("give each a name of its own: --adapter one=DIR,other=DIR"));
            }
            let adapter = load_adapter(path, network)?;
            this.named.push((name, adapter));
        }
        Ok(this)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.named.len()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// Each with its name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Adapter)> {
        self.named.iter().map(|(name, adapter)| (name.as_str(), adapter))
    }

    /// The name of that number.
    pub(crate) fn name(&self, number: Option<usize>) -> Option<&str> {
        number.map(|number| self.named[number].0.as_str())
    }

    /// The number of that name.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn number(&self, name: &str) -> Result<usize> {
        self.named.iter().position(|(known, _)| known == name).ok_or_else(|| {
            let names: Vec<&str> = self.iter().map(|(name, _)| name).collect();
            Failure::usage(format!("there is no adapter {name}; loaded are {}", names.join(", ")))
        })
    }

    /// Loads all of them into a generator, which numbers them as here.
    pub(crate) fn load_into(&self, generator: &mut Generator) {
        for (number, (_, adapter)) in self.named.iter().enumerate() {
            assert_eq!(generator.add_adapter(adapter), number, "a new generator");
        }
    }
}
