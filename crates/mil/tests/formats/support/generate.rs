//! Programs made up from a tape of numbers: whatever the tape, the program is one that text can
//! hold. A shorter tape, or one with smaller numbers, gives a simpler program, so that failures
//! shrink.

use orion_mil::{
    Argument, Attributes, Binding, Block, Data, Dialect, Dim, Function, Operation, Param, Program,
    TensorType, Type, Value, ValueId,
};
use orion_tensor::{Bytes, DType, Tensor};
use std::collections::{BTreeMap, HashSet};

/// Numbers read one after the other; zeros past the end.
pub(crate) struct Tape<'a> {
    words: &'a [u32],
}

impl<'a> Tape<'a> {
    pub(crate) fn new(words: &'a [u32]) -> Self {
        Self { words }
    }

    fn next(&mut self) -> u32 {
        let (&word, rest) = self.words.split_first().unwrap_or((&0, &[]));
        self.words = rest;
        word
    }

    fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit
    }

    /// True once in `n` times, never at the end of the tape.
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

const STEMS: [&str; 12] = [
    "x",
    "weight",
    "a_very_long_name_0",
    "_",
    "B@c",
    "true",
    "inf",
    "tensor",
    "BLOBFILE",
    "program",
    "fp16",
    "const",
];
const OPERATIONS: [&str; 9] =
    ["add", "const", "cond", "split", "write_state", "bool", "program", "x", "while_loop"];
const CHARACTERS: [char; 12] =
    ['a', 'Z', '"', '\\', '\n', '/', ' ', '{', ',', 'é', '\u{1F40B}', '\0'];

/// A program of any dialect with up to three functions.
pub(crate) fn program(tape: &mut Tape<'_>) -> Program {
    let dialect = tape.pick(&[Dialect::V1_3, Dialect::V1_0]);
    let attributes = attributes(tape);
    let mut names = HashSet::new();
    let functions = (0..tape.below(4)).map(|_| function(tape, &mut names)).collect();
    Program { dialect, attributes, functions }
}

fn fresh(tape: &mut Tape<'_>, taken: &mut HashSet<String>) -> String {
    let stem = tape.pick(&STEMS);
    let numbered = (0..).map(|n| if n == 0 { stem.to_owned() } else { format!("{stem}_{n}") });
    let name = numbered.into_iter().find(|name| !taken.contains(name)).expect("endless");
    taken.insert(name.clone());
    name
}

fn function(tape: &mut Tape<'_>, functions: &mut HashSet<String>) -> Function {
    let name = fresh(tape, functions);
    let mut function = Function::new(name, tape.pick(&["ios18", "ios15", "CoreML9"]));
    let mut names = HashSet::new();
    let mut visible = Vec::new();
    for _ in 0..tape.below(4) {
        let value = define(tape, &mut function, &mut names, &mut visible);
        let attributes = if tape.one_in(4) { attributes(tape) } else { Attributes::new() };
        function.params.push(Param { value, attributes });
    }
    function.attributes = attributes(tape);
    let count = tape.below(8);
    function.body = block(tape, &mut function, &mut names, &mut visible, count, 0);
    function
}

fn define(
    tape: &mut Tape<'_>,
    function: &mut Function,
    names: &mut HashSet<String>,
    visible: &mut Vec<ValueId>,
) -> ValueId {
    let ty = value_type(tape);
    let id = function.values.push(fresh(tape, names), ty);
    visible.push(id);
    id
}

fn block(
    tape: &mut Tape<'_>,
    function: &mut Function,
    names: &mut HashSet<String>,
    visible: &mut Vec<ValueId>,
    count: usize,
    depth: usize,
) -> Block {
    let operations = (0..count).map(|_| operation(tape, function, names, visible, depth)).collect();
    let results = if visible.is_empty() { 0 } else { tape.below(4) };
    let results = (0..results).map(|_| tape.pick(visible)).collect();
    Block { params: Vec::new(), operations, results }
}

