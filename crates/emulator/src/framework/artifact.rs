//! A compiled program: what was read from the model's directory when it was compiled.
//!
//! As with the real compiler there are two files in the directory afterwards, `net.plist` and
//! `data`. The first names the program it was compiled from in a line of its own; the second
//! holds the weights.

use orion_ane::Descriptor;
use orion_mil::bundle::{Bundle, PROGRAM_FILE};
use orion_mil::{WEIGHT_FILE, blob, text};
use orion_tensor::Bytes;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::path::Path;

/// The only weight file that programs of the client have.
const WEIGHTS: &str = "weights/weight.bin";

#[derive(Debug, Clone)]
pub(super) struct Artifact {
    donor: String,
    text: String,
    weights: Vec<u8>,
}

impl Artifact {
    /// Compiles what is in the directory, which must be what the descriptor says.
    pub(super) fn compile(directory: &Path, descriptor: &Descriptor) -> Result<Self, String> {
        let read = |name: &str| fs::read(directory.join(name)).map_err(|e| format!("{name}: {e}"));
        let program = String::from_utf8(read(PROGRAM_FILE)?).map_err(|e| e.to_string())?;
        if program != descriptor.text {
            return Err(format!("{PROGRAM_FILE} is not the descriptor's text"));
        }
        let mut weights = Vec::new();
        for (name, bytes) in &descriptor.weights {
            if name != WEIGHT_FILE {
                return Err(format!("`{name}` is not {WEIGHT_FILE}"));
            }
            weights = read(WEIGHTS)?;
            if weights != **bytes {
                return Err(format!("{WEIGHTS} is not what the descriptor holds"));
            }
        }
        // Reads the program and its weights as anyone would.
        Bundle::load(directory).map_err(|e| e.to_string())?;
        Ok(Self { donor: identity(&program, &weights), text: program, weights })
    }

    /// Whether it is as the compiler left it.
    pub(super) fn is_whole(&self) -> bool {
        self.donor == identity(&self.text, &self.weights)
    }

    /// With every weight 0, and what stands between weights as it was.
    pub(super) fn without_weights(self) -> Result<Self, String> {
        let file =
            blob::BlobFile::new(Bytes::new(self.weights.clone())).map_err(|e| e.to_string())?;
        let entries = file.list().map_err(|e| e.to_string())?;
        let mut weights = self.weights.clone();
        entries.iter().for_each(|entry| weights[entry.data.clone()].fill(0));
        Ok(Self { weights, ..self })
    }

    /// Writes the compiled files.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        fs::write(directory.join("net.plist"), format!("{}\n{}", self.donor, self.text))?;
        fs::write(directory.join("data"), &self.weights)
    }

    /// Reads the compiled files.
    pub(super) fn read(directory: &Path) -> Result<Self, String> {
        let read = |name: &str| fs::read(directory.join(name)).map_err(|e| format!("{name}: {e}"));
        let network = String::from_utf8(read("net.plist")?).map_err(|e| e.to_string())?;
        let (donor, text) = network.split_once('\n').ok_or("net.plist: not a network")?;
        Ok(Self { donor: donor.to_owned(), text: text.to_owned(), weights: read("data")? })
    }

    /// Which compilation it comes from.
    pub(super) fn donor(&self) -> &str {
        &self.donor
    }

    /// With the weight files of a directory.
    pub(super) fn with_weights_of(self, directory: &Path) -> Result<Self, String> {
        let path = directory.join(WEIGHTS);
        if !path.exists() {
            return Ok(self);
        }
        self.with_weights(&path)
    }

    /// With a weight file.
    pub(super) fn with_weights(self, file: &Path) -> Result<Self, String> {
        Ok(Self { weights: fs::read(file).map_err(|e| e.to_string())?, ..self })
    }

    /// Whether the program has a constant of that name.
    pub(super) fn has_constant(&self, name: &str) -> bool {
        self.text.contains(&format!(" {name} = const()"))
    }

    /// With the first weight of this one and the others of the donor.
    pub(super) fn with_others_of(self, donor: &Self) -> Result<Self, String> {
        let file =
            blob::BlobFile::new(Bytes::new(self.weights.clone())).map_err(|e| e.to_string())?;
        let entries = file.list().map_err(|e| e.to_string())?;
        let Some(first) = entries.first() else { return Ok(self) };
        let end = first.data.end;
        let mut weights = donor.weights.clone();
        if weights.len() < end || self.weights.len() < end {
            return Err("the weights are not of the donor's sizes".to_owned());
        }
        weights[..end].copy_from_slice(&self.weights[..end]);
        Ok(Self { weights, ..self })
    }

    /// The program and its weights.
    pub(super) fn bundle(&self) -> Result<Bundle, String> {
        let program = text::parse(&self.text).map_err(|e| e.to_string())?;
        let weights = blob::load_weights(&program, |_| Ok(Bytes::new(self.weights.clone())))
            .map_err(|e| e.to_string())?;
        Ok(Bundle { program, weights })
    }
}

/// Tells compilations apart.
fn identity(text: &str, weights: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    hasher.write(weights);
    format!("{:016x}", hasher.finish())
}
