//! What `verify` reports, every fault at once, and that no program makes it panic.

use crate::support::{Fixture, program};
use orion_mil::{
    Argument, Binding, Block, Function, Operation, Param, Program, TensorType, Type, Value,
    Weights, hoist_literals, op_table, typed, verify, verify_weights,
};
use orion_tensor::{DType, Tensor};
use proptest::prelude::*;

#[track_caller]
fn reports(program: &Program, expected: &[&str]) {
    let found: Vec<String> = verify(program).iter().map(|d| d.to_string()).collect();
    assert_eq!(found, expected);
}

const X: &str = "tensor<fp32, [2]> x";

#[test]
fn well_formed_programs_have_no_faults() {
    let mut f = Fixture::new();
    let x = f.f16(&[4, 8]);
    let state = f.builder.state("cache", TensorType::new(DType::F16, &[4, 8]));
    let update = f.f16(&[1, 8]);
    let begin = f.i32(&[2]);
    let held = f.builder.push(&orion_mil::Op::ReadState { state });
    let sum = f.builder.add(held, x);
    let next = f.builder.slice_update(sum, update, begin);
    f.builder.push_all(&orion_mil::Op::WriteState { state, data: next }, 0);
    let mut function = f.builder.finish(&[next]);
    let name = function.value_name(next).to_owned();
    function.set_in_place([(name.as_str(), "input_0")]);
    reports(&Program::with_function(function), &[]);
}

#[test]
fn every_fault_is_reported() {
    let body = "tensor<fp32, [3]> y = exp(x = x);\n\
                tensor<fp32, [2]> z = frobnicate(x = x);\n\
                tensor<fp32, [2]> w = const()[val = tensor<fp32, [2]>([0x1p+0, 0x1p+0])];\n\
                tensor<fp32, [2]> v = add(x = w, y = tensor<fp32, [3]>([0x0p+0, 0x0p+0, 0x0p+0]));";
    reports(
        &program(X, body, "y"),
        &[
            "in main, exp -> y (operation 0): output `y` is declared tensor<fp32, [3]>, it is \
             tensor<fp32, [2]>",
            "in main, frobnicate -> z (operation 1): there is no op `frobnicate`",
            "in main, add -> v (operation 3): x [2] and y [3] do not broadcast",
        ],
    );
}

/// A function with one parameter `x` and operations that the text parser would not let through.
fn by_hand(build: impl FnOnce(&mut Function)) -> Program {
    let mut function = Function::new("main", "ios18");
    let x = function.values.push("x", Type::tensor(DType::F32, &[2]));
    function.params.push(Param { value: x, attributes: Default::default() });
    build(&mut function);
    Program::with_function(function)
}

fn exp(function: &mut Function, x: orion_mil::ValueId, name: &str) -> Operation {
    let y = function.values.push(name, Type::tensor(DType::F32, &[2]));
    let mut operation = Operation::new("exp", vec![y]);
    operation.inputs.insert("x".to_owned(), x.into());
    operation
}

