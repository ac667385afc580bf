//! Each pass by what it does and what it leaves, and all of them on random programs.

use crate::interpreter::{assert_same, run};
use crate::random::Random;
use orion_compile::CompileErrorKind;
use orion_compile::passes::{
    casts, common_subexpressions, constant_folding, dead_code, identities, literals, reshapes,
    scales, transposes,
};
use orion_compile::pipeline::{PASSES, PipelineOptions, optimize};
use orion_mil::op::{Binary, Reduction, Unary};
use orion_mil::{
    Argument, Builder, Function, Op, Program, TensorType, Value, ValueId, WEIGHT_FILE,
    verify_function,
};
use orion_tensor::{DType, Tensor, element_count};
use std::collections::BTreeMap;

/// Names of the operations that are not constants.
fn names(function: &Function) -> Vec<&str> {
    let operations = function.body.operations.iter().map(|o| o.name.as_str());
    operations.filter(|name| *name != "const").collect()
}

/// A function of an input `x` and a result `y`.
fn function_of(
    dtype: DType,
    shape: &[usize],
    build: impl FnOnce(&mut Builder, ValueId) -> ValueId,
) -> Function {
    let mut b = Builder::new("main");
    let x = b.input("x", TensorType::new(dtype, shape));
    let y = build(&mut b, x);
    b.rename(y, "y");
    b.finish(&[y])
}

/// Runs a pass and removes what it left unread; checks that the results stay.
fn after(pass: fn(&mut Function) -> bool, function: &Function) -> Function {
    let mut changed = function.clone();
    let says_changed = pass(&mut changed);
    assert_eq!(says_changed, changed != *function, "what the pass says of itself");
    assert!(verify_function(&changed).is_empty(), "{:?}", verify_function(&changed));
    dead_code::run(&mut changed);
    let inputs = random_inputs(function, &mut Random::new(5));
    assert_same("after the pass", &run(&changed, &inputs), &run(function, &inputs));
    changed
}

fn random_inputs(function: &Function, random: &mut Random) -> BTreeMap<String, Tensor> {
    function
        .params
        .iter()
        .map(|param| {
            let ty = function.ty(param.value).as_tensor().unwrap();
            let shape = ty.shape().unwrap();
            let mut numbers = random.numbers(element_count(&shape), -3.0, 3.0);
            // Zeros of both signs, where they matter.
            numbers.iter_mut().step_by(5).for_each(|v| *v *= 0.0);
            let tensor = Tensor::from_f64(ty.dtype, &shape, &numbers);
            (function.value_name(param.value).to_owned(), tensor)
        })
        .collect()
}

#[test]
fn identities_go() {
    let f = function_of(DType::F16, &[2, 3], |b, x| {
        let x = b.push(&Op::Cast { x, dtype: DType::F16 });
        let x = b.push(&Op::Reshape { x, shape: vec![2, 3] });
        let x = b.push(&Op::Transpose { x, perm: vec![0, 1] });
        let x = b.slice(x, &[0, 0], &[2, 3]);
        let x = b.pad_zero(x, &[(0, 0), (0, 0)]);
        let x = b.tile(x, &[1, 1]);
        let x = b.concat(&[x], 0);
        let x = b.scale(x, 1.0);
        let one = b.fill(DType::F16, &[1, 3], 1.0);
        let x = b.div(x, one);
        let zero = b.number(x, 0.0);
        let x = b.sub(x, zero);
        let x = b.split(x, 0, &[2])[0];
        let x = b.push(&Op::Identity { x });
        b.unary(Unary::Exp, x)
    });
    assert_eq!(names(&after(identities::run, &f)), ["exp"]);
}

#[test]
fn near_identities_stay() {
    for build in [
        // -0 + 0 is 0.
        |b: &mut Builder, x: ValueId| b.offset(x, 0.0),
        |b: &mut Builder, x: ValueId| {
            let minus_zero = b.number(x, -0.0);
            b.sub(x, minus_zero)
        },
        |b: &mut Builder, x: ValueId| {
            let ones = b.fill(DType::F32, &[2, 1, 1], 1.0);
            b.mul(x, ones)
        },
        |b: &mut Builder, x: ValueId| {
            let (begin, size, stride) = (vec![0, 2], vec![2, 3], vec![1, -1]);
            b.push(&Op::Slice { x, begin, size, stride, squeeze: vec![false; 2] })
        },
        |b: &mut Builder, x: ValueId| {
            let reversed = b.scale(x, 2.0);
            b.concat(&[x, reversed], 0)
        },
    ] {
        let f = function_of(DType::F32, &[2, 3], |b, x| {
            let y = build(b, x);
            b.unary(Unary::Exp, y)
        });
        assert_eq!(names(&after(identities::run, &f)), names(&f));
    }
}

