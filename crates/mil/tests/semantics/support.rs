//! What the tests of op semantics share.

use orion_mil::{Builder, Program, TensorType, ValueId, text};
use orion_tensor::DType;

/// Inputs as a case needs them.
pub(crate) struct Fixture {
    pub(crate) builder: Builder,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self { builder: Builder::new("main") }
    }

    pub(crate) fn of(&mut self, dtype: DType, shape: &[usize]) -> ValueId {
        let name = format!("input_{}", self.builder.function().params.len());
        self.builder.input(&name, TensorType::new(dtype, shape))
    }

    pub(crate) fn f32(&mut self, shape: &[usize]) -> ValueId {
        self.of(DType::F32, shape)
    }

    pub(crate) fn f16(&mut self, shape: &[usize]) -> ValueId {
        self.of(DType::F16, shape)
    }

    pub(crate) fn i32(&mut self, shape: &[usize]) -> ValueId {
        self.of(DType::I32, shape)
    }

    pub(crate) fn bool(&mut self, shape: &[usize]) -> ValueId {
        self.of(DType::Bool, shape)
    }
}

/// A program of one function: parameters, statements and results as text.
pub(crate) fn program(params: &str, body: &str, results: &str) -> Program {
    let source = format!(
        "program(1.3)\n[buildInfo = dict<string, string>({{{{\"by\", \"test\"}}}})]\n{{\n    \
         func main<ios18>({params}) {{\n{body}\n    }} -> ({results});\n}}\n"
    );
    text::parse(&source).unwrap_or_else(|e| panic!("{e}\n{source}"))
}