#[test]
fn definitions() {
    let program = by_hand(|f| {
        let x = f.params[0].value;
        let later = exp(f, x, "later");
        let early = exp(f, later.outputs[0], "early");
        let ghost = f.values.push("ghost", Type::tensor(DType::F32, &[2]));
        f.body.operations = vec![early.clone(), later, early];
        f.body.results = vec![ghost];
    });
    reports(
        &program,
        &[
            "in main, exp -> early (operation 0): `later` is used before it is defined",
            "in main, exp -> early (operation 2): `early` is defined a second time",
            "in main, the results: `ghost` is used before it is defined",
        ],
    );
    let program = by_hand(|f| {
        f.name = "0main".to_owned();
        let x = f.params[0].value;
        let operation = exp(f, x, "not a name");
        let again = exp(f, x, "x");
        f.body.results = operation.outputs.clone();
        f.body.operations = vec![operation, again];
    });
    reports(
        &program,
        &[
            "in 0main: the function's name `0main` is not an identifier",
            "in 0main, exp -> not a name (operation 0): the name `not a name` is not an identifier",
            "in 0main, exp -> x (operation 1): the name `x` is already taken",
        ],
    );
    let program = by_hand(|f| {
        let mut other = Function::new("other", "ios18");
        (0..9).for_each(|_| {
            other.values.push("v", Type::scalar(DType::F32));
        });
        let stranger = other.values.iter().last().expect("a value").0;
        let operation = exp(f, stranger, "y");
        f.body.results = vec![stranger];
        f.body.operations = vec![operation];
    });
    reports(
        &program,
        &[
            "in main, exp -> y (operation 0): the value %8 does not exist",
            "in main, the results: the value %8 does not exist",
        ],
    );
    let mut twice = by_hand(|_| {});
    twice.functions.push(twice.functions[0].clone());
    reports(&twice, &["two functions are named `main`"]);
    let huge = by_hand(|f| {
        let ty = Type::tensor(DType::F32, &[1 << 30, 1 << 30, 1 << 30]);
        let value = f.values.push("huge", ty);
        f.params.push(Param { value, attributes: Default::default() });
    });
    reports(
        &huge,
        &[
            "in main, the parameters: `huge` is tensor<fp32, [1073741824, 1073741824, 1073741824]>, \
          which is too large",
        ],
    );
}

#[test]
fn nested_blocks_have_their_own_names() {
    let nested = |outer_uses_inner: bool| {
        by_hand(|f| {
            let x = f.params[0].value;
            let pred = f.values.push("pred", Type::scalar(DType::Bool));
            f.params.push(Param { value: pred, attributes: Default::default() });
            let blocks: Vec<Block> = (0..2)
                .map(|_| {
                    let inner = exp(f, x, "inner");
                    let results = inner.outputs.clone();
                    Block { params: vec![], operations: vec![inner], results }
                })
                .collect();
            let inner = blocks[0].results[0];
            let y = f.values.push("y", Type::tensor(DType::F32, &[2]));
            let mut cond = Operation::new("cond", vec![y]);
            cond.inputs.insert("pred".to_owned(), pred.into());
            cond.blocks = blocks;
            let last = exp(f, if outer_uses_inner { inner } else { y }, "last");
            f.body.results = last.outputs.clone();
            f.body.operations = vec![cond, last];
        })
    };
    reports(&nested(false), &[]);
    reports(
        &nested(true),
        &["in main, exp -> last (operation 3): `inner` is defined in another block"],
    );
}

#[test]
fn constants() {
    let program = by_hand(|f| {
        let y = f.values.push("y", Type::tensor(DType::F32, &[3]));
        let mut constant = Operation::new("const", vec![y]);
        let value = Value { ty: Type::tensor(DType::F32, &[3]), ..Value::ints(&[1, 2]) };
        constant.attributes.insert("val".to_owned(), value);
        let z = f.values.push("z", Type::tensor(DType::F32, &[3]));
        let empty = Operation::new("const", vec![z]);
        f.body.operations = vec![constant, empty];
    });
    reports(
        &program,
        &[
            "in main, const -> y (operation 0): the value holds 2 int32 elements, its type is \
             tensor<fp32, [3]>",
            "in main, const -> z (operation 1): missing attribute `val`",
        ],
    );
}

#[test]
fn states_are_only_read_and_written() {
    let params = "tensor<fp32, [2]> x, state<tensor<fp32, [2]>> cache";
    reports(
        &program(params, "tensor<fp32, [2]> y = add(x = x, y = cache);", "cache"),
        &[
            "in main, add -> y (operation 0): the state `cache` is bound to `y`; only `read_state` \
             and `write_state` can use it",
            "in main, the results: `cache` is a state",
            "in main, add -> y (operation 0): y must be a tensor, it is state<tensor<fp32, [2]>>",
        ],
    );
    let program = program(params, "write_state(data = x, input = cache);", "x");
    reports(&program, &[]);
}