#[test]
fn results_keep_their_names() {
    // The identity is a result: what it reads takes its name.
    let f = function_of(DType::F32, &[2], |b, x| {
        let x = b.unary(Unary::Exp, x);
        b.push(&Op::Identity { x })
    });
    let changed = after(identities::run, &f);
    assert_eq!(names(&changed), ["exp"]);
    assert_eq!(changed.value_name(changed.body.results[0]), "y");
    let exp = changed.body.operations.iter().find(|o| o.name == "exp").unwrap();
    assert_eq!(exp.attributes["name"], Value::string("y"));

    // An input has its own name, and two results need two values.
    let f = function_of(DType::F32, &[2], |b, x| b.push(&Op::Identity { x }));
    assert_eq!(names(&after(identities::run, &f)), ["identity"]);
    let mut b = Builder::new("main");
    let x = b.input("x", TensorType::new(DType::F32, &[2]));
    let y = b.unary(Unary::Exp, x);
    let z = b.unary(Unary::Exp, x);
    let w = b.push(&Op::Identity { x: y });
    let f = b.finish(&[y, z, w]);
    assert_eq!(names(&after(identities::run, &f)), ["exp", "exp", "identity"]);
    assert_eq!(names(&after(common_subexpressions::run, &f)), ["exp", "exp", "identity"]);
}

#[test]
fn casts_join_where_nothing_is_lost() {
    use DType::*;
    let through = |from, middle, to| {
        let f = function_of(from, &[6], |b, x| {
            let x = b.push(&Op::Cast { x, dtype: middle });
            let x = b.push(&Op::Cast { x, dtype: to });
            b.push(&Op::Identity { x })
        });
        names(&after(casts::run, &f)).len() - 1
    };
    for (from, middle, to) in
        [(F16, F32, F16), (BF16, F32, BF16), (F32, F64, F32), (I32, F64, I32), (I8, I32, I8)]
    {
        assert_eq!(through(from, middle, to), 0, "{from} {middle} {to}");
    }
    for (from, middle, to) in [(F16, F32, I32), (I16, F32, F16), (U8, I16, F32), (F16, F64, F32)] {
        assert_eq!(through(from, middle, to), 1, "{from} {middle} {to}");
    }
    for (from, middle, to) in
        [(F32, F16, F32), (F16, BF16, F16), (I32, F32, I32), (I32, F64, I8), (I8, U8, I16)]
    {
        assert_eq!(through(from, middle, to), 2, "{from} {middle} {to}");
    }
}

#[test]
fn transposes_and_reshapes_join() {
    let f = function_of(DType::F32, &[2, 3, 4], |b, x| {
        let x = b.transpose(x, &[2, 0, 1]);
        let x = b.transpose(x, &[0, 2, 1]);
        b.unary(Unary::Exp, x)
    });
    assert_eq!(names(&after(transposes::run, &f)), ["transpose", "exp"]);
    let f = function_of(DType::F32, &[2, 3, 4], |b, x| {
        let y = b.transpose(x, &[0, 2, 1]);
        b.matmul(x, y, false, false)
    });
    assert_eq!(names(&after(transposes::run, &f)), ["matmul"]);
    let f = function_of(DType::F32, &[2, 3, 3], |b, x| {
        let y = b.transpose(x, &[0, 2, 1]);
        let z = b.transpose(x, &[1, 0, 2]);
        let z = b.slice(z, &[0, 0, 0], &[2, 2, 3]);
        let z = b.transpose(z, &[0, 2, 1]);
        let a = b.matmul(y, x, true, false);
        b.matmul(a, z, false, false)
    });
    assert_eq!(
        names(&after(transposes::run, &f)),
        ["transpose", "slice_by_size", "matmul", "matmul"]
    );
    let f = function_of(DType::F32, &[2, 1, 4], |b, x| b.transpose(x, &[1, 0, 2]));
    assert_eq!(names(&after(transposes::run, &f)), ["reshape"]);
    let f = function_of(DType::F32, &[2, 3, 4], |b, x| {
        let x = b.reshape(x, &[6, 4]);
        b.reshape(x, &[4, 6])
    });
    assert_eq!(names(&after(reshapes::run, &f)), ["reshape"]);
}

