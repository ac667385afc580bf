//! Programs whose meaning depends on what they compute, and programs made for given sizes.

use orion_mil::text::parse;
use orion_mil::typed::is_static;
use orion_mil::{
    Allowed, Function, Interpreter, Type, Weights, classes, flexible_inputs, runnable, specialize,
    verify,
};
use orion_tensor::{DType, Tensor};
use std::collections::BTreeMap;

fn function(text: &str) -> Function {
    let text = format!("program(1.3)\n[]\n{{\n{text}\n}}\n");
    let program = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let problems = verify(&program);
    assert!(problems.is_empty(), "{problems:?}");
    runnable(program.main().unwrap())
}

fn run(function: &Function, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let mut interpreter = Interpreter::new(function, &Weights::new()).unwrap();
    let mut run = || interpreter.run(inputs.to_vec(), &mut |_, _| {}).map_err(|e| e.to_string());
    let first = run()?.results;
    // A second run remembers nothing of the first.
    assert_eq!(first, run()?.results);
    Ok(first)
}

fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_slice(shape, values)
}

fn ints(shape: &[usize], values: &[i32]) -> Tensor {
    Tensor::from_slice(shape, values)
}

const BRANCH: &str = "func main<ios18>(tensor<fp32, [2]> x, bool up) {
        tensor<fp32, [2]> y = cond(pred = up)
            () { tensor<fp32, [2]> a = add(x = x, y = fp32(1)); } -> (a)
            () { tensor<fp32, [2]> b = sub(x = x, y = fp32(1)); } -> (b);
        tensor<fp32, [2]> z = mul(x = y, y = y);
    } -> (z);";

#[test]
fn a_branch_is_the_block_that_its_condition_chooses() {
    let function = function(BRANCH);
    assert!(!is_static(&function));
    let x = floats(&[2], &[2.0, 5.0]);
    let bool = |b: bool| Tensor::from_f64(DType::Bool, &[], &[f64::from(u8::from(b))]);
    assert_eq!(run(&function, &[x.clone(), bool(true)]).unwrap(), [floats(&[2], &[9.0, 36.0])]);
    assert_eq!(run(&function, &[x, bool(false)]).unwrap(), [floats(&[2], &[1.0, 16.0])]);
}

#[test]
fn a_branch_on_a_constant_is_decided_for_every_device() {
    let function = function(&BRANCH.replace(", bool up", "").replace("up", "bool(false)"));
    let decided = specialize(&function, &BTreeMap::new()).unwrap();
    assert!(is_static(&decided) && decided.body.operations.iter().all(|o| o.blocks.is_empty()));
    let x = floats(&[2], &[2.0, 5.0]);
    assert_eq!(run(&decided, &[x]).unwrap(), [floats(&[2], &[1.0, 16.0])]);
}

#[test]
fn a_loop_goes_on_while_its_condition_holds() {
    // Fibonacci numbers: each round swaps, so results are read before any is replaced.
    let function = function(
        "func main<ios18>(int32 limit) {
            int32 a, int32 b = while_loop(loop_vars = (int32(0), int32(1)))
                (int32 p, int32 q) { bool more = less(x = p, y = limit); } -> (more)
                (int32 r, int32 s) { int32 sum = add(x = r, y = s); } -> (s, sum);
        } -> (a, b);",
    );
    let of = |limit| run(&function, &[ints(&[], &[limit])]).unwrap();
    assert_eq!(of(20), [ints(&[], &[21]), ints(&[], &[34])]);
    assert_eq!(of(0), [ints(&[], &[0]), ints(&[], &[1])]);
}