#[test]
fn in_place_pairs() {
    let mut program = program(
        "tensor<fp32, [2]> x, tensor<fp32, [3]> u",
        "tensor<fp32, [2]> y = exp(x = x);",
        "y",
    );
    let function = &mut program.functions[0];
    function.set_in_place([("y", "x")]);
    reports(&program, &[]);
    program.functions[0].set_in_place([("nothing", "x"), ("x", "gone"), ("y", "u"), ("z", "u")]);
    reports(
        &program,
        &[
            "in main, the in-place pairs: `nothing` is not a result",
            "in main, the in-place pairs: `x` is not a result",
            "in main, the in-place pairs: `gone` is not a parameter",
            "in main, the in-place pairs: `y` is tensor<fp32, [2]> and cannot be written over `u`, \
             tensor<fp32, [3]>",
            "in main, the in-place pairs: `z` is not a result",
            "in main, the in-place pairs: two results are written over `u`",
        ],
    );
}

#[test]
fn weights_are_resolved() {
    let mut weights = Weights::new();
    let file = "@model_path/weights/weight.bin";
    let good = weights.append(file, Tensor::zeros(DType::F16, &[2, 3]));
    let mut f = Fixture::new();
    let ty = TensorType::new(DType::F16, &[3, 2]);
    f.builder.blob("good", ty.clone(), file, good);
    f.builder.blob("absent", ty, file, 999);
    f.builder.blob("other", TensorType::new(DType::F32, &[2, 3]), file, good);
    let program = Program::with_function(f.builder.finish(&[]));
    let found: Vec<String> =
        verify_weights(&program, &weights).iter().map(|d| d.to_string()).collect();
    assert_eq!(
        found,
        [
            "in main, const -> absent (operation 1): no blob at offset 999 of \
             @model_path/weights/weight.bin"
                .to_owned(),
            format!(
                "in main, const -> other (operation 2): the blob at offset {good} of \
                 @model_path/weights/weight.bin holds 6 fp16 elements, the program says \
                 tensor<fp32, [2, 3]>"
            ),
        ]
    );
}

/// What an argument holds in a sound program.
#[derive(Debug, Clone, Copy)]
enum Holds {
    Tensor,
    Tensors,
    Int,
    Ints,
    Bool,
    Bools,
    Number,
    Text(&'static [&'static str]),
}

const MODES: &[&str] =
    &["EXACT", "add", "update", "constant", "reflect", "replicate", "TANH_APPROXIMATION", "none"];

/// Argument names of all ops that have a meaning.
const ARGUMENTS: [(&str, Holds); 66] = {
    use Holds::*;
    [
        ("x", Tensor),
        ("y", Tensor),
        ("a", Tensor),
        ("b", Tensor),
        ("cond", Tensor),
        ("values", Tensors),
        ("weight", Tensor),
        ("bias", Tensor),
        ("query", Tensor),
        ("key", Tensor),
        ("value", Tensor),
        ("attn_mask", Tensor),
        ("gamma", Tensor),
        ("beta", Number),
        ("mean", Tensor),
        ("variance", Tensor),
        ("epsilon", Number),
        ("alpha", Number),
        ("mode", Text(MODES)),
        ("dtype", Text(&["fp16", "int32", "bool", "string", "fp8e5m2"])),
        ("axes", Ints),
        ("axis", Int),
        ("keep_dims", Bool),
        ("exclusive", Bool),
        ("reverse", Bool),
        ("transpose_x", Bool),
        ("transpose_y", Bool),
        ("strides", Ints),
        ("pad_type", Text(&["valid", "custom", "same", "same_lower"])),
        ("pad", Ints),
        ("dilations", Ints),
        ("groups", Int),
        ("shape", Ints),
        ("perm", Ints),
        ("interleave", Bool),
        ("num_splits", Int),
        ("split_sizes", Ints),
        ("begin", Ints),
        ("end", Ints),
        ("stride", Ints),
        ("size", Ints),
        ("begin_mask", Bools),
        ("end_mask", Bools),
        ("squeeze_mask", Bools),
        ("update", Tensor),
        ("reps", Ints),
        ("constant_val", Number),
        ("indices", Tensor),
        ("batch_dims", Int),
        ("validate_indices", Bool),
        ("data", Tensor),
        ("updates", Tensor),
        ("ref_tensor", Tensor),
        ("start", Number),
        ("step", Number),
        ("lower", Int),
        ("upper", Int),
        ("one_hot_vector_size", Int),
        ("on_value", Number),
        ("off_value", Number),
        ("k", Int),
        ("ascending", Bool),
        ("sort", Bool),
        ("return_indices", Bool),
        ("output_dtype", Text(&["int32", "uint16"])),
        ("input", Tensor),
    ]
};

