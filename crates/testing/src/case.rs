//! One program with its inputs, and how close devices must come to the reference.

use crate::{Random, Surfaces, Tensors};
use orion_cpu::reference::Reference;
use orion_mil::{Builder, Program, TensorType, ValueId, WEIGHT_FILE, Weights};
use orion_runtime::{Device, Error};
use orion_tensor::{DType, Tensor, Tolerance};
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;

/// One program with its inputs, and how close devices must come to the reference.
#[derive(Debug)]
pub struct Case {
    /// Unique, such as `matmul/transposed/fp16`.
    pub name: String,
    /// What is run.
    pub program: Program,
    /// What its constants in weight files are.
    pub weights: Weights,
    /// Other weights that the executable is given after its runs, to run once more.
    pub other_weights: Option<Weights>,
    /// Inputs, states and inputs replaced in place, before the first run.
    pub contents: Tensors,
    /// How close every output must be.
    pub tolerance: Tolerance,
    /// How often it is run over the same surfaces.
    pub runs: usize,
    expected: OnceLock<Result<Vec<Tensors>, Error>>,
}

/// Makes a case of a function that `build` writes; it returns the results, which are named `y0`,
/// `y1`, ….
pub(crate) fn case(
    name: impl Into<String>,
    tolerance: Tolerance,
    build: impl FnOnce(&mut Draft) -> Vec<ValueId>,
) -> Case {
    let name = name.into();
    let mut draft = Draft {
        builder: Builder::new("main"),
        random: Random::named(&name),
        contents: Tensors::new(),
        weights: Weights::new(),
    };
    let results = build(&mut draft);
    for (i, &result) in results.iter().enumerate() {
        draft.builder.rename(result, &format!("y{i}"));
    }
    let function = draft.builder.finish(&results);
    Case {
        name,
        program: Program::with_function(function),
        weights: draft.weights,
        other_weights: None,
        contents: draft.contents,
        tolerance,
        runs: 1,
        expected: OnceLock::new(),
    }
}

impl Case {
    /// Outputs that are written over inputs.
    pub(crate) fn in_place(mut self, pairs: &[(&str, &str)]) -> Self {
        self.program.functions[0].set_in_place(pairs.iter().copied());
        self
    }

    /// Runs more than once.
    pub(crate) fn runs(mut self, runs: usize) -> Self {
        self.runs = runs;
        self
    }

    /// Runs once more with other random weights.
    pub(crate) fn then_other_weights(mut self) -> Self {
        let mut random = Random::named(&self.name);
        let mut other = self.weights.clone();
        for (file, tensors) in self.weights.files() {
            for (&offset, tensor) in tensors {
                let changed = random.suitable(tensor.dtype(), tensor.shape());
                other.insert(file, offset, changed);
            }
        }
        self.other_weights = Some(other);
        self
    }

    /// What the program writes, after each run.
    fn outputs_on(&self, device: &dyn Device) -> Result<Vec<Tensors>, Error> {
        let mut executable = device.compile(&self.program, &self.weights)?;
        let mut surfaces = Surfaces::new(&*executable, &self.contents);
        let mut outputs = Vec::new();
        for _ in 0..self.runs {
            surfaces.run(&mut *executable)?;
            outputs.push(surfaces.written(&*executable));
        }
        if let Some(other) = &self.other_weights {
            executable.update_weights(other)?;
            surfaces.run(&mut *executable)?;
            outputs.push(surfaces.written(&*executable));
        }
        Ok(outputs)
    }

    /// Compares a device with the reference. Where the reference fails, the device must fail in
    /// the same kind of way.
    ///
    /// # Errors
    /// What is different, with the program.
    pub fn check(&self, device: &dyn Device) -> Result<(), String> {
        self.check_within(device, self.tolerance)
    }

    /// The same with another tolerance, for devices that compute in another precision.
    ///
    /// # Errors
    /// As for [`check`](Self::check).
    pub fn check_within(&self, device: &dyn Device, tolerance: Tolerance) -> Result<(), String> {
        let expected = self.expected.get_or_init(|| self.outputs_on(&Reference));
        let actual = self.outputs_on(device);
        self.compare(&actual, expected, tolerance).map_err(|difference| {
            format!("{difference}\n\n{}", orion_mil::text::print(&self.program))
        })
    }