#[test]
fn lists_grow_and_are_gathered() {
    let list = "func main<ios18>(tensor<fp32, [3, 2]> x, int32 at) {
            list<tensor<fp32, [2]>, ?> empty = make_list(init_length = int32(1), dynamic_length = bool(true), elem_shape = (int32(2)), dtype = string(\"fp32\"));
            list<tensor<fp32, [2]>, ?> filled = list_scatter(ls = empty, indices = tensor<int32, [3]>([2, 0, 1]), value = x);
            tensor<fp32, [2]> one = list_read(ls = filled, index = at);
            list<tensor<fp32, [2]>, ?> more = list_write(ls = filled, index = int32(4), value = one);
            int32 length = list_length(ls = more);
            tensor<fp32, [2, 2]> some = list_gather(ls = more, indices = tensor<int32, [2]>([4, 2]));
        } -> (length, some);";
    let function = function(list);
    let x = floats(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let results = run(&function, &[x.clone(), ints(&[], &[0])]).unwrap();
    assert_eq!(results, [ints(&[], &[5]), floats(&[2, 2], &[3.0, 4.0, 1.0, 2.0])]);
    let outside = run(&function, &[x.clone(), ints(&[], &[7])]).unwrap_err();
    assert!(outside.contains("list_read -> one") && outside.contains("outside a list of 3"));
    let unwritten = list.replace("int32(4), value", "int32(5), value");
    let error = run(&self::function(&unwritten), &[x, ints(&[], &[0])]).unwrap_err();
    assert!(error.contains("element 4 of the list was never written"), "{error}");
}

#[test]
fn sizes_may_depend_on_numbers() {
    let function = function(
        "func main<ios18>(tensor<fp32, [2, 3]> x) {
            tensor<int32, [?, 2]> places = non_zero(x = x);
            tensor<fp32, [?]> found = gather_nd(x = x, indices = places, batch_dims = int32(0), validate_indices = bool(false));
            fp32 sum = reduce_sum(x = found, keep_dims = bool(false));
            tensor<int32, [2]> size = shape(x = places);
        } -> (sum, size);",
    );
    let x = floats(&[2, 3], &[0.0, 2.0, 0.0, -1.0, 0.0, 4.0]);
    assert_eq!(run(&function, &[x]).unwrap(), [floats(&[], &[5.0]), ints(&[2], &[3, 2])]);
}

#[test]
fn states_are_read_and_written_in_a_loop() {
    let function = function(
        "func main<ios18>(state<tensor<fp16, [2]>> sum, tensor<fp16, [2]> x) {
            int32 end = while_loop(loop_vars = (int32(0)))
                (int32 i) { bool more = less(x = i, y = int32(3)); } -> (more)
                (int32 j) {
                    tensor<fp16, [2]> old = read_state(input = sum);
                    tensor<fp16, [2]> new = add(x = old, y = x);
                    write_state(input = sum, data = new);
                    int32 next = add(x = j, y = int32(1));
                } -> (next);
        } -> (end);",
    );
    let half = |v: &[f64]| Tensor::from_f64(DType::F16, &[2], v);
    let mut interpreter = Interpreter::new(&function, &Weights::new()).unwrap();
    let inputs = vec![half(&[1.0, 0.0]), half(&[2.0, 0.5])];
    let outcome = interpreter.run(inputs, &mut |_, _| {}).unwrap();
    assert_eq!(outcome.results, [ints(&[], &[3])]);
    assert_eq!(outcome.states[0].1, half(&[7.0, 1.5]));
}

const OPEN: &str = "func main<ios17>(tensor<fp32, [1, ?]> x) {
        tensor<int32, [2]> size = shape(x = x);
        tensor<int32, [1]> count = slice_by_index(x = size, begin = tensor<int32, [1]>([1]), end = tensor<int32, [1]>([2]));
        tensor<int32, [2]> wanted = concat(values = (count, tensor<int32, [1]>([1])), axis = int32(0), interleave = bool(false));
        tensor<fp32, [?, 1]> y = reshape(x = x, shape = wanted);
    } -> (y);";