const OPERANDS: usize = 4;

fn any_type() -> impl Strategy<Value = Type> {
    let any_dtype = (0..DType::all().count()).prop_map(|i| DType::all().nth(i).expect("a dtype"));
    let dtype = prop_oneof![8 => Just(DType::F32), 1 => Just(DType::I32), 1 => any_dtype];
    let size = prop_oneof![
        20 => 1usize..4,
        1 => Just(0usize),
        1 => Just(1usize << 31),
        1 => Just(usize::MAX)
    ];
    (dtype, prop::collection::vec(size, 0..5), 0..16u8).prop_map(|(dtype, sizes, form)| {
        let mut ty = TensorType::new(dtype, &sizes);
        if let (1, Some(last)) = (form, ty.dims.last_mut()) {
            *last = orion_mil::Dim::Unknown;
        }
        if form == 2 { Type::State(ty) } else { Type::Tensor(ty) }
    })
}

fn any_int() -> impl Strategy<Value = i32> {
    prop_oneof![10 => 0i32..4, 4 => -3i32..0, 1 => Just(i32::MIN), 1 => Just(i32::MAX)]
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any_int().prop_map(Value::int),
        any::<bool>().prop_map(Value::bool),
        Just(Value::scalar(DType::F16, 0.5)),
        Just(Value::scalar(DType::I64, -9e18)),
        Just(Value::string("string")),
        any_type().prop_map(|ty| Value { ty, ..Value::int(1) }),
        Just(Value::blob(TensorType::new(DType::F32, &[2]), "weights", 64)),
    ]
}