fn operation(
    tape: &mut Tape<'_>,
    function: &mut Function,
    names: &mut HashSet<String>,
    visible: &mut Vec<ValueId>,
    depth: usize,
) -> Operation {
    let mut operation = Operation::new(tape.pick(&OPERATIONS), Vec::new());
    operation.opset = tape.one_in(4).then(|| "ios17".to_owned());
    for _ in 0..tape.below(4) {
        let name = tape.pick(&["x", "y", "axis", "values", "true", "const"]);
        let argument = if tape.one_in(3) {
            Argument::Many((0..tape.below(4)).map(|_| binding(tape, visible)).collect())
        } else {
            Argument::One(binding(tape, visible))
        };
        operation.inputs.insert(name.to_owned(), argument);
    }
    operation.attributes = attributes(tape);
    if depth < 3 && tape.one_in(6) {
        for _ in 0..1 + tape.below(2) {
            let outside = visible.len();
            let params: Vec<ValueId> =
                (0..tape.below(3)).map(|_| define(tape, function, names, visible)).collect();
            let count = tape.below(4);
            let body = block(tape, function, names, visible, count, depth + 1);
            operation.blocks.push(Block { params, ..body });
            visible.truncate(outside);
        }
    }
    let outputs = tape.pick(&[1, 1, 0, 2, 3]);
    operation.outputs = (0..outputs).map(|_| define(tape, function, names, visible)).collect();
    operation
}

fn binding(tape: &mut Tape<'_>, visible: &[ValueId]) -> Binding {
    if visible.is_empty() || tape.one_in(4) {
        Binding::Literal(value(tape))
    } else {
        Binding::Value(tape.pick(visible))
    }
}

fn attributes(tape: &mut Tape<'_>) -> Attributes {
    let names = ["name", "val", "buildInfo", "A", "_b@2", "milId"];
    let count = tape.below(3);
    (0..count).map(|_| (tape.pick(&names).to_owned(), value(tape))).collect::<BTreeMap<_, _>>()
}

fn dims(tape: &mut Tape<'_>) -> Vec<Dim> {
    let sizes = [
        Dim::Known(1),
        Dim::Known(2),
        Dim::Known(3),
        Dim::Unknown,
        Dim::Known(1),
        Dim::Known(2),
        Dim::Known(0),
    ];
    (0..tape.pick(&[0, 1, 2, 3, 4, 1, 0])).map(|_| tape.pick(&sizes)).collect()
}

fn tensor_type(tape: &mut Tape<'_>) -> TensorType {
    let dtypes: Vec<DType> = DType::all().collect();
    TensorType { dtype: tape.pick(&dtypes), dims: dims(tape) }
}

/// The type of a parameter or result.
fn value_type(tape: &mut Tape<'_>) -> Type {
    let sizes = |tape: &mut Tape<'_>| (0..tape.below(4)).map(|_| tape.below(70)).collect();
    match tape.below(8) {
        6 => Type::State(tensor_type(tape)),
        7 => Type::TensorBuffer {
            dtype: DType::F16,
            shape: sizes(tape),
            strides: sizes(tape),
            interleave_factors: sizes(tape),
        },
        _ => literal_type(tape, 0),
    }
}

/// A type that literals can have. None is so large that an empty literal of it could not be
/// repeated in a list.
fn literal_type(tape: &mut Tape<'_>, depth: usize) -> Type {
    let nested = |tape: &mut Tape<'_>| Box::new(literal_type(tape, depth + 1));
    match if depth < 3 { tape.below(8) } else { 0 } {
        5 => Type::List {
            element: nested(tape),
            length: tape.pick(&[Dim::Unknown, Dim::Known(0), Dim::Known(2)]),
        },
        6 => Type::Tuple((0..tape.below(3)).map(|_| *nested(tape)).collect()),
        7 => Type::Dict(
            Box::new(Type::scalar(tape.pick(&[DType::String, DType::I64]))),
            nested(tape),
        ),
        _ => {
            let mut t = tensor_type(tape);
            if t.dtype == DType::String {
                // Text does not tell the shape of strings in more than one unknown size.
                let unknown = t.dims.iter_mut().filter(|d| **d == Dim::Unknown);
                unknown.skip(1).for_each(|d| *d = Dim::Known(2));
            }
            Type::Tensor(t)
        }
    }
}