#[test]
fn scales_join_where_it_is_exact() {
    let twice = |a, b_| {
        let f = function_of(DType::F32, &[8], |b, x| {
            let x = b.scale(x, a);
            b.scale(x, b_)
        });
        names(&after(scales::run, &f)).len()
    };
    for (a, b) in [(-1.0, 0.3), (0.3, -1.0), (2.0, -4.0), (1.0, 5.0)] {
        assert_eq!(twice(a, b), 1, "{a} {b}");
    }
    // 1e-40 0.5² in f32 may round twice; 3 · 5 does round twice; 2^100 · 2^100 is not f32.
    for (a, b) in [(0.5, 0.5), (3.0, 5.0), (0.5, 2.0), (2f64.powi(100), 2f64.powi(100))] {
        assert_eq!(twice(a, b), 2, "{a} {b}");
    }
    let f = function_of(DType::F32, &[8], |b, x| {
        let e = b.unary(Unary::Exp, x);
        let negative = b.scale(e, -1.0);
        let difference = b.add(x, negative);
        let difference = b.add(negative, difference);
        b.sub(difference, negative)
    });
    assert_eq!(names(&after(scales::run, &f)), ["exp", "sub", "sub", "add"]);
}

#[test]
fn constants_fold_up_to_a_size() {
    let f = function_of(DType::F32, &[4], |b, x| {
        let c = b.push(&Op::Range { dtype: DType::F32, start: 1.0, step: 0.5, count: 4 });
        let c = b.unary(Unary::Sqrt, c);
        let c = b.reduce(Reduction::Sum, c, &[0], true);
        b.mul(x, c)
    });
    assert_eq!(names(&after(constant_folding::run, &f)), ["mul"]);

    let large = constant_folding::LARGEST_RESULT + 1;
    let f = function_of(DType::F32, &[large], |b, x| {
        let zeros = b.fill(DType::F32, &[large], 0.5);
        let zeros = b.unary(Unary::Exp, zeros);
        b.mul(x, zeros)
    });
    assert_eq!(names(&after(constant_folding::run, &f)), ["fill", "exp", "mul"]);

    // A weight in a file stays there, an error stays for the run, a result is computed.
    let mut b = Builder::new("main");
    let weight = b.blob("w", TensorType::new(DType::F32, &[2]), WEIGHT_FILE, 64);
    let exp = b.unary(Unary::Exp, weight);
    let (one, zero) = (b.ints(&[1]), b.ints(&[0]));
    let broken = b.binary(Binary::FloorDiv, one, zero);
    let broken = b.unary(Unary::Abs, broken);
    let result = b.offset(one, 1.0);
    let mut f = b.finish(&[exp, broken, result]);
    assert!(!constant_folding::run(&mut f));
}

#[test]
fn common_subexpressions_merge() {
    let f = function_of(DType::F32, &[2, 4], |b, x| {
        let e = b.unary(Unary::Exp, x);
        let again = b.unary(Unary::Exp, x);
        let product = b.mul(e, x);
        let product_again = b.mul(x, again);
        let parts = b.split(product, 1, &[2, 2]);
        let parts_again = b.split(product_again, 1, &[2, 2]);
        let c = b.constant(Tensor::from_slice(&[2], &[1.0f32, 2.0]));
        let d = b.constant(Tensor::from_slice(&[2], &[1.0f32, 2.0]));
        let left = b.mul(parts[0], c);
        let right = b.mul(parts_again[0], d);
        let difference = b.sub(left, right);
        // Not the same: the other operand first, and another part.
        let swapped = b.sub(parts[0], parts_again[1]);
        let other = b.sub(parts_again[1], parts[0]);
        let sum = b.mul(difference, swapped);
        b.mul(sum, other)
    });
    let changed = after(common_subexpressions::run, &f);
    assert_eq!(names(&changed), ["exp", "mul", "split", "mul", "sub", "sub", "sub", "mul", "mul"]);
}

