use crate::storage::{Kept, QuantizedMatrix, WeightStorage};
use crate::{AdapterShape, program_name};
use orion_mil::op::Constexpr;
use orion_mil::{Builder, Op, TensorType, ValueId, WEIGHT_FILE, Weights};
use orion_tensor::{DType, Tensor};
use std::collections::{BTreeMap, HashMap};

/// Tensors in a weight file, by name: what a program can name as constants; and which of its
/// linear layers take adapters.
#[derive(Debug, Clone, Default)]
pub struct WeightIndex {
    entries: BTreeMap<String, Entry>,
    weights: Weights,
    adapters: Option<AdapterShape>,
}

/// A tensor in the weight file: its type and offset.
type Stored = (TensorType, u64);

#[derive(Debug, Clone)]
enum Entry {
    Plain(Stored),
    /// See [`QuantizedMatrix`].
    Blockwise {
        data: Stored,
        scale: Stored,
        offset: Option<Stored>,
    },
}

impl Entry {
    fn shape(&self) -> Option<Vec<usize>> {
        let (Self::Plain((ty, _)) | Self::Blockwise { data: (ty, _), .. }) = self;
        ty.shape()
    }
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
        let entry = Entry::Plain(self.append(tensor));
        self.add(name, entry);
    }

    /// Adds a parameter, kept as `storage` says; `decays` as its specification has it.
    ///
    /// # Panics
    /// When the name is taken.
    pub fn insert_parameter(
        &mut self,
        name: &str,
        tensor: &Tensor,
        decays: bool,
        storage: WeightStorage,
    ) {
        let entry = match storage.keep(tensor, decays) {
            Kept::Plain(tensor) => Entry::Plain(self.append(tensor)),
            Kept::Int8(matrix) => self.append_quantized(matrix),
        };
        self.add(name, entry);
    }

    /// Adds a matrix in int8, which stays so unless `storage` asks for floating-point numbers.
    ///
    /// # Panics
    /// When the name is taken.
    pub fn insert_quantized(
        &mut self,
        name: &str,
        matrix: &QuantizedMatrix,
        storage: WeightStorage,
    ) {
        if let WeightStorage::Float(_) = storage {
            return self.insert_parameter(name, &matrix.dequantize(), true, storage);
        }
        let entry = self.append_quantized(matrix.clone());
        self.add(name, entry);
    }

    fn append_quantized(&mut self, matrix: QuantizedMatrix) -> Entry {
        let QuantizedMatrix { data, scale, offset } = matrix;
        Entry::Blockwise {
            data: self.append(data),
            scale: self.append(scale),
            offset: offset.map(|offset| self.append(offset)),
        }
    }

    fn append(&mut self, tensor: Tensor) -> Stored {
        let ty = TensorType::new(tensor.dtype(), tensor.shape());
        (ty, self.weights.append(WEIGHT_FILE, tensor))
    }

    fn add(&mut self, name: &str, entry: Entry) {
        let taken = self.entries.insert(name.to_owned(), entry);
        assert!(taken.is_none(), "weight {name} is given twice");
    }

    /// The same for programs whose linear layers take adapters.
    pub fn with_adapters(self, shape: AdapterShape) -> Self {
        Self { adapters: Some(shape), ..self }
    }

    /// The adapters that programs take, if they do.
    pub fn adapters(&self) -> Option<&AdapterShape> {
        self.adapters.as_ref()
    }

    /// The weights to compile with.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    fn get(&self, name: &str) -> Option<&Entry> {
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

    /// The adapters that the function takes.
    pub(crate) fn adapters(&self) -> Option<&'a AdapterShape> {
        self.index.adapters()
    }

    /// The parameter of that Hugging Face name, as fp32.
    pub fn parameter(&mut self, name: &str, shape: &[usize]) -> ValueId {
        if let Some(&id) = self.known.get(name) {
            return id;
        }
        let identifier = program_name(name);
        let entry = self.index.get(name).cloned();
        debug_assert!(entry.iter().all(|e| e.shape().as_deref() == Some(shape)), "{name}");
        let id = match entry {
            Some(Entry::Plain(_)) => {
                let stored = self.narrow(name);
                self.builder.cast(stored, DType::F32)
            }
            Some(Entry::Blockwise { .. }) => {
                let (data, scale, offset) = self.quantized(name);
                self.builder.push(&Op::Constexpr(Constexpr::Blockwise { data, scale, offset }))
            }
            None => self.builder.input(&identifier, TensorType::new(DType::F32, shape)),
        };
        self.known.insert(name.to_owned(), id);
        id
    }

    /// Rows of the parameter `[V, C]` of that name, as `[1, C, 1, N]`, for int32 `tokens` `[N]`.
    /// Of a matrix in fewer bits than fp32 only these rows are widened.
    pub fn embedding(&mut self, name: &str, shape: &[usize; 2], tokens: ValueId) -> ValueId {
        match self.index.get(name) {
            Some(Entry::Blockwise { .. }) => {}
            Some(Entry::Plain((ty, _))) if ty.dtype != DType::F32 => {
                let table = self.narrow(name);
                let rows = self.builder.embedding(table, tokens);
                return self.builder.cast(rows, DType::F32);
            }
            _ => {
                let table = self.parameter(name, shape);
                return self.builder.embedding(table, tokens);
            }
        }
        let (data, scale, offset) = self.quantized(name);
        let b = &mut self.builder;
        let rows = b.gather(data, tokens, 0);
        let rows = b.cast(rows, DType::F32);
        let (count, blocks) = (b.shape(rows)[0], b.shape(scale)[1]);
        let mut rows = b.reshape(rows, &[count, blocks, shape[1] / blocks]);
        let by_block = |b: &mut Builder, table: ValueId| {
            let of_rows = b.gather(table, tokens, 0);
            b.reshape(of_rows, &[count, blocks, 1])
        };
        if let Some(offset) = offset {
            let offset = by_block(b, offset);
            rows = b.sub(rows, offset);
        }
        let scale = by_block(b, scale);
        let rows = b.mul(rows, scale);
        let rows = b.reshape(rows, &[count, shape[1]]);
        let columns = b.transpose(rows, &[1, 0]);
        b.reshape(columns, &[1, shape[1], 1, count])
    }

    /// A tensor as the weight file has it.
    fn narrow(&mut self, name: &str) -> ValueId {
        let Some(Entry::Plain(stored)) = self.index.get(name).cloned() else {
            panic!("{name} is not a tensor of the index");
        };
        let key = format!("{name}.stored");
        if let Some(&id) = self.known.get(&key) {
            return id;
        }
        let id = self.stored(&program_name(name), stored);
        self.known.insert(key, id);
        id
    }

    /// Data, scale and offset of a matrix in int8.
    fn quantized(&mut self, name: &str) -> (ValueId, ValueId, Option<ValueId>) {
        let Some(Entry::Blockwise { data, scale, offset }) = self.index.get(name).cloned() else {
            panic!("{name} is not in int8");
        };
        let mut part = |part: &str, stored| {
            let key = format!("{name}.{part}");
            if let Some(&id) = self.known.get(&key) {
                return id;
            }
            let id = self.stored(&program_name(&key), stored);
            self.known.insert(key, id);
            id
        };
        let (data, scale) = (part("data", data), part("scale", scale));
        (data, scale, offset.map(|offset| part("offset", offset)))
    }

    fn stored(&mut self, identifier: &str, (ty, offset): Stored) -> ValueId {
        self.builder.blob(identifier, ty, WEIGHT_FILE, offset)
    }

    /// A constant table of the index, such as rotary cosines.
    ///
    /// # Panics
    /// When the index does not hold it: see `Network::add_tables`.
    pub fn table(&mut self, name: &str) -> ValueId {
        let shape = self.index.get(name).and_then(Entry::shape);
        let shape = shape.unwrap_or_else(|| panic!("the index lacks the table {name}"));
        self.parameter(name, &shape)
    }
}
