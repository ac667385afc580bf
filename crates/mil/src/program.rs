use crate::{Type, Value};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::{Index, IndexMut};

/// Which of the two text dialects a program is written in.
///
/// `program(1.0)` belongs to specification versions up to 8 and writes scalars as
/// `tensor<T, []>(v)`; `program(1.3)` belongs to 9 and later and writes `T(v)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `program(1.0)`
    V1_0,
    /// `program(1.3)`
    V1_3,
}

/// Names and literals, sorted by name as the canonical text has them.
pub type Attributes = BTreeMap<String, Value>;

/// A MIL program: functions and attributes such as `buildInfo`.
///
/// Two programs are equal when they print alike: functions compare by name, in any order.
#[derive(Debug, Clone)]
pub struct Program {
    /// Text dialect.
    pub dialect: Dialect,
    /// Program attributes.
    pub attributes: Attributes,
    /// Functions, in the order written; canonical text sorts them by name.
    pub functions: Vec<Function>,
}

impl Program {
    /// A program with one function, in the newer dialect.
    pub fn with_function(function: Function) -> Self {
        let build_info = Value::string_dict([("orion", env!("CARGO_PKG_VERSION"))]);
        Self {
            dialect: Dialect::V1_3,
            attributes: BTreeMap::from([("buildInfo".to_owned(), build_info)]),
            functions: vec![function],
        }
    }

    /// The function of that name.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|f| f.name == name)
    }

    /// `main`, or the only function.
    pub fn main(&self) -> Option<&Function> {
        match self.functions.as_slice() {
            [only] => Some(only),
            _ => self.function("main"),
        }
    }
}

/// Names a value (an SSA name) within one [`Function`].
///
/// Ids are dense but arbitrary; they do not follow program order after passes have run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(u32);

impl ValueId {
    /// Position in [`Values`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for ValueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

/// Name and type of a value.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueData {
    /// The identifier in the text; unique within a function for programs we build.
    pub name: String,
    /// Its type.
    pub ty: Type,
}

/// All values of a function, nested blocks included.
#[derive(Debug, Clone, Default)]
pub struct Values(Vec<ValueData>);

impl Values {
    /// Adds a value.
    ///
    /// # Panics
    /// Past `u32::MAX` values.
    pub fn push(&mut self, name: impl Into<String>, ty: Type) -> ValueId {
        let id = u32::try_from(self.0.len()).expect("fewer than 2^32 values");
        self.0.push(ValueData { name: name.into(), ty });
        ValueId(id)
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ids and data, by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (ValueId, &ValueData)> {
        self.0.iter().enumerate().map(|(i, v)| (ValueId(i as u32), v))
    }
}

impl Index<ValueId> for Values {
    type Output = ValueData;
    fn index(&self, id: ValueId) -> &ValueData {
        &self.0[id.index()]
    }
}

impl IndexMut<ValueId> for Values {
    fn index_mut(&mut self, id: ValueId) -> &mut ValueData {
        &mut self.0[id.index()]
    }
}

/// A function parameter: a program input.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// The value it defines.
    pub value: ValueId,
    /// Attributes after the parameter; empty in ordinary files.
    pub attributes: Attributes,
}

/// A function: typed parameters, a body, named results.
///
/// Two functions are equal when they print alike: ids and the order of parameters, which are
/// bound by name, are not compared.
#[derive(Debug, Clone)]
pub struct Function {
    /// Identifier, usually `main`.
    pub name: String,
    /// Opset, such as `ios18`.
    pub opset: String,
    /// Parameters in the order written; canonical text sorts them by name.
    pub params: Vec<Param>,
    /// Function attributes, such as `FlexibleShapeInformation`.
    pub attributes: Attributes,
    /// Names and types of all values.
    pub values: Values,
    /// The operations. `body.params` is empty; the function's parameters are `params`.
    pub body: Block,
}

/// The function attribute that records which output is written over which input.
pub(crate) const IN_PLACE: &str = "orionInPlace";