#[test]
fn open_sizes_are_chosen_before_a_program_runs() {
    let function = function(OPEN);
    assert!(!is_static(&function));
    let sized = specialize(&function, &BTreeMap::from([("x".to_owned(), vec![1, 3])])).unwrap();
    assert!(is_static(&sized));
    assert_eq!(sized.ty(sized.body.results[0]), &Type::tensor(DType::F32, &[3, 1]));
    let x = floats(&[1, 3], &[1.0, 2.0, 3.0]);
    assert_eq!(run(&sized, &[x]).unwrap(), [floats(&[3, 1], &[1.0, 2.0, 3.0])]);
    for (name, shape, part) in
        [("x", vec![2, 3], "cannot have the shape"), ("z", vec![1, 3], "no parameter `z`")]
    {
        let error = specialize(&function, &BTreeMap::from([(name.to_owned(), shape)])).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn sizes_that_change_in_a_loop_stay_open() {
    let function = function(
        "func main<ios18>(tensor<fp32, [1, 1]> x, int32 rounds) {
            int32 end, tensor<fp32, [?, 1]> all = while_loop(loop_vars = (int32(0), x))
                (int32 i, tensor<fp32, [?, 1]> p) { bool more = less(x = i, y = rounds); } -> (more)
                (int32 j, tensor<fp32, [?, 1]> q) {
                    tensor<fp32, [?, 1]> twice = concat(values = (q, q), axis = int32(0), interleave = bool(false));
                    tensor<int32, [2]> size = shape(x = q);
                    int32 next = add(x = j, y = int32(1));
                } -> (next, twice);
            fp32 sum = reduce_sum(x = all, keep_dims = bool(false));
        } -> (sum);",
    );
    let sized = specialize(&function, &BTreeMap::new()).unwrap();
    for function in [&function, &sized] {
        let x = floats(&[1, 1], &[1.5]);
        assert_eq!(run(function, &[x, ints(&[], &[3])]).unwrap(), [floats(&[], &[12.0])]);
    }
}

#[test]
fn a_classifier_gives_numbers() {
    let text = "program(1.3)\n[]\n{\nfunc main<ios18>(tensor<fp32, [1, 3]> p) {
            string label, dict<string, fp64> all = classify(probabilities = p, classes = list<string, 3>([\"cat\", \"a \\\"dog\\\"\", \"cow\"]));
        } -> (label, all);\n}\n";
    let program = parse(text).unwrap();
    let main = program.main().unwrap();
    let known = classes(main).unwrap();
    assert_eq!((known.label.as_str(), known.probabilities.as_str()), ("label", "all"));
    assert_eq!(known.names, ["cat", "a \"dog\"", "cow"]);
    let results = run(&runnable(main), &[floats(&[1, 3], &[0.2, 0.5, 0.3])]).unwrap();
    assert_eq!(results, [ints(&[], &[1]), floats(&[3], &[0.2, 0.5, 0.3])]);
}

/// Mean and variance of many draws are within four standard errors of what they should be, and
/// classes come as often as their probabilities say.
#[test]
fn random_numbers_have_their_distribution() {
    let text = |op: &str| {
        format!(
            "func main<ios18>(tensor<fp32, [1, 3]> p) {{
                tensor<fp32, [20000]> y = {op};
            }} -> (y);"
        )
    };
    let drawn = |op: &str| {
        let p = floats(&[1, 3], &[0.2, 0.5, 0.3]);
        run(&function(&text(op)), &[p]).unwrap()[0].to_f64_vec()
    };
    let shape = "shape = tensor<int32, [1]>([20000])";
    let moments = |values: &[f64]| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n)
    };
    for (op, mean, variance) in [
        (
            format!("random_uniform({shape}, low = fp32(-1), high = fp32(3), seed = int32(7))"),
            1.0,
            16.0 / 12.0,
        ),
        (
            format!("random_normal({shape}, mean = fp32(2), stddev = fp32(0.5), seed = int32(7))"),
            2.0,
            0.25,
        ),
        (format!("random_bernoulli({shape}, prob = fp32(0.25), seed = int32(7))"), 0.25, 0.1875),
    ] {
        let values = drawn(&op);
        let (m, v) = moments(&values);
        let error = (variance / values.len() as f64).sqrt();
        assert!((m - mean).abs() < 4.0 * error, "{op}: mean {m}");
        assert!((v / variance - 1.0).abs() < 0.05, "{op}: variance {v}");
        let other = drawn(&op.replace("int32(7)", "int32(8)"));
        assert_ne!(values, other, "another seed gives other numbers");
    }
    let categorical = text(
        "random_categorical(x = p, mode = string(\"probs\"), size = int32(20000), seed = int32(1))",
    )
    .replace("[20000]> y", "[1, 20000]> y");
    let p = floats(&[1, 3], &[0.2, 0.5, 0.3]);
    let places = run(&function(&categorical), &[p]).unwrap()[0].to_f64_vec();
    for (class, wanted) in [0.2, 0.5, 0.3].into_iter().enumerate() {
        let share = places.iter().filter(|&&v| v == class as f64).count() as f64 / 20000.0;
        assert!((share - wanted).abs() < 4.0 * (wanted * (1.0 - wanted) / 20000.0f64).sqrt());
    }
}

#[test]
fn sizes_that_an_input_may_have_are_read_from_text() {
    let ranged = "[FlexibleShapeInformation = tuple<tuple<string, dict<string, tensor<int32, [?]>>>, tuple<string, dict<string, list<tensor<int32, [2]>, ?>>>>(((\"DefaultShapes\", {{\"x\", [1, 4]}}), (\"RangeDims\", {{\"x\", [[1, 1], [2, -1]]}})))]";
    let function = function(&OPEN.replacen(") {", &format!(") {ranged} {{"), 1));
    let inputs = flexible_inputs(&function);
    assert_eq!(inputs["x"].default, [1, 4]);
    assert_eq!(inputs["x"].allowed, Allowed::Ranges(vec![(1, Some(1)), (2, None)]));
    assert_eq!(inputs["x"].to_string(), "[1, 2 or more]");
    assert!(inputs["x"].allows(&[1, 2]) && inputs["x"].allows(&[1, 900]));
    assert!(!inputs["x"].allows(&[1, 1]) && !inputs["x"].allows(&[2, 4]));
}
