//! Small programs for rows of `op, variant, answer`.
//!
//! The variant is read for what it says of types, sizes, kernels and what is computed; whatever
//! else stands in it does not matter to where an operation runs.

use orion_device::{Chip, Os, Route, Target, residency};
use orion_mil::{Argument, Binding, Function, Operation, Param, Program, Type, Value, ValueId};
use orion_tensor::{DType, Tensor};

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Case {
    pub(crate) op: String,
    pub(crate) variant: String,
    pub(crate) supported: bool,
}

/// Reads `op <tab> variant <tab> 0|1`; lines that begin with `#` are comments.
pub(crate) fn read_cases(text: &str) -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = || format!("line {} is not `op, variant, 0 or 1` with tabs: {line}", i + 1);
        let [op, variant, answer] = *line.split('\t').collect::<Vec<_>>() else {
            return Err(wrong());
        };
        let supported = match answer.trim() {
            "1" => true,
            "0" => false,
            _ => return Err(wrong()),
        };
        cases.push(Case {
            op: op.trim().to_owned(),
            variant: variant.trim().to_owned(),
            supported,
        });
    }
    Ok(cases)
}

impl Case {
    /// Why the operation does not run on the Neural Engine of an M4 under macOS 27.
    pub(crate) fn refusal(&self) -> Option<String> {
        let chip: Chip = "m4".parse().expect("a chip");
        let target = Target { chip, os: Os::V27, route: Route::CoreMl };
        let placements = residency(&self.program(), &target);
        placements.into_iter().find(|p| p.rule.is_some()).map(|p| p.reason)
    }

    /// A program of the one operation.
    fn program(&self) -> Program {
        let mut draft = Draft { function: Function::new("main", "ios18") };
        let words = Words { op: &self.op, variant: &self.variant };
        let (from, to) = words.types();
        let shape = words.shape();
        let x = draft.input("x", from, &shape);
        let mut operation = Operation::new(self.op.clone(), vec![]);
        let mut result = shape.clone();
        let mut bind = |name: &str, value: ValueId| {
            operation.inputs.insert(name.to_owned(), value.into());
        };
        match self.op.as_str() {
            "add" | "sub" | "mul" | "real_div" | "floor_div" | "mod" | "pow" | "maximum"
            | "minimum" | "equal" | "not_equal" | "greater" | "greater_equal" | "less"
            | "less_equal" | "logical_and" | "logical_or" | "logical_xor" => {
                bind("x", x);
                bind("y", draft.input("y", from, &shape));
            }
            "conv" | "conv_transpose" => {
                let kernel = words.kernel(shape.len() - 2);
                let weight = [&[64, 64][..], &kernel].concat();
                bind("x", x);
                bind(
                    "weight",
                    if words.says("dynamic") {
                        draft.input("w", from, &weight)
                    } else {
                        draft.weight(from, &weight)
                    },
                );
            }
            "max_pool" | "avg_pool" | "l2_pool" => {
                let kernel: Vec<i32> =
                    words.kernel(shape.len() - 2).iter().map(|&k| k as i32).collect();
                bind("x", x);
                bind("kernel_sizes", draft.constant(Value::ints(&kernel)));
            }
            "matmul" => {
                let k = shape[shape.len() - 1];
                let mut other = shape.clone();
                let rank = other.len();
                (other[rank - 2], other[rank - 1]) = (k, 64);
                result[rank - 1] = 64;
                bind("x", x);
                bind(
                    "y",
                    if words.says("const") {
                        draft.weight(from, &other)
                    } else {
                        draft.input("y", from, &other)
                    },
                );
            }
            "linear" => {
                let k = shape[shape.len() - 1];
                let rank = result.len();
                result[rank - 1] = 64;
                bind("x", x);
                bind("weight", draft.weight(from, &[64, k]));
            }
            "scaled_dot_product_attention" => {
                bind("query", x);
                bind("key", draft.input("key", from, &shape));
                bind("value", draft.input("value", from, &shape));
            }
            "concat" | "stack" => {
                let other = draft.input("other", from, &shape);
                let both = vec![Binding::Value(x), Binding::Value(other)];
                operation.inputs.insert("values".into(), Argument::Many(both));
            }
            "gather" | "gather_along_axis" | "gather_nd" | "scatter" | "scatter_along_axis"
            | "scatter_nd" => {
                let dtype = if words.says("int16") { DType::I16 } else { DType::I32 };
                let whole = self.op.ends_with("along_axis");
                let size = if whole { shape.clone() } else { vec![8] };
                // Core ML narrows indices that a short axis allows when they are constants.
                bind("x", x);
                bind(
                    "indices",
                    if words.says("const") || (whole && !words.says("dyn") && dtype == DType::I32) {
                        draft.weight(dtype, &size)
                    } else {
                        draft.input("indices", dtype, &size)
                    },
                );
            }
            "slice_by_size" | "slice_by_index" | "slice_update" => {
                let zeros = vec![0; shape.len()];
                bind("x", x);
                bind(
                    "begin",
                    if words.says("dyn") {
                        draft.input("begin", DType::I32, &[shape.len()])
                    } else {
                        draft.constant(Value::ints(&zeros))
                    },
                );
            }
            "select" => {
                bind("cond", draft.input("cond", DType::Bool, &shape));
                bind("a", x);
                bind("b", draft.input("other", from, &shape));
            }
            "quantize" | "dequantize" => bind("input", x),
            "fill_like" => bind("ref_tensor", x),
            _ => bind("x", x),
        }
        let output = match self.op.as_str() {
            "equal" | "not_equal" | "greater" | "greater_equal" | "less" | "less_equal" => {
                DType::Bool
            }
            "quantize" => to.filter(|t| t.bits() == 8).unwrap_or(DType::I8),
            "topk" => from,
            _ => to.unwrap_or(from),
        };
        let y = draft.function.values.push("y", Type::tensor(output, &result));
        operation.outputs = vec![y];
        if self.op == "topk" {
            operation
                .outputs
                .push(draft.function.values.push("i", Type::tensor(DType::I32, &result)));
        }
        draft.function.body.operations.push(operation);
        draft.function.body.results.push(y);
        Program::with_function(draft.function)
    }
}