pub(crate) fn value(tape: &mut Tape<'_>) -> Value {
    let ty = literal_type(tape, 0);
    value_of(tape, ty)
}

fn value_of(tape: &mut Tape<'_>, ty: Type) -> Value {
    let data = match &ty {
        Type::Tensor(t) => tensor_data(tape, t),
        Type::List { element, length } => {
            let count = match length {
                Dim::Known(n) => *n,
                Dim::Unknown => tape.below(4),
            };
            Data::List((0..count).map(|_| value_of(tape, (**element).clone())).collect())
        }
        Type::Tuple(items) => {
            Data::Tuple(items.iter().map(|item| value_of(tape, item.clone())).collect())
        }
        Type::Dict(key, value) => {
            let pairs = (0..tape.below(3))
                .map(|_| (value_of(tape, (**key).clone()), value_of(tape, (**value).clone())));
            Data::Dict(pairs.collect())
        }
        Type::State(_) | Type::TensorBuffer { .. } => unreachable!("not types of literals"),
    };
    Value { ty, data }
}

fn tensor_data(tape: &mut Tape<'_>, ty: &TensorType) -> Data {
    let blob = ty.dtype != DType::String && tape.one_in(6);
    if blob {
        let offset = u64::from(tape.next()) << 32 | u64::from(tape.next());
        return Data::Blob { file: string(tape), offset };
    }
    // A tensor without elements has no brackets to tell its unknown sizes by: they are 0.
    let empty = ty.dims.contains(&Dim::Known(0)) || tape.one_in(8);
    let mut size = |d: &Dim| match d {
        Dim::Known(n) => *n,
        Dim::Unknown if empty => 0,
        Dim::Unknown => 1 + tape.below(3),
    };
    let shape: Vec<usize> = ty.dims.iter().map(&mut size).collect();
    let count: usize = shape.iter().product();
    if ty.dtype == DType::String {
        return Data::Strings((0..count).map(|_| string(tape)).collect());
    }
    let width = ty.dtype.size_bytes();
    let elements = (0..count).flat_map(|_| {
        let bits = element(tape, ty.dtype);
        bits.to_le_bytes().into_iter().take(width)
    });
    let bytes: Vec<u8> = elements.collect();
    Data::Tensor(Tensor::new(ty.dtype, shape, Bytes::from_elements(&bytes)).expect("sizes fit"))
}

fn string(tape: &mut Tape<'_>) -> String {
    (0..tape.below(6)).map(|_| tape.pick(&CHARACTERS)).collect()
}

/// Sign, exponent and mantissa bits of a float type.
fn float_bits(dtype: DType) -> Option<(u32, u32)> {
    Some(match dtype {
        DType::F16 => (5, 10),
        DType::BF16 => (8, 7),
        DType::F32 => (8, 23),
        DType::F64 => (11, 52),
        DType::F8E4M3FN => (4, 3),
        DType::F8E5M2 => (5, 2),
        _ => return None,
    })
}

fn element(tape: &mut Tape<'_>, dtype: DType) -> u64 {
    let random = u64::from(tape.next()) << 32 | u64::from(tape.next());
    let bits = dtype.bits() as u32;
    let random = random & (u64::MAX >> (64 - bits));
    match dtype {
        DType::Bool => random & 1,
        // Held sign-extended to a byte.
        DType::I4 => ((random << 4) as u8 as i8 >> 4) as u8 as u64,
        _ => {
            let Some((exponent, mantissa)) = float_bits(dtype) else { return random };
            let sign = random & 1 << (bits - 1);
            let fraction = random & ((1 << mantissa) - 1);
            let top = ((1 << exponent) - 1) << mantissa;
            // Text knows one NaN of each sign.
            let nan = match dtype {
                DType::F8E4M3FN => top | 7,
                _ => top | 1 << (mantissa - 1),
            };
            let finite = random & top != top || (dtype == DType::F8E4M3FN && fraction != 7);
            match tape.below(8) {
                4 => sign,
                5 => sign | fraction,
                6 => sign | nan,
                7 => sign | top,
                _ if finite => random,
                _ => sign | nan,
            }
        }
    }
}