impl Function {
    /// A function without parameters or operations.
    pub fn new(name: impl Into<String>, opset: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            opset: opset.into(),
            params: Vec::new(),
            attributes: BTreeMap::new(),
            values: Values::default(),
            body: Block::default(),
        }
    }

    /// The type of a value.
    pub fn ty(&self, id: ValueId) -> &Type {
        &self.values[id].ty
    }

    /// The name of a value.
    pub fn value_name(&self, id: ValueId) -> &str {
        &self.values[id].name
    }

    /// Pairs (output, input) that share one surface: the output is the input's next state.
    /// Devices write the output over the input. Carried by a function attribute, so that the
    /// text of a program says everything about it.
    pub fn in_place(&self) -> HashMap<&str, &str> {
        let Some(crate::Data::Dict(pairs)) = self.attributes.get(IN_PLACE).map(|v| &v.data) else {
            return HashMap::new();
        };
        pairs.iter().filter_map(|(k, v)| Some((k.as_str()?, v.as_str()?))).collect()
    }

    /// The same in the order written; `None` when the attribute holds something else.
    pub(crate) fn in_place_pairs(&self) -> Option<Vec<(&str, &str)>> {
        match self.attributes.get(IN_PLACE).map(|v| &v.data) {
            None => Some(Vec::new()),
            Some(crate::Data::Dict(pairs)) => {
                pairs.iter().map(|(k, v)| Some((k.as_str()?, v.as_str()?))).collect()
            }
            Some(_) => None,
        }
    }

    /// Sets the pairs (output, input) of [`Function::in_place`].
    pub fn set_in_place<'a>(&mut self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort_unstable();
        if pairs.is_empty() {
            self.attributes.remove(IN_PLACE);
        } else {
            self.attributes.insert(IN_PLACE.to_owned(), Value::string_dict(pairs));
        }
    }
}

/// Operations in order, with parameters (for nested blocks) and results.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Block {
    /// Values the enclosing operation binds, such as loop variables.
    pub params: Vec<ValueId>,
    /// Operations in execution order.
    pub operations: Vec<Operation>,
    /// Values handed out.
    pub results: Vec<ValueId>,
}

impl Block {
    /// Every operation, those of nested blocks behind the one that holds them.
    pub fn all_operations(&self) -> Vec<&Operation> {
        let mut found = Vec::new();
        let mut open: Vec<&Operation> = self.operations.iter().rev().collect();
        while let Some(operation) = open.pop() {
            found.push(operation);
            for nested in operation.blocks.iter().rev() {
                open.extend(nested.operations.iter().rev());
            }
        }
        found
    }
}

/// One operation, as written. For its meaning see [`crate::Op`].
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// Op name, such as `conv`. Any identifier can stand here; meaning is checked elsewhere.
    pub name: String,
    /// Opset on the operation itself, as some analytics files carry it.
    pub opset: Option<String>,
    /// Arguments, sorted by name.
    pub inputs: BTreeMap<String, Argument>,
    /// Values defined.
    pub outputs: Vec<ValueId>,
    /// Attributes such as `name`, or `val` of a `const`.
    pub attributes: Attributes,
    /// Nested blocks of `cond` and `while_loop`.
    pub blocks: Vec<Block>,
}

impl Operation {
    /// An operation without arguments.
    pub fn new(name: impl Into<String>, outputs: Vec<ValueId>) -> Self {
        Self {
            name: name.into(),
            opset: None,
            inputs: BTreeMap::new(),
            outputs,
            attributes: BTreeMap::new(),
            blocks: Vec::new(),
        }
    }

    /// `val`, when this is a `const`.
    pub fn const_value(&self) -> Option<&Value> {
        if self.name == "const" { self.attributes.get("val") } else { None }
    }

    /// The values this operation reads directly, in argument order; nested blocks not included.
    pub fn operands(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.inputs.values().flat_map(Argument::bindings).filter_map(Binding::value)
    }

    /// The same, to be replaced.
    pub fn operands_mut(&mut self) -> impl Iterator<Item = &mut ValueId> + '_ {
        self.inputs.values_mut().flat_map(Argument::bindings_mut).filter_map(|b| match b {
            Binding::Value(id) => Some(id),
            Binding::Literal(_) => None,
        })
    }
}

