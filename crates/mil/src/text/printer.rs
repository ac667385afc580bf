//! Program to text, in the layout Apple's compiler writes, so that files compare byte for byte.
//!
//! A NaN is written `nan` or `-nan`; its payload is not.

use super::number::write_float;
use crate::{
    Argument, Attributes, Binding, Block, Data, Dialect, Dim, Function, Operation, Param, Program,
    TensorType, Type, Value, ValueId, Values,
};
use orion_tensor::{DType, Tensor, bf16, f16};
use std::fmt::Write;

/// Column of the operations of a function.
const OPERATION_INDENT: usize = 12;

/// The canonical text of a program, without a final newline.
///
/// Functions and parameters are sorted by name, as arguments and attributes always are;
/// operations keep their order.
pub fn print(program: &Program) -> String {
    let mut printer = Printer::new(program.dialect);
    let version = match program.dialect {
        Dialect::V1_0 => "1.0",
        Dialect::V1_3 => "1.3",
    };
    printer.push(format_args!("program({version})\n"));
    if !program.attributes.is_empty() {
        printer.attributes(&program.attributes);
        printer.text("\n");
    }
    printer.text("{\n");
    let mut functions: Vec<&Function> = program.functions.iter().collect();
    functions.sort_by(|a, b| a.name.cmp(&b.name));
    for function in functions {
        printer.function(function);
    }
    printer.text("}");
    printer.out
}

/// The canonical text of one function, indented as it stands in a program.
pub fn print_function(function: &Function, dialect: Dialect) -> String {
    let mut printer = Printer::new(dialect);
    printer.function(function);
    printer.out
}

/// The canonical text of one operation, nested blocks included, without indent and newline.
pub fn print_operation(function: &Function, operation: &Operation, dialect: Dialect) -> String {
    let mut printer = Printer::new(dialect);
    printer.operation(&function.values, operation, 0);
    printer.out
}

/// A typed literal, such as `tensor<int32, [2]>([0, 1])`.
pub fn print_value(value: &Value, dialect: Dialect) -> String {
    let mut printer = Printer::new(dialect);
    printer.value(value);
    printer.out
}

/// A type, such as `tensor<fp16, [1, 64]>`.
pub fn print_type(ty: &Type, dialect: Dialect) -> String {
    let mut printer = Printer::new(dialect);
    printer.ty(ty);
    printer.out
}

struct Printer {
    out: String,
    dialect: Dialect,
}

impl Printer {
    fn new(dialect: Dialect) -> Self {
        Self { out: String::new(), dialect }
    }

    fn text(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn push(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.out.write_fmt(arguments).expect("strings take everything");
    }

    /// Calls `each` for every item, with `, ` between them.
    fn separated<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut each: impl FnMut(&mut Self, T),
    ) {
        for (i, item) in items.into_iter().enumerate() {
            if i > 0 {
                self.text(", ");
            }
            each(self, item);
        }
    }

    fn indent(&mut self, columns: usize) {
        self.out.extend(std::iter::repeat_n(' ', columns));
    }

    fn function(&mut self, function: &Function) {
        let values = &function.values;
        self.push(format_args!("    func {}<{}>(", function.name, function.opset));
        let mut params: Vec<&Param> = function.params.iter().collect();
        params.sort_by(|a, b| values[a.value].name.cmp(&values[b.value].name));
        self.separated(params, |this, param| {
            this.declaration(values, param.value);
            if !param.attributes.is_empty() {
                this.text(" ");
                this.attributes(&param.attributes);
            }
        });
        self.text(") ");
        if !function.attributes.is_empty() {
            self.attributes(&function.attributes);
            self.text(" ");
        }
        self.text("{\n");
        for operation in &function.body.operations {
            self.operation_line(values, operation, OPERATION_INDENT);
        }
        self.indent(OPERATION_INDENT - 4);
        self.results(values, &function.body.results);
        self.text(";\n");
    }

    /// `type name`
    fn declaration(&mut self, values: &Values, id: ValueId) {
        self.ty(&values[id].ty);
        self.text(" ");
        self.text(&values[id].name);
    }

    fn results(&mut self, values: &Values, results: &[ValueId]) {
        self.text("} -> (");
        self.separated(results, |this, &id| this.text(&values[id].name));
        self.text(")");
    }

    fn operation_line(&mut self, values: &Values, operation: &Operation, indent: usize) {
        self.indent(indent);
        self.operation(values, operation, indent);
        self.text(";\n");
    }