    fn compare(
        &self,
        actual: &Result<Vec<Tensors>, Error>,
        expected: &Result<Vec<Tensors>, Error>,
        tolerance: Tolerance,
    ) -> Result<(), String> {
        match (actual, expected) {
            (Ok(actual), Ok(expected)) => {
                for (run, (actual, expected)) in actual.iter().zip(expected).enumerate() {
                    for (name, expected) in expected {
                        let actual = actual.get(name).ok_or(format!("`{name}` is missing"))?;
                        compare(actual, expected, tolerance)
                            .map_err(|e| format!("`{name}` after run {run}: {e}"))?;
                    }
                }
                Ok(())
            }
            (Err(actual), Err(expected)) if actual.kind() == expected.kind() => Ok(()),
            (Err(actual), Err(expected)) => {
                Err(format!("the device fails with `{actual}`, the reference with `{expected}`"))
            }
            (Err(error), Ok(_)) => Err(error.to_string()),
            (Ok(_), Err(error)) => Err(format!("it should have failed: {error}")),
        }
    }
}

/// Compares type, shape and numbers.
///
/// # Errors
/// The first difference in type or shape, or the worst in numbers.
pub fn compare(actual: &Tensor, expected: &Tensor, tolerance: Tolerance) -> Result<(), String> {
    if (actual.dtype(), actual.shape()) != (expected.dtype(), expected.shape()) {
        return Err(format!("got {actual:?}, expected {expected:?}"));
    }
    tolerance.check(&actual.to_f64_vec(), &expected.to_f64_vec()).map_err(|e| e.to_string())
}

/// A function being written, with random inputs.
pub(crate) struct Draft {
    builder: Builder,
    pub(crate) random: Random,
    contents: Tensors,
    weights: Weights,
}

impl Deref for Draft {
    type Target = Builder;
    fn deref(&self) -> &Builder {
        &self.builder
    }
}

impl DerefMut for Draft {
    fn deref_mut(&mut self) -> &mut Builder {
        &mut self.builder
    }
}

impl Draft {
    /// An input with this content, named `x0`, `x1`, ….
    pub(crate) fn given(&mut self, content: Tensor) -> ValueId {
        let name = format!("x{}", self.contents.len());
        let ty = TensorType::new(content.dtype(), content.shape());
        self.contents.insert(name.clone(), content);
        self.builder.input(&name, ty)
    }

    /// An input of numbers that suit the type: standard normal floats, integers of `-9..=9`.
    pub(crate) fn any(&mut self, dtype: DType, shape: &[usize]) -> ValueId {
        let content = self.random.suitable(dtype, shape);
        self.given(content)
    }

    /// An input of floats uniform in `low..high`, or integers truncated from them.
    pub(crate) fn within(&mut self, dtype: DType, shape: &[usize], low: f64, high: f64) -> ValueId {
        let content = self.random.tensor(dtype, shape, |random| random.uniform(low, high));
        self.given(content)
    }

    /// An int32 input of `0..limit`.
    pub(crate) fn indices(&mut self, shape: &[usize], limit: usize) -> ValueId {
        self.within(DType::I32, shape, 0.0, limit as f64)
    }

    /// An int32 input.
    pub(crate) fn given_ints(&mut self, shape: &[usize], values: &[i32]) -> ValueId {
        self.given(Tensor::from_slice(shape, values))
    }

    /// A state of random content, named like an input.
    pub(crate) fn random_state(&mut self, dtype: DType, shape: &[usize]) -> ValueId {
        let name = format!("x{}", self.contents.len());
        let content = self.random.suitable(dtype, shape);
        self.contents.insert(name.clone(), content);
        self.builder.state(&name, TensorType::new(dtype, shape))
    }

    /// A random constant in a weight file, times `scale`.
    pub(crate) fn weight(&mut self, dtype: DType, shape: &[usize], scale: f64) -> ValueId {
        let content = self.random.tensor(dtype, shape, |random| scale * random.normal());
        let offset = self.weights.append(WEIGHT_FILE, content);
        let name = format!("w{offset}");
        self.builder.blob(&name, TensorType::new(dtype, shape), WEIGHT_FILE, offset)
    }
}