/// What is bound to one argument name.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    /// `x = v`
    One(Binding),
    /// `values = (a, b)`
    Many(Vec<Binding>),
}

impl Argument {
    /// One or many, as a slice.
    pub fn bindings(&self) -> &[Binding] {
        match self {
            Self::One(b) => std::slice::from_ref(b),
            Self::Many(b) => b,
        }
    }

    fn bindings_mut(&mut self) -> &mut [Binding] {
        match self {
            Self::One(b) => std::slice::from_mut(b),
            Self::Many(b) => b,
        }
    }
}

impl From<ValueId> for Argument {
    fn from(id: ValueId) -> Self {
        Self::One(Binding::Value(id))
    }
}

impl From<Value> for Argument {
    fn from(value: Value) -> Self {
        Self::One(Binding::Literal(value))
    }
}

/// A value or an inline literal.
#[derive(Debug, Clone, PartialEq)]
pub enum Binding {
    /// A value in scope.
    Value(ValueId),
    /// A literal.
    Literal(Value),
}

impl Binding {
    /// The value, when it is not a literal.
    pub fn value(&self) -> Option<ValueId> {
        match self {
            Self::Value(id) => Some(*id),
            Self::Literal(_) => None,
        }
    }
}

impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        fn sorted(program: &Program) -> Vec<&Function> {
            let mut functions: Vec<_> = program.functions.iter().collect();
            functions.sort_by(|a, b| a.name.cmp(&b.name));
            functions
        }
        self.dialect == other.dialect
            && self.attributes == other.attributes
            && sorted(self) == sorted(other)
    }
}

/// Compares what would be printed: names instead of ids, walking both bodies together.
impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        let pairs = Pairs { left: &self.values, right: &other.values };
        self.name == other.name
            && self.opset == other.opset
            && self.attributes == other.attributes
            && self.params.len() == other.params.len()
            && sorted_params(self)
                .into_iter()
                .zip(sorted_params(other))
                .all(|(a, b)| pairs.same(a.value, b.value) && a.attributes == b.attributes)
            && pairs.same_block(&self.body, &other.body)
    }
}

fn sorted_params(function: &Function) -> Vec<&Param> {
    let mut params: Vec<_> = function.params.iter().collect();
    params.sort_by_key(|p| function.value_name(p.value));
    params
}

struct Pairs<'a> {
    left: &'a Values,
    right: &'a Values,
}

impl Pairs<'_> {
    fn same(&self, a: ValueId, b: ValueId) -> bool {
        self.left[a] == self.right[b]
    }

    fn same_all(&self, a: &[ValueId], b: &[ValueId]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(&a, &b)| self.same(a, b))
    }

    fn same_argument(&self, a: &Argument, b: &Argument) -> bool {
        matches!(a, Argument::One(_)) == matches!(b, Argument::One(_))
            && a.bindings().len() == b.bindings().len()
            && a.bindings().iter().zip(b.bindings()).all(|pair| match pair {
                (Binding::Value(a), Binding::Value(b)) => self.same(*a, *b),
                (Binding::Literal(a), Binding::Literal(b)) => a == b,
                _ => false,
            })
    }

    fn same_operation(&self, a: &Operation, b: &Operation) -> bool {
        a.name == b.name
            && a.opset == b.opset
            && a.attributes == b.attributes
            && self.same_all(&a.outputs, &b.outputs)
            && a.inputs.len() == b.inputs.len()
            && a.inputs
                .iter()
                .zip(&b.inputs)
                .all(|((ka, va), (kb, vb))| ka == kb && self.same_argument(va, vb))
            && a.blocks.len() == b.blocks.len()
            && a.blocks.iter().zip(&b.blocks).all(|(a, b)| self.same_block(a, b))
    }

    fn same_block(&self, a: &Block, b: &Block) -> bool {
        self.same_all(&a.params, &b.params)
            && self.same_all(&a.results, &b.results)
            && a.operations.len() == b.operations.len()
            && a.operations.iter().zip(&b.operations).all(|(a, b)| self.same_operation(a, b))
    }
}
