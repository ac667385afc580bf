//! What `fix` rewrites computes the same, by running both on `cpu:reference`.

use orion_cpu::reference::Reference;
use orion_device::{Os, Route, Target, fix, lint};
use orion_mil::{Weights, text, verify};
use orion_tensor::{Tensor, Tolerance};
use orion_testing::{Random, Tensors, run_once};

fn target(chip: &str) -> Target {
    Target { chip: chip.parse().unwrap(), os: Os::V27, route: Route::Direct }
}

/// Fixes a program and compares, with inputs between 0.5 and 3.5.
fn fixed(source: &str, code: &str, chip: &str, tolerance: Tolerance) {
    let program = text::parse(source).unwrap_or_else(|e| panic!("{e}\n{source}"));
    let target = target(chip);
    assert!(
        lint(&program, None, &target).iter().any(|f| f.rule.code == code),
        "{code} is not broken"
    );
    let fixed = fix(&program, &target);
    assert!(fixed.rewritten.iter().any(|(rule, _)| rule.code == code));
    assert_eq!(verify(&fixed.program), []);
    let left = lint(&fixed.program, None, &target);
    assert!(!left.iter().any(|f| f.rule.code == code), "{}", text::print(&fixed.program));
    // A second time there is nothing to do.
    assert!(fix(&fixed.program, &target).rewritten.is_empty());

    let mut random = Random::new(7);
    let main = program.main().unwrap();
    let mut contents = Tensors::new();
    for param in &main.params {
        let ty = main.ty(param.value).as_tensor().unwrap();
        let values: Vec<f64> =
            (0..ty.element_count().unwrap()).map(|_| random.uniform(0.5, 3.5)).collect();
        let tensor = Tensor::from_f64(ty.dtype, &ty.shape().unwrap(), &values);
        contents.insert(main.value_name(param.value).to_owned(), tensor);
    }
    let run = |p| run_once(&Reference, p, &Weights::new(), &contents).unwrap();
    let (before, after) = (run(&program), run(&fixed.program));
    assert_eq!(before.len(), after.len());
    for (name, tensor) in &before {
        tolerance
            .check(&after[name].to_f64_vec(), &tensor.to_f64_vec())
            .unwrap_or_else(|e| panic!("{code}: {name}: {e}"));
    }
}

fn around(statements: &str) -> String {
    format!(
        "program(1.3)\n[buildInfo = dict<string, string>({{{{\"coremlc-version\", \"1\"}}}})]\n{{\n    \
         func main<ios18>(tensor<fp32, [2, 4, 8, 32]> p, tensor<fp32, [2, 4, 8, 32]> q) {{\n{statements}\n    }} -> (r);\n}}\n"
    )
}

fn one(op: &str, arguments: &str) -> String {
    around(&format!(
        "        tensor<fp32, [2, 4, 8, 32]> r = {op}({arguments})[name = string(\"r\")];"
    ))
}

#[test]
fn missing_arguments() {
    for op in ["rsqrt", "log", "inverse", "gelu"] {
        fixed(&one(op, "x = p"), "ANE002", "m4", Tolerance::Exact);
    }
    let product = "        tensor<fp32, [2, 4, 8, 8]> r = matmul(transpose_y = bool(true), x = p, y = q)[name = string(\"r\")];";
    fixed(&around(product), "ANE002", "m4", Tolerance::Exact);
    let sum = "        fp32 r = reduce_sum(x = p)[name = string(\"r\")];";
    fixed(&around(sum), "ANE002", "m4", Tolerance::Exact);
    let softmax = one("softmax", "x = p");
    fixed(&softmax, "ANE002", "m4", Tolerance::Exact);
}

#[test]
fn parameters_in_place() {
    fixed(&one("softmax", "axis = int32(1), x = p"), "ANE003", "m4", Tolerance::Exact);
}

#[test]
fn operations_that_do_not_exist() {
    for op in ["tan", "sinh", "cosh"] {
        fixed(&one(op, "x = p"), "ANE040", "m4", Tolerance::F32Network);
    }
    fixed(&one("mod", "x = p, y = q"), "ANE040", "m4", Tolerance::F32Network);
}

#[test]
fn bias_of_a_convolution() {
    let ints = |name: &str, n: usize, v: &str| {
        format!(
            "        tensor<int32, [{n}]> {name} = const()[name = string(\"{name}\"), val = tensor<int32, [{n}]>({v})];\n"
        )
    };
    let weight: Vec<String> = (0..12).map(|i| format!("{i}")).collect();
    let statements = ints("ones", 2, "[1, 1]")
        + &ints("zeros", 4, "[0, 0, 0, 0]")
        + "        int32 one = const()[name = string(\"one\"), val = int32(1)];\n        string valid = const()[name = string(\"valid\"), val = string(\"valid\")];\n"
        + &format!(
            "        tensor<fp32, [3, 4, 1, 1]> w = const()[name = string(\"w\"), val = tensor<fp32, [3, 4, 1, 1]>([{}])];\n",
            nested(&weight)
        )
        + "        tensor<fp32, [3]> k = const()[name = string(\"k\"), val = tensor<fp32, [3]>([5, 6, 7])];\n"
        + "        tensor<fp32, [2, 3, 8, 32]> r = conv(bias = k, dilations = ones, groups = one, pad = zeros, pad_type = valid, strides = ones, weight = w, x = p)[name = string(\"r\")];";
    fixed(&around(&statements), "ANE056", "m4", Tolerance::F32Accum);
}

fn nested(numbers: &[String]) -> String {
    let rows: Vec<String> = numbers
        .chunks(4)
        .map(|row| {
            let cells: Vec<String> = row.iter().map(|n| format!("[[{n}]]")).collect();
            format!("[{}]", cells.join(", "))
        })
        .collect();
    rows.join(", ")
}

#[test]
fn square_before_an_activation() {
    let source = "        tensor<fp32, [2, 4, 8, 96]> c = concat(axis = a1, interleave = no, values = (p, q, p))[name = string(\"c\")];\n        \
        tensor<fp32, [2, 4, 8, 96]> s = square(x = c)[name = string(\"s\")];\n        tensor<fp32, [2, 4, 8, 96]> r = relu(x = s)[name = string(\"r\")];";
    let constants = "        int32 a1 = const()[name = string(\"a1\"), val = int32(3)];\n        bool no = const()[name = string(\"no\"), val = bool(false)];\n";
    fixed(&around(&(constants.to_owned() + source)), "ANE057", "m4", Tolerance::Exact);
}

#[test]
fn names() {
    let source = "        tensor<fp32, [2, 4, 8, 32]> mean = add(x = p, y = q)[name = string(\"mean\")];\n        \
        tensor<fp32, [2, 4, 8, 32]> r = relu(x = mean)[name = string(\"r\")];";
    fixed(&around(source), "ANE007", "m1", Tolerance::Exact);
    let bare = one("relu", "x = p")
        .replace("[buildInfo = dict<string, string>({{\"coremlc-version\", \"1\"}})]\n", "");
    fixed(&bare, "ANE006", "m4", Tolerance::Exact);
}
