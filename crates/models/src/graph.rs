use crate::program_name;
use orion_mil::{Builder, TensorType, ValueId, WEIGHT_FILE, Weights};
use orion_tensor::{DType, Tensor};
use std::collections::{BTreeMap, HashMap};

/// Tensors in a weight file, by name: what a program can name as constants.
#[derive(Debug, Clone, Default)]
pub struct WeightIndex {
    entries: BTreeMap<String, (TensorType, u64)>,
    weights: Weights,
}

impl WeightIndex {
    /// No tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor, sharing its storage.
    ///
    /// # Panics
    /// When the name is taken.
    pub fn insert(&mut self, name: &str, tensor: Tensor) {
        let ty = TensorType::new(tensor.dtype(), tensor.shape());
        let offset = self.weights.append(WEIGHT_FILE, tensor);
        let taken = self.entries.insert(name.to_owned(), (ty, offset));
        assert!(taken.is_none(), "weight {name} is given twice");
    }

    /// The weights to compile with.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    fn get(&self, name: &str) -> Option<&(TensorType, u64)> {
        self.entries.get(name)
    }
}

/// A function under construction whose parameters are found by name: a constant where the index
/// has one, else an input to be bound at run time.
pub struct Graph<'a> {
    /// The function so far.
    pub builder: Builder,
    index: &'a WeightIndex,
    known: HashMap<String, ValueId>,
}

impl<'a> Graph<'a> {
    /// An empty function.
    pub fn new(name: &str, index: &'a WeightIndex) -> Self {
        Self { builder: Builder::new(name), index, known: HashMap::new() }
    }

    /// The parameter of that Hugging Face name, as fp32.
    pub fn parameter(&mut self, name: &str, shape: &[usize]) -> ValueId {
        if let Some(&id) = self.known.get(name) {
            return id;
        }
        let identifier = program_name(name);
        let id = match self.index.get(name) {
            Some((ty, offset)) => {
                debug_assert_eq!(ty.shape().as_deref(), Some(shape), "{name}");
                let stored = self.builder.blob(&identifier, ty.clone(), WEIGHT_FILE, *offset);
                self.builder.cast(stored, DType::F32)
            }
            None => self.builder.input(&identifier, TensorType::new(DType::F32, shape)),
        };
        self.known.insert(name.to_owned(), id);
        id
    }

    /// A constant table of the index, such as rotary cosines.
    ///
    /// # Panics
    /// When the index does not hold it: see `Network::add_tables`.
    pub fn table(&mut self, name: &str) -> ValueId {
        let shape = self.index.get(name).and_then(|(ty, _)| ty.shape());
        let shape = shape.unwrap_or_else(|| panic!("the index lacks the table {name}"));
        self.parameter(name, &shape)
    }
}