#[test]
fn what_is_random_or_stateful_is_not_merged() {
    let mut b = Builder::new("main");
    let state = b.state("memory", TensorType::new(DType::F16, &[2]));
    let first = b.push(&Op::ReadState { state });
    let next = b.unary(Unary::Exp, first);
    b.push_all(&Op::WriteState { state, data: next }, 0);
    let second = b.push(&Op::ReadState { state });
    let sum = b.add(first, second);
    let mut f = b.finish(&[sum]);
    assert!(!common_subexpressions::run(&mut f));
    assert!(!dead_code::run(&mut f), "write_state has no reader and stays");

    let draw = |f: &mut Function, name: &str| {
        let id = f.values.push(name, orion_mil::Type::tensor(DType::F32, &[2]));
        let mut operation = orion_mil::Operation::new("random_uniform", vec![id]);
        operation.inputs.insert("low".into(), Argument::from(Value::scalar(DType::F32, 0.0)));
        f.body.operations.push(operation);
        id
    };
    let mut f = Function::new("main", "ios18");
    let ids = [draw(&mut f, "a"), draw(&mut f, "b")];
    f.body.results = ids.to_vec();
    assert!(!common_subexpressions::run(&mut f));
}

#[test]
fn dead_code_goes() {
    let f = function_of(DType::F32, &[2], |b, x| {
        let dead = b.unary(Unary::Exp, x);
        let _ = b.unary(Unary::Sqrt, dead);
        b.unary(Unary::Square, x)
    });
    let mut changed = f.clone();
    assert!(dead_code::run(&mut changed));
    assert_eq!(names(&changed), ["square"]);
    assert_eq!(changed.params.len(), 1);
    assert!(!dead_code::run(&mut changed));
}

#[test]
fn literals_become_constants() {
    let mut f = function_of(DType::F32, &[2], |b, x| b.scale(x, 3.0));
    let mul = f.body.operations.iter_mut().find(|o| o.name == "mul").unwrap();
    mul.inputs.insert("y".into(), Argument::from(Value::scalar(DType::F32, 3.0)));
    let program = Program::with_function(f.clone());
    assert!(literals::run(&mut f));
    assert!(!literals::run(&mut f));
    let optimized = optimize(&program, &PipelineOptions::default(), &mut |_, _| {}).unwrap();
    assert_eq!(names(&optimized.functions[0]), ["mul"]);
}

/// A program of everything that passes look for, and of what they must leave.
fn random_program(random: &mut Random) -> Function {
    let mut b = Builder::new("main");
    let mut values: Vec<ValueId> = (0..2)
        .map(|i| {
            let dtype = [DType::F32, DType::F16][random.below(2)];
            b.input(&format!("x{i}"), TensorType::new(dtype, &[2, 3, 4]))
        })
        .collect();
    values.push(b.constant(Tensor::from_slice(&[3, 1], &[1.0f32, -2.0, 0.5])));
    for _ in 0..30 {
        let x = values[random.below(values.len())];
        let y = values[random.below(values.len())];
        let shape = b.shape(x);
        let rank = shape.len();
        let axis = random.below(rank.max(1));
        let number = [1.0, -1.0, 2.0, 0.0, 0.3, 0.5, -0.0][random.below(7)];
        let made = match random.below(17) {
            0 => b.scale(x, number),
            1 => b.offset(x, number),
            2 => {
                let number = b.number(x, number);
                b.sub(x, number)
            }
            3 => {
                let dtypes = [DType::F32, DType::F16, DType::F64, DType::BF16];
                b.push(&Op::Cast { x, dtype: dtypes[random.below(4)] })
            }
            4 | 5 if rank > 0 => {
                let mut perm: Vec<usize> = (0..rank).collect();
                perm.swap(axis, random.below(rank));
                b.push(&Op::Transpose { x, perm })
            }
            6 => b.push(&Op::Reshape { x, shape: vec![1, element_count(&shape)] }),
            7 => b.push(&Op::Reshape { x, shape: [&[1], &shape[..]].concat()[..].to_vec() }),
            8 if rank > 0 => {
                let kind = [Reduction::Sum, Reduction::Max, Reduction::Mean][random.below(3)];
                b.reduce(kind, x, &[axis], true)
            }
            9 => b.unary([Unary::Exp, Unary::Abs, Unary::Sigmoid][random.below(3)], x),
            10 => b.push(&Op::Identity { x }),
            11 if rank > 0 => {
                let mut size = shape.clone();
                size[axis] = size[axis].div_ceil(1 + random.below(2));
                b.slice(x, &vec![0; rank], &size)
            }
            12 if rank > 0 => {
                let parts = b.split(x, axis, &[shape[axis]]);
                b.concat(&[parts[0], x], axis)
            }
            13 => {
                let c = b.fill(DType::F32, &[2, 1], number);
                b.unary(Unary::Exp, c)
            }
            14 if rank > 1 => {
                let y = b.transpose(x, &{
                    let mut perm: Vec<usize> = (0..rank).collect();
                    perm.swap(rank - 1, rank - 2);
                    perm
                });
                b.matmul(x, y, false, false)
            }
            _ => {
                let broadcast = orion_tensor::broadcast_shapes(&shape, &b.shape(y));
                let fits = broadcast.is_some_and(|s| element_count(&s) <= 500 && s.len() < 6);
                if !fits || b.dtype(x) != b.dtype(y) {
                    continue;
                }
                let kinds = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Maximum];
                b.binary(kinds[random.below(4)], x, y)
            }
        };
        if b.ty(made).rank() < 6 && element_count(&b.shape(made)) <= 500 {
            values.push(made);
        }
    }
    let mut results: Vec<ValueId> = Vec::new();
    for _ in 0..5 {
        let candidate = values[3 + random.below(values.len() - 3)];
        if !results.contains(&candidate) {
            results.push(candidate);
        }
    }
    for (i, &result) in results.iter().enumerate() {
        b.rename(result, &format!("y{i}"));
    }
    b.finish(&results)
}