    fn operation(&mut self, values: &Values, operation: &Operation, indent: usize) {
        self.separated(&operation.outputs, |this, &id| this.declaration(values, id));
        if !operation.outputs.is_empty() {
            self.text(" = ");
        }
        self.text(&operation.name);
        if let Some(opset) = &operation.opset {
            self.push(format_args!("<{opset}>"));
        }
        self.text("(");
        self.separated(&operation.inputs, |this, (name, argument)| {
            this.text(name);
            this.text(" = ");
            match argument {
                Argument::One(binding) => this.binding(values, binding),
                Argument::Many(bindings) => {
                    this.text("(");
                    this.separated(bindings, |this, binding| this.binding(values, binding));
                    this.text(")");
                }
            }
        });
        self.text(")");
        if !operation.attributes.is_empty() {
            self.attributes(&operation.attributes);
        }
        for block in &operation.blocks {
            self.nested_block(values, block, indent + 4);
        }
    }

    fn nested_block(&mut self, values: &Values, block: &Block, indent: usize) {
        self.text("\n");
        self.indent(indent);
        self.text("(");
        self.separated(&block.params, |this, &id| this.declaration(values, id));
        self.text(") {\n");
        for operation in &block.operations {
            self.operation_line(values, operation, indent + 4);
        }
        self.indent(indent);
        self.results(values, &block.results);
    }

    fn binding(&mut self, values: &Values, binding: &Binding) {
        match binding {
            Binding::Value(id) => self.text(&values[*id].name),
            Binding::Literal(value) => self.value(value),
        }
    }

    fn attributes(&mut self, attributes: &Attributes) {
        self.text("[");
        self.separated(attributes, |this, (name, value)| {
            this.text(name);
            this.text(" = ");
            this.value(value);
        });
        self.text("]");
    }

    /// A scalar type: bare in the newer dialect, a tensor without axes in the older.
    fn scalar_type(&mut self, dtype: DType) {
        match self.dialect {
            Dialect::V1_0 => self.push(format_args!("tensor<{dtype}, []>")),
            Dialect::V1_3 => self.text(dtype.name()),
        }
    }

    fn tensor_type(&mut self, ty: &TensorType) {
        self.push(format_args!("tensor<{}, [", ty.dtype));
        self.separated(&ty.dims, |this, dim| this.push(format_args!("{dim}")));
        self.text("]>");
    }

    fn ty(&mut self, ty: &Type) {
        match ty {
            Type::Tensor(t) if t.rank() == 0 => self.scalar_type(t.dtype),
            Type::Tensor(t) => self.tensor_type(t),
            Type::List { element, length } => {
                self.text("list<");
                self.ty(element);
                self.push(format_args!(", {length}>"));
            }
            Type::Tuple(items) => {
                self.text("tuple<");
                self.separated(items, |this, item| this.ty(item));
                self.text(">");
            }
            Type::Dict(key, value) => {
                self.text("dict<");
                self.ty(key);
                self.text(", ");
                self.ty(value);
                self.text(">");
            }
            Type::State(t) => {
                self.text("state<");
                self.tensor_type(t);
                self.text(">");
            }
            // It holds no type that the dialects write differently.
            Type::TensorBuffer { .. } => self.push(format_args!("{ty}")),
        }
    }

    fn value(&mut self, value: &Value) {
        self.ty(&value.ty);
        self.text("(");
        match &value.data {
            Data::Blob { file, offset } => {
                self.text("BLOBFILE(path = ");
                self.scalar_type(DType::String);
                self.text("(");
                self.string(file);
                self.text("), offset = ");
                self.scalar_type(DType::U64);
                self.push(format_args!("({offset}))"));
            }
            data => self.literal(&value.ty, data),
        }
        self.text(")");
    }

    /// An element of a list, tuple or dictionary, whose type is known from outside.
    fn element(&mut self, value: &Value) {
        match &value.data {
            Data::Blob { .. } => self.value(value),
            data => self.literal(&value.ty, data),
        }
    }

    fn literal(&mut self, ty: &Type, data: &Data) {
        match data {
            Data::Tensor(t) => self.tensor(t),
            Data::Strings(strings) => {
                let shape = string_shape(ty, strings.len());
                self.bracketed(&shape, |this, i| this.string(&strings[i]));
            }
            Data::Blob { .. } => unreachable!("printed with its type"),
            Data::List(items) => {
                self.text("[");
                self.separated(items, |this, item| this.element(item));
                self.text("]");
            }
            Data::Tuple(items) => {
                self.text("(");
                self.separated(items, |this, item| this.element(item));
                self.text(")");
            }
            Data::Dict(pairs) => {
                self.text("{");
                self.separated(pairs, |this, (key, value)| {
                    this.text("{");
                    this.element(key);
                    this.text(", ");
                    this.element(value);
                    this.text("}");
                });
                self.text("}");
            }
        }
    }