struct Draft {
    function: Function,
}

impl Draft {
    fn input(&mut self, name: &str, dtype: DType, shape: &[usize]) -> ValueId {
        let value = self.function.values.push(name, Type::tensor(dtype, shape));
        self.function.params.push(Param { value, attributes: Default::default() });
        value
    }

    fn constant(&mut self, value: Value) -> ValueId {
        let name = format!("c{}", self.function.values.len());
        let id = self.function.values.push(name, value.ty.clone());
        let mut operation = Operation::new("const", vec![id]);
        operation.attributes.insert("val".into(), value);
        self.function.body.operations.push(operation);
        id
    }

    fn weight(&mut self, dtype: DType, shape: &[usize]) -> ValueId {
        self.constant(Value::tensor(Tensor::zeros(dtype, shape)))
    }
}

/// What a variant says.
struct Words<'a> {
    op: &'a str,
    variant: &'a str,
}

impl Words<'_> {
    fn words(&self) -> impl Iterator<Item = &str> {
        self.variant.split(['_', ' ', ','])
    }

    fn says(&self, what: &str) -> bool {
        self.variant.contains(what)
    }

    /// Element types: of the input, and of the output where it is another.
    fn types(&self) -> (DType, Option<DType>) {
        let named = |name: &str| DType::all().find(|d| d.name() == name);
        if let Some((from, to)) = self.variant.split_once("->") {
            return (named(from).unwrap_or(DType::F16), named(to));
        }
        let indexed = self.op.starts_with("gather") || self.op.starts_with("scatter");
        let target = matches!(self.op, "quantize" | "cast");
        let found = self.words().find_map(named);
        match self.op {
            _ if indexed => (DType::F16, None),
            _ if target => (DType::F16, found),
            "logical_and" | "logical_or" | "logical_xor" | "logical_not" => (DType::Bool, None),
            "dequantize" => (found.unwrap_or(DType::I8), Some(DType::F16)),
            "non_zero" | "shape" | "reduce_argmax" | "reduce_argmin" | "argsort" => {
                (found.unwrap_or(DType::F16), Some(DType::I32))
            }
            _ => (found.unwrap_or(DType::F16), None),
        }
    }

    fn number_after(&self, prefix: &str) -> Option<usize> {
        self.words().find_map(|w| w.strip_prefix(prefix)?.parse().ok())
    }

    fn shape(&self) -> Vec<usize> {
        let matrix = matches!(self.op, "matmul" | "linear" | "lstm" | "gru" | "rnn" | "einsum");
        let mut shape = if matrix { vec![1, 128, 256] } else { vec![1, 64, 32, 32] };
        let conv = self.op.starts_with("conv");
        if conv && self.words().any(|w| w == "1d") {
            shape = vec![1, 64, 256];
        }
        if self.words().any(|w| w == "3d") {
            shape = vec![1, 64, 8, 32, 32];
        }
        if self.op == "scaled_dot_product_attention" {
            shape = vec![1, 8, 128, 64];
        }
        if let Some(rank) = self.number_after("rank") {
            shape = match rank {
                1 => vec![self.words().find_map(|w| w.parse().ok()).unwrap_or(256)],
                rank => [vec![1; rank.saturating_sub(3)], vec![64, 32, 32]].concat(),
            };
            shape.truncate(rank.max(1));
        }
        let rank = shape.len();
        for (name, back) in [("W=", 1), ("K=", 1), ("H=", 2), ("C=", 3), ("N=", 4)] {
            if let (Some(n), Some(axis)) = (self.number_after(name), rank.checked_sub(back)) {
                // A long axis alone: the tensor would not fit memory otherwise.
                shape = vec![1; rank];
                shape[axis] = n;
            }
        }
        shape
    }

    /// `k14`, `k16x1`, `3x3`: height by width.
    fn kernel(&self, rank: usize) -> Vec<usize> {
        let sizes = self.words().find_map(|w| {
            let w = w.strip_prefix('k').unwrap_or(w);
            let sizes: Option<Vec<usize>> = w.split('x').map(|n| n.parse().ok()).collect();
            sizes
        });
        match sizes.as_deref() {
            Some([one]) => vec![*one; rank],
            Some(sizes) if sizes.len() == rank => sizes.to_vec(),
            _ => vec![3; rank],
        }
    }
}