fn any_argument(holds: Holds) -> BoxedStrategy<Option<Argument>> {
    // Ids of the operands below; they are dense from 0.
    let ids = || {
        let mut values = orion_mil::Values::default();
        (0..OPERANDS).for_each(|_| {
            values.push("", Type::scalar(DType::F32));
        });
        values.iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    let operand = move || prop::sample::select(ids()).prop_map(Argument::from);
    let sound = match holds {
        Holds::Tensor => operand().boxed(),
        Holds::Tensors => prop::collection::vec(prop::sample::select(ids()), 0..4)
            .prop_map(|v| Argument::Many(v.into_iter().map(Binding::Value).collect()))
            .boxed(),
        Holds::Int => any_int().prop_map(|v| Value::int(v).into()).boxed(),
        Holds::Ints => {
            prop::collection::vec(any_int(), 0..5).prop_map(|v| Value::ints(&v).into()).boxed()
        }
        Holds::Bool => any::<bool>().prop_map(|v| Value::bool(v).into()).boxed(),
        Holds::Bools => {
            prop::collection::vec(any::<bool>(), 0..5).prop_map(|v| Value::bools(&v).into()).boxed()
        }
        Holds::Number => {
            any::<f32>().prop_map(|v| Value::scalar(DType::F32, f64::from(v)).into()).boxed()
        }
        Holds::Text(choices) => {
            prop::sample::select(choices.to_vec()).prop_map(|v| Value::string(v).into()).boxed()
        }
    };
    prop_oneof![
        40 => sound.prop_map(Some),
        1 => operand().prop_map(Some),
        1 => any_value().prop_map(|v| Some(v.into())),
        4 => Just(None),
    ]
    .boxed()
}

/// Ops whose reading does arithmetic on what the program says.
const INTRICATE: [&str; 20] = [
    "conv",
    "slice_by_index",
    "slice_by_size",
    "slice_update",
    "reshape",
    "expand_dims",
    "squeeze",
    "split",
    "concat",
    "stack",
    "pad",
    "tile",
    "gather",
    "gather_along_axis",
    "scatter",
    "matmul",
    "linear",
    "range_1d",
    "fill",
    "one_hot",
];

/// Ops that have a meaning.
fn meaningful() -> Vec<&'static str> {
    let has_meaning = |name: &&str| {
        let mut function = Function::new("main", "ios18");
        function.body.operations.push(Operation::new(*name, vec![]));
        typed::analyze(&function)
            .is_err_and(|e| !e[0].message.ends_with("cannot be executed here yet"))
    };
    op_table::names().iter().copied().filter(has_meaning).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn nothing_makes_verify_panic(
        name in prop_oneof![prop::sample::select(meaningful()), prop::sample::select(INTRICATE.to_vec())],
        params in prop::collection::vec(any_type(), OPERANDS),
        outputs in prop::collection::vec(any_type(), 0..3),
        arguments in ARGUMENTS.map(|(_, holds)| any_argument(holds)).to_vec(),
    ) {
        let mut function = Function::new("main", "ios18");
        for (i, ty) in params.into_iter().enumerate() {
            let value = function.values.push(format!("p{i}"), ty);
            function.params.push(Param { value, attributes: Default::default() });
        }
        let outputs = outputs.into_iter().enumerate();
        let outputs = outputs.map(|(i, ty)| function.values.push(format!("r{i}"), ty)).collect();
        let mut operation = Operation::new(name, outputs);
        for ((argument, _), bound) in ARGUMENTS.iter().zip(arguments) {
            operation.inputs.extend(bound.map(|bound| ((*argument).to_owned(), bound)));
        }
        function.body.operations = vec![operation];
        // Arguments the op does not know go one by one, so that its own checks are reached.
        loop {
            let Err(diagnostics) = typed::analyze(&hoist_literals(&function)) else { break };
            let message = &diagnostics.last().expect("a diagnostic").message;
            let unknown = message.strip_prefix("unknown argument `");
            let Some(unknown) = unknown.and_then(|m| m.split('`').next()) else { break };
            function.body.operations[0].inputs.remove(unknown);
        }
        verify(&Program::with_function(function));
    }

    /// The elements `slice_by_index` takes are those a plain walk over Python's rule takes.
    #[test]
    fn slices_take_what_python_takes(
        length in 1usize..7,
        begin in -9i32..9,
        end in -9i32..9,
        step in prop_oneof![-3i32..0, 1i32..4],
        begin_mask: bool,
        end_mask: bool,
    ) {
        let n = length as i32;
        let wrap = |i: i32| if i < 0 { i + n } else { i };
        let (first, stop) = (
            if begin_mask { if step > 0 { 0 } else { n - 1 } } else { wrap(begin) },
            if end_mask { if step > 0 { n } else { -1 } } else { wrap(end).max(-1) },
        );
        // Positions before or after the tensor move to its edge before the walk begins.
        let mut at = if step > 0 { first.max(0) } else { first.min(n - 1) };
        let mut taken = Vec::new();
        while if step > 0 { at < stop.min(n) } else { at > stop && at >= 0 } {
            taken.push(at);
            at += step;
        }

        let mut f = Fixture::new();
        let x = f.f32(&[length]);
        let mut function = f.builder.finish(&[]);
        let y = function.values.push("y", Type::tensor(DType::F32, &[taken.len()]));
        let mut operation = Operation::new("slice_by_index", vec![y]);
        let arguments = [
            ("begin", Value::ints(&[begin])),
            ("end", Value::ints(&[end])),
            ("stride", Value::ints(&[step])),
            ("begin_mask", Value::bools(&[begin_mask])),
            ("end_mask", Value::bools(&[end_mask])),
        ];
        operation.inputs =
            arguments.into_iter().map(|(n, v)| (n.to_owned(), v.into())).collect();
        operation.inputs.insert("x".to_owned(), x.into());
        function.body.operations.push(operation);
        let function = hoist_literals(&function);
        match typed::analyze(&function) {
            Err(e) => prop_assert!(taken.is_empty(), "{e:?} for {taken:?}"),
            Ok(ops) => {
                let Some(orion_mil::Op::Slice { begin, size, stride, .. }) = ops.last() else {
                    panic!("not a slice: {ops:?}")
                };
                let places = (0..size[0] as i32).map(|i| begin[0] as i32 + i * stride[0] as i32);
                prop_assert_eq!(places.collect::<Vec<_>>(), taken);
            }
        }
    }
}