    fn string(&mut self, string: &str) {
        self.text("\"");
        for piece in string.split_inclusive(['"', '\\']) {
            match piece.as_bytes().last() {
                Some(b'"' | b'\\') => {
                    let (plain, special) = piece.split_at(piece.len() - 1);
                    self.text(plain);
                    self.text("\\");
                    self.text(special);
                }
                _ => self.text(piece),
            }
        }
        self.text("\"");
    }

    fn tensor(&mut self, t: &Tensor) {
        match t.dtype() {
            DType::Bool => self.numbers(t, t.bytes(), |out, &b| {
                out.push_str(if b != 0 { "true" } else { "false" });
            }),
            DType::F16 => self.numbers(t, &t.elements::<f16>(), |o, v| write_float(o, v.to_f64())),
            DType::BF16 => {
                self.numbers(t, &t.elements::<bf16>(), |o, v| write_float(o, v.to_f64()));
            }
            DType::F32 => {
                self.numbers(t, &t.elements::<f32>(), |o, &v| write_float(o, f64::from(v)));
            }
            DType::I16 => self.numbers(t, &t.elements::<i16>(), write_integer),
            DType::I32 => self.numbers(t, &t.elements::<i32>(), write_integer),
            DType::I64 => self.numbers(t, &t.elements::<i64>(), write_integer),
            DType::U16 => self.numbers(t, &t.elements::<u16>(), write_integer),
            DType::U32 => self.numbers(t, &t.elements::<u32>(), write_integer),
            DType::U64 => self.numbers(t, &t.elements::<u64>(), write_integer),
            DType::I4 | DType::I8 => {
                self.numbers(t, t.bytes(), |out, &b| write_integer(out, &(b as i8)));
            }
            DType::U1 | DType::U2 | DType::U3 | DType::U4 | DType::U6 | DType::U8 => {
                self.numbers(t, t.bytes(), write_integer);
            }
            DType::F64 => self.numbers(t, &t.elements::<f64>(), |o, &v| write_float(o, v)),
            DType::F8E4M3FN | DType::F8E5M2 => {
                // Widening forgets the sign of a NaN.
                let signs = t.bytes().iter().map(|&b| if b & 0x80 == 0 { 1.0 } else { -1.0 });
                let values = t.to_f64_vec().into_iter().zip(signs);
                let values: Vec<f64> = values.map(|(v, sign)| v.copysign(sign)).collect();
                self.numbers(t, &values, |o, &v| write_float(o, v));
            }
            DType::String => unreachable!("a Tensor never holds strings"),
        }
    }

    fn numbers<T>(&mut self, t: &Tensor, elements: &[T], write: impl Fn(&mut String, &T)) {
        self.bracketed(t.shape(), |this, i| write(&mut this.out, &elements[i]));
    }

    /// Brackets for every axis around the elements, which `element` writes by index. Without
    /// elements `[]`, whatever the shape: the brackets could outnumber the memory.
    fn bracketed(&mut self, shape: &[usize], element: impl Fn(&mut Self, usize)) {
        let count: usize = orion_tensor::element_count(shape);
        if count == 0 {
            return self.text("[]");
        }
        // How many elements the brackets of each axis enclose.
        let mut enclosed = orion_tensor::row_major_strides(shape);
        for (stride, size) in enclosed.iter_mut().zip(shape) {
            *stride *= size;
        }
        for i in 0..count {
            if i > 0 {
                self.text(", ");
            }
            self.brackets('[', enclosed.iter().filter(|&&n| i % n == 0).count());
            element(self, i);
            self.brackets(']', enclosed.iter().filter(|&&n| (i + 1) % n == 0).count());
        }
    }

    fn brackets(&mut self, bracket: char, count: usize) {
        self.out.extend(std::iter::repeat_n(bracket, count));
    }
}

fn write_integer<T: std::fmt::Display>(out: &mut String, value: &T) {
    write!(out, "{value}").expect("strings take everything");
}

/// The shape of a string tensor: its type's, with an unknown size found from the count. Flat
/// where the two contradict each other.
fn string_shape(ty: &Type, count: usize) -> Vec<usize> {
    let dims = ty.as_tensor().map_or(&[][..], |t| &t.dims);
    let known: usize = dims.iter().map(|d| if let Dim::Known(n) = d { *n } else { 1 }).product();
    let missing = count.checked_div(known).unwrap_or(0);
    let size = |d: &Dim| if let Dim::Known(n) = d { *n } else { missing };
    let shape: Vec<usize> = dims.iter().map(size).collect();
    if orion_tensor::element_count(&shape) == count { shape } else { vec![count] }
}