#[test]
fn random_programs_keep_their_results() {
    let mut random = Random::new(1);
    let mut fired: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 0..200 {
        let function = random_program(&mut random);
        let inputs = random_inputs(&function, &mut random);
        let expected = run(&function, &inputs);
        let program = Program::with_function(function);
        let mut last = program.clone();
        let options = PipelineOptions { stop_after: None, verify: true };
        let optimized = optimize(&program, &options, &mut |pass, now| {
            if *now != last {
                *fired.entry(pass.to_owned()).or_default() += 1;
                let actual = run(&now.functions[0], &inputs);
                assert_same(&format!("program {seed} after {pass}"), &actual, &expected);
                last = now.clone();
            }
        })
        .unwrap();
        let count = |p: &Program| names(&p.functions[0]).len();
        assert!(count(&optimized) <= count(&program), "program {seed} grew");
        let again = optimize(&optimized, &options, &mut |_, _| {}).unwrap();
        assert_eq!(again, optimized, "program {seed}: not a fixed point");
    }
    let idle: Vec<_> = PASSES.iter().filter(|(name, _)| !fired.contains_key(*name)).collect();
    assert_eq!(idle.len(), 1, "only the pass for literals has nothing to do: {idle:?}");
}

#[test]
fn the_pipeline_stops_and_reports_where_it_is_told() {
    let f = function_of(DType::F32, &[2], |b, x| {
        let x = b.push(&Op::Identity { x });
        b.unary(Unary::Exp, x)
    });
    let program = Program::with_function(f);
    let stop = |n| PipelineOptions { stop_after: Some(n), verify: true };
    let mut seen = Vec::new();
    let stopped = optimize(&program, &stop(0), &mut |p, _| seen.push(p.to_owned())).unwrap();
    assert_eq!(stopped, program);
    let stopped = optimize(&program, &stop(2), &mut |p, _| seen.push(p.to_owned())).unwrap();
    let f = &stopped.functions[0];
    let exp = f.body.operations.iter().find(|o| o.name == "exp").unwrap();
    let reads: Vec<&str> = exp.operands().map(|v| f.value_name(v)).collect();
    assert_eq!(reads, ["x"], "the second pass has run");
    assert_eq!(names(f), ["identity", "exp"], "the last one has not");
    let expected: Vec<&str> = PASSES[..2].iter().map(|p| p.0).collect();
    assert_eq!(seen, expected);

    let mut broken = program.clone();
    let results = broken.functions[0].body.results.clone();
    broken.functions[0].body.results = [results.clone(), results].concat();
    broken.functions[0].body.operations.clear();
    let error = optimize(&broken, &stop(9), &mut |_, _| {}).unwrap_err();
    assert_eq!(error.kind(), CompileErrorKind::InvalidProgram);
    assert_eq!(error.function(), "main");
}
