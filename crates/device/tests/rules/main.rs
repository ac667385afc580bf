//! Every rule that is checked on programs, on a program that breaks it and on one that hardly
//! does not.

use orion_device::{Finding, Os, Route, Target, lint, rules};
use orion_mil::{Weights, text};
use orion_tensor::{Tensor, f16};

/// A program around statements; `x` is the input, `y` the output.
fn program(input: &str, statements: &str, output: &str) -> String {
    format!(
        "program(1.3)\n[buildInfo = dict<string, string>({{{{\"coremlc-version\", \"1\"}}}})]\n{{\n    \
         func main<ios18>({input}) {{\n{statements}\n    }} -> ({output});\n}}\n"
    )
}

/// Operations on `a`, fp16 `[1, 64, 8, 64]`, whose result is `b`.
fn body(statements: &str) -> String {
    program("tensor<fp16, [1, 64, 8, 64]> a", statements, "b")
}

/// One operation of one operand on a tensor of that type.
fn unary(op: &str, ty: &str, arguments: &str) -> String {
    let statement = format!("        {ty} b = {op}({arguments}x = a)[name = string(\"b\")];");
    program(&format!("{ty} a"), &statement, "b")
}

fn constant(name: &str, ty: &str, literal: &str) -> String {
    format!("        {ty} {name} = const()[name = string(\"{name}\"), val = {literal}];\n")
}

fn target(chip: &str, route: Route) -> Target {
    Target { chip: chip.parse().unwrap(), os: Os::V27, route }
}

fn findings(source: &str, weights: Option<&Weights>, target: &Target) -> Vec<Finding> {
    let program = text::parse(source).unwrap_or_else(|e| panic!("{e}\n{source}"));
    lint(&program, weights, target)
}

fn codes(source: &str, target: &Target) -> Vec<&'static str> {
    findings(source, None, target).iter().map(|f| f.rule.code).collect()
}

const F: &str = "tensor<fp16, [1, 64, 8, 64]>";

fn matmul(x: &str, y: &str, out: &str) -> String {
    let flags = constant("no", "bool", "bool(false)");
    let statement = format!(
        "{flags}        {out} b = matmul(transpose_x = no, transpose_y = no, x = p, y = q)[name = string(\"b\")];"
    );
    program(&format!("{x} p, {y} q"), &statement, "b")
}

fn conv(kernel: &str, out: &str, extra: &str) -> String {
    let two =
        |n: &str, v: &str| constant(n, "tensor<int32, [2]>", &format!("tensor<int32, [2]>({v})"));
    let statements = [
        two("ones", "[1, 1]"),
        constant("zeros", "tensor<int32, [4]>", "tensor<int32, [4]>([0, 0, 0, 0])"),
        constant("groups", "int32", "int32(1)"),
        constant("valid", "string", "string(\"valid\")"),
        constant("bias", "tensor<fp16, [2]>", "tensor<fp16, [2]>([0x1p+0, 0x1p+0])"),
        constant(
            "w",
            kernel,
            &format!(
                "{kernel}(BLOBFILE(path = string(\"@model_path/weights/weight.bin\"), offset = uint64(64)))"
            ),
        ),
        format!(
            "        {out} b = conv({extra}dilations = ones, groups = groups, pad = zeros, pad_type = valid, strides = ones, weight = w, x = a)[name = string(\"b\")];"
        ),
    ];
    program("tensor<fp16, [1, 4, 64, 128]> a", &statements.concat(), "b")
}

/// A state that is read, added to and written again.
fn state(opset: &str) -> String {
    let ty = "tensor<fp16, [1, 64]>";
    format!(
        "program(1.3)\n[buildInfo = dict<string, string>({{{{\"coremlc-version\", \"1\"}}}})]\n{{\n    \
         func main<{opset}>({ty} a, state<{ty}> s) {{\n        \
         {ty} old = read_state(input = s)[name = string(\"old\")];\n        \
         {ty} b = add(x = old, y = a)[name = string(\"b\")];\n        \
         write_state(data = b, input = s)[name = string(\"w\")];\n    }} -> (b);\n}}\n"
    )
}

/// A weight that is unpacked from 4 bits with scales of that many blocks, and what reads it.
fn unpacked(blocks: usize, reader: &str) -> String {
    let data = "tensor<int4, [8, 64]>";
    let scale = format!("tensor<fp16, [8, {blocks}]>");
    let blob = |ty: &str, offset: usize| {
        format!(
            "{ty}(BLOBFILE(path = string(\"@model_path/weights/weight.bin\"), offset = uint64({offset})))"
        )
    };
    let statements = constant("data_", data, &blob(data, 64))
        + &constant("scale_", &scale, &blob(&scale, 512))
        + "        tensor<fp16, [8, 64]> w = constexpr_blockwise_shift_scale(data = data_, scale = scale_)[name = string(\"w\")];\n"
        + reader;
    program("tensor<fp16, [1, 64]> a", &statements, "b")
}

const ADD_ROWS: &str = "        tensor<fp16, [8, 64]> b = add(x = w, y = a)[name = string(\"b\")];";
const LINEAR: &str =
    "        tensor<fp16, [1, 8]> b = linear(weight = w, x = a)[name = string(\"b\")];";

/// A row of a table: by constant or by computed indices, along an axis.
fn look_up(constant_indices: bool, axis: usize) -> String {
    let shape = if axis == 0 { "[2, 8]" } else { "[64, 2]" };
    let indices = constant("i", "tensor<int32, [2]>", "tensor<int32, [2]>([0, 1])");
    let (input, indices) = match constant_indices {
        true => ("tensor<fp16, [64, 8]> a".to_owned(), indices),
        false => ("tensor<fp16, [64, 8]> a, tensor<int32, [2]> i".to_owned(), String::new()),
    };
    let statements = indices
        + &constant("axis", "int32", &format!("int32({axis})"))
        + &constant("dims", "int32", "int32(0)")
        + &constant("check", "bool", "bool(false)")
        + &format!(
            "        tensor<fp16, {shape}> b = gather(axis = axis, batch_dims = dims, indices = i, validate_indices = check, x = a)[name = string(\"b\")];"
        );
    program(&input, &statements, "b")
}

/// Products whose result is reshaped and cast, and whether the product is an output too.
fn reshaped_product(beside: bool) -> String {
    let source = matmul("tensor<fp16, [4, 64]>", "tensor<fp16, [64, 32]>", "tensor<fp16, [4, 32]>");
    let rest = constant("shape", "tensor<int32, [2]>", "tensor<int32, [2]>([1, 128])")
        + &constant("to", "string", "string(\"fp32\")")
        + "        tensor<fp16, [1, 128]> r = reshape(shape = shape, x = b)[name = string(\"r\")];\n"
        + "        tensor<fp32, [1, 128]> c = cast(dtype = to, x = r)[name = string(\"c\")];";
    let outputs = if beside { "(b, c)" } else { "(c)" };
    source.replace("\n    } -> (b)", &format!("\n{rest}\n    }} -> {outputs}"))
}

/// A convolution whose weight is an input.
fn computed_conv(images: usize, groups: usize) -> String {
    conv("tensor<fp16, [2, 4, 1, 1]>", "tensor<fp16, [1, 2, 64, 128]>", "")
        .replace(
            "tensor<fp16, [1, 4, 64, 128]> a",
            &format!(
                "tensor<fp16, [{images}, 4, 64, 128]> a, tensor<fp16, [2, {}, 1, 1]> v",
                4 / groups
            ),
        )
        .replace(
            "tensor<fp16, [1, 2, 64, 128]> b",
            &format!("tensor<fp16, [{images}, 2, 64, 128]> b"),
        )
        .replace(
            "int32 groups = const()[name = string(\"groups\"), val = int32(1)]",
            &format!("int32 groups = const()[name = string(\"groups\"), val = int32({groups})]"),
        )
        .replace("weight = w", "weight = v")
}

/// A product with a constant of that many rows and columns as `y`.
fn constant_product(n: usize) -> String {
    let ty = format!("tensor<fp16, [{n}, {n}]>");
    let blob = format!(
        "{ty}(BLOBFILE(path = string(\"@model_path/weights/weight.bin\"), offset = uint64(64)))"
    );
    matmul(&ty, &ty, &ty)
        .replace(&format!("{ty} p, {ty} q"), &format!("{ty} p"))
        .replace("        bool no", &(constant("q", &ty, &blob) + "        bool no"))
}

/// A sum of that many weights, each in a file of its own, or all in one.
fn files(count: usize, apart: bool) -> String {
    let mut statements = String::new();
    let mut last = "a".to_owned();
    for i in 0..count {
        let (file, offset) = if apart { (i, 64) } else { (0, 64 + 192 * i) };
        let ty = "tensor<fp16, [1, 64, 1, 1]>";
        statements += &constant(
            &format!("w{i}"),
            ty,
            &format!(
                "{ty}(BLOBFILE(path = string(\"@model_path/weights/{file}.bin\"), offset = uint64({offset})))"
            ),
        );
        let name = if i + 1 == count { "b".to_owned() } else { format!("t{i}") };
        statements += &format!(
            "        {F} {name} = add(x = {last}, y = w{i})[name = string(\"{name}\")];\n"
        );
        last = name;
    }
    body(&statements)
}

/// A product with a weight of that many rows, each of 65,536 numbers.
fn large_weight(rows: usize) -> String {
    let ty = format!("tensor<fp16, [{rows}, 65536]>");
    let blob = format!(
        "{ty}(BLOBFILE(path = string(\"@model_path/weights/weight.bin\"), offset = uint64(64)))"
    );
    program(
        "tensor<fp16, [1, 65536]> a",
        &(constant("w", &ty, &blob)
            + &format!(
                "        tensor<fp16, [1, {rows}]> b = linear(weight = w, x = a)[name = string(\"b\")];"
            )),
        "b",
    )
}

/// Operations that do not depend on one another.
fn many(count: usize) -> String {
    let one = |i: usize| {
        let name = if i == 0 { "b".to_owned() } else { format!("t{i}") };
        format!("        {F} {name} = relu(x = a)[name = string(\"{name}\")];\n")
    };
    body(&(0..count).map(one).collect::<String>())
}

/// Two operands that are transposed before or in a product.
fn transposed_product(both: bool) -> String {
    let (x, y) = ("tensor<fp16, [64, 32]>", "tensor<fp16, [16, 64]>");
    let turn = |name: &str, from: &str, ty: &str| {
        format!(
            "        {ty} {name} = transpose(perm = perm, x = {from})[name = string(\"{name}\")];\n"
        )
    };
    let flags = constant("no", "bool", "bool(false)")
        + &constant("yes", "bool", "bool(true)")
        + &constant("perm", "tensor<int32, [2]>", "tensor<int32, [2]>([1, 0])");
    let (last, flag) = match both {
        true => (turn("v", "q", "tensor<fp16, [64, 16]>"), "transpose_y = no"),
        false => (String::new(), "transpose_y = yes"),
    };
    let y_name = if both { "v" } else { "q" };
    let statements = flags
        + &turn("u", "p", "tensor<fp16, [32, 64]>")
        + &last
        + &format!(
            "        tensor<fp16, [32, 16]> b = matmul(transpose_x = no, {flag}, x = u, y = {y_name})[name = string(\"b\")];"
        );
    program(&format!("{x} p, {y} q"), &statements, "b")
}

/// `a` divided by a function of `a`.
fn quotient(by: &str) -> String {
    body(&format!(
        "        {F} s = {by}(x = a)[name = string(\"s\")];\n        {F} b = real_div(x = a, y = s)[name = string(\"b\")];"
    ))
}

/// Attention of so many queries and keys.
fn attention(queries: usize, keys: usize) -> String {
    let ty = |n: usize| format!("tensor<fp16, [1, 2, {n}, 32]>");
    program(
        &format!("{} q, {} k, {} v", ty(queries), ty(keys), ty(keys)),
        &format!(
            "        {} b = scaled_dot_product_attention(key = k, query = q, value = v)[name = string(\"b\")];",
            ty(queries)
        ),
        "b",
    )
}

/// `tile` to two copies, or the same by `concat`.
fn copies(by_tile: bool) -> String {
    let out = "tensor<fp16, [1, 128, 8, 64]>";
    let statements = if by_tile {
        constant("reps", "tensor<int32, [4]>", "tensor<int32, [4]>([1, 2, 1, 1])")
            + &format!("        {out} b = tile(reps = reps, x = a)[name = string(\"b\")];")
    } else {
        constant("axis", "int32", "int32(1)")
            + &constant("no", "bool", "bool(false)")
            + &format!(
                "        {out} b = concat(axis = axis, interleave = no, values = (a, a))[name = string(\"b\")];"
            )
    };
    body(&statements)
}

/// The part of a list: an operation that only control flow and lists have.
fn list() -> String {
    program(
        "tensor<fp16, [4]> a",
        &(constant("n", "int32", "int32(2)")
            + &constant("dynamic", "bool", "bool(false)")
            + &constant("shape", "tensor<int32, [1]>", "tensor<int32, [1]>([4])")
            + &constant("kind", "string", "string(\"fp16\")")
            + "        list<tensor<fp16, [4]>, 2> l = make_list(dtype = kind, dynamic_length = dynamic, elem_shape = shape, init_length = n)[name = string(\"l\")];\n"
            + "        tensor<fp16, [4]> b = relu(x = a)[name = string(\"b\")];"),
        "b",
    )
}

fn reduce(n: usize) -> String {
    let statements = constant("axes", "tensor<int32, [1]>", "tensor<int32, [1]>([3])")
        + &constant("keep", "bool", "bool(true)")
        + "        tensor<fp16, [1, 1, 1, 1]> b = reduce_sum(axes = axes, keep_dims = keep, x = a)[name = string(\"b\")];";
    program(&format!("tensor<fp16, [1, 1, 1, {n}]> a"), &statements, "b")
}

/// Code, chip, way, a program that breaks the rule, and one that is close and does not.
fn cases() -> Vec<(&'static str, &'static str, Route, String, String)> {
    use Route::{CoreMl, Direct};
    let eps = constant("eps_", "fp16", "fp16(0x1p-10)");
    let tiny_eps = constant("eps_", "fp16", "fp16(0x1p-20)");
    let rsqrt = "        tensor<fp16, [1, 64, 8, 64]> b = rsqrt(epsilon = eps_, x = a)[name = string(\"b\")];";
    let with_eps = body(&(eps + rsqrt));
    let slice = |begin: usize| {
        let ints = |n: &str, v: &str| {
            constant(n, "tensor<int32, [4]>", &format!("tensor<int32, [4]>({v})"))
        };
        let begin = format!("[0, 0, 0, {begin}]");
        body(
            &(ints("begin", &begin)
                + &ints("size", "[1, 64, 8, 32]")
                + "        tensor<fp16, [1, 64, 8, 32]> b = slice_by_size(begin = begin, size = size, x = a)[name = string(\"b\")];"),
        )
    };
    let concat = |axis: usize, shape: &str| {
        body(
            &(constant("axis", "int32", &format!("int32({axis})"))
                + &constant("no", "bool", "bool(false)")
                + &format!(
                    "        tensor<fp16, {shape}> b = concat(axis = axis, interleave = no, values = (a, a))[name = string(\"b\")];"
                )),
        )
    };
    let plain = || unary("relu", F, "");
    let zero = |v: &str| {
        let sum = reduce(64);
        let sum = sum
            .replace(" b = reduce_sum", " s = reduce_sum")
            .replace("string(\"b\")", "string(\"s\")");
        sum.replace("];\n    } ->", &format!("];\n{}        tensor<fp16, [1, 1, 1, 1]> b = mul(x = s, y = z)[name = string(\"b\")];\n    }} ->", constant("z", "fp16", v)))
    };
    let mask = |v: &str| {
        body(
            &(constant("m", "fp32", v)
                + &constant("h", "string", "string(\"fp32\")")
                + "        tensor<fp32, [1, 64, 8, 64]> w = cast(dtype = h, x = a)[name = string(\"w\")];\n"
                + "        tensor<fp32, [1, 64, 8, 64]> b = add(x = w, y = m)[name = string(\"b\")];"),
        )
    };
    let two_ports = |p: &str, q: &str| {
        program(
            &format!("{F} {p}, {F} {q}"),
            &format!("        {F} b = add(x = {p}, y = {q})[name = string(\"b\")];"),
            "b",
        )
    };
    let softmax = |n: usize| {
        let ty = format!("tensor<fp16, [1, 1, 64, {n}]>");
        program(
            &format!("{ty} a"),
            &(constant("axis", "int32", "int32(-1)")
                + &format!("        {ty} b = softmax(axis = axis, x = a)[name = string(\"b\")];")),
            "b",
        )
    };
    let clipped = |bound: &str| {
        let s = matmul(
            "tensor<fp16, [64, 1024]>",
            "tensor<fp16, [1024, 64]>",
            "tensor<fp16, [64, 64]>",
        );
        let clip = constant("lo", "fp16", &format!("fp16(-{bound})"))
            + &constant("hi", "fp16", &format!("fp16({bound})"))
            + "        tensor<fp16, [64, 1024]> u = clip(alpha = lo, beta = hi, x = p)[name = string(\"u\")];\n"
            + "        tensor<fp16, [1024, 64]> v = clip(alpha = lo, beta = hi, x = q)[name = string(\"v\")];\n";
        s.replace("        bool no", &(clip + "        bool no"))
            .replace("x = p, y = q)", "x = u, y = v)")
    };
    let sdpa = |mask: &str| {
        program(
            "tensor<fp16, [1, 2, 64, 32]> q, tensor<fp16, [1, 2, 64, 32]> k, tensor<fp16, [1, 2, 64, 32]> v, tensor<fp16, [64, 64]> m",
            &format!(
                "        tensor<fp16, [1, 2, 64, 32]> b = scaled_dot_product_attention({mask}key = k, query = q, value = v)[name = string(\"b\")];"
            ),
            "b",
        )
    };
    let int = |op: &str, ty: &str| {
        program(
            &format!("tensor<{ty}, [64]> p, tensor<{ty}, [64]> q"),
            &format!("        tensor<{ty}, [64]> b = {op}(x = p, y = q)[name = string(\"b\")];"),
            "b",
        )
    };
    let square = |n: usize| {
        let ty = format!("tensor<fp16, [1, 4, 8, {n}]>");
        program(
            &format!("{ty} a"),
            &format!(
                "        {ty} s = square(x = a)[name = string(\"s\")];\n        {ty} b = relu(x = s)[name = string(\"b\")];"
            ),
            "b",
        )
    };
    let pool = |k: usize| {
        let two = |n: &str, k: usize| {
            constant(n, "tensor<int32, [2]>", &format!("tensor<int32, [2]>([{k}, {k}])"))
        };
        let out = 64 - k + 1;
        program(
            "tensor<fp16, [1, 4, 64, 64]> a",
            &(two("k", k)
                + &two("s", 1)
                + &constant("p", "tensor<int32, [4]>", "tensor<int32, [4]>([0, 0, 0, 0])")
                + &constant("t", "string", "string(\"valid\")")
                + &constant("ceil", "bool", "bool(false)")
                + &format!(
                    "        tensor<fp16, [1, 4, {out}, {out}]> b = max_pool(ceil_mode = ceil, kernel_sizes = k, pad = p, pad_type = t, strides = s, x = a)[name = string(\"b\")];"
                )),
            "b",
        )
    };
    let chain = |n: usize| {
        let mut s = String::new();
        let mut last = "a".to_owned();
        for i in 0..n {
            let name = if i + 1 == n { "b".to_owned() } else { format!("t{i}") };
            s += &format!("        {F} {name} = relu(x = {last})[name = string(\"{name}\")];\n");
            last = name;
        }
        body(&s)
    };
    let axis = |n: usize| unary("relu", &format!("tensor<fp16, [1, 1, 1, {n}]>"), "");
    let inner = |k: usize| {
        matmul(
            &format!("tensor<fp16, [1, {k}]>"),
            &format!("tensor<fp16, [{k}, 1]>"),
            "tensor<fp16, [1, 1]>",
        )
    };
    let clean = plain();
    let logical = |op: &str| {
        let ty = "tensor<fp16, [64]>";
        let bools = "tensor<bool, [64]>";
        program(
            &format!("{ty} p, {ty} q"),
            &format!(
                "        {bools} g = greater(x = p, y = q)[name = string(\"g\")];\n        {bools} l = less(x = p, y = q)[name = string(\"l\")];\n        {bools} c = {op}[name = string(\"c\")];\n        {ty} b = select(a = p, b = q, cond = c)[name = string(\"b\")];"
            ),
            "b",
        )
    };
    let moving_slice = {
        let source = slice(0);
        let begin = constant("begin", "tensor<int32, [4]>", "tensor<int32, [4]>([0, 0, 0, 0])");
        assert!(source.contains(&begin));
        source.replace(&begin, "").replace(
            "tensor<fp16, [1, 64, 8, 64]> a",
            "tensor<fp16, [1, 64, 8, 64]> a, tensor<int32, [4]> begin",
        )
    };
    let topk = {
        let ty = "tensor<fp16, [1, 2]>";
        program(
            "tensor<fp16, [1, 64]> a",
            &(constant("k", "int32", "int32(2)")
                + &constant("axis", "int32", "int32(1)")
                + &constant("no", "bool", "bool(false)")
                + &constant("yes", "bool", "bool(true)")
                + &format!(
                    "        {ty} b, tensor<int32, [1, 2]> i = topk(ascending = no, axis = axis, k = k, return_indices = yes, sort = yes, x = a)[name = string(\"b\")];"
                )),
            "b",
        )
    };
    let five = |n: usize| {
        let lead = ["1, "].repeat(n - 2).concat();
        let ty = |a: usize, b: usize| format!("tensor<fp16, [{lead}{a}, {b}]>");
        matmul(&ty(4, 64), &ty(64, 8), &ty(4, 8))
    };
    vec![
        ("ANE001", "m4", Direct, clean.replace("> b = relu", "> b = no_such_op"), clean.clone()),
        ("ANE009", "m4", Direct, reshaped_product(false), reshaped_product(true)),
        ("ANE027", "m4", Direct, state("ios18"), clean.clone()),
        ("ANE041", "m1", CoreMl, topk, clean.clone()),
        (
            "ANE043",
            "m4",
            CoreMl,
            logical("logical_and(x = g, y = l)"),
            logical("logical_not(x = g)"),
        ),
        ("ANE045", "m4", CoreMl, moving_slice, slice(0)),
        ("ANE046", "m4", CoreMl, look_up(false, 0), look_up(true, 0)),
        ("ANE047", "m4", Direct, look_up(true, 0), clean.clone()),
        ("ANE048", "m4", CoreMl, list(), clean.clone()),
        ("ANE049", "m4", CoreMl, unpacked(2, ADD_ROWS), unpacked(1, ADD_ROWS)),
        ("ANE051", "m4", Direct, copies(true), copies(false)),
        ("ANE052", "m4", Direct, computed_conv(2, 1), computed_conv(1, 1)),
        ("ANE052", "m4", Direct, computed_conv(1, 2), computed_conv(1, 1)),
        ("ANE053", "m4", CoreMl, five(5), five(4)),
        ("ANE054", "m1", Direct, constant_product(64), five(3)),
        ("ANE060", "m4", Direct, unpacked(2, LINEAR), unpacked(2, ADD_ROWS)),
        ("ANE076", "m4", CoreMl, many(3165), many(3164)),
        ("ANE077", "m4", CoreMl, large_weight(16_385), large_weight(16_384)),
        ("ANE078", "m4", Direct, files(17, true), files(17, false)),
        ("ANE078", "m4", Direct, files(17, true), files(16, true)),
        ("ANE082", "m2", CoreMl, look_up(true, 1), look_up(true, 0)),
        ("ANE089", "m4", CoreMl, transposed_product(true), transposed_product(false)),
        ("ANE090", "m1", Direct, quotient("sqrt"), quotient("exp")),
        ("ANE091", "m4", Direct, attention(512, 512), attention(511, 512)),
        ("ANE091", "m4", Direct, attention(1, 2049), attention(1, 2048)),
        (
            "ANE104",
            "m4",
            CoreMl,
            conv("tensor<fp16, [2, 4, 1, 1]>", "tensor<fp16, [1, 2, 64, 128]>", "")
                .replace("uint64(64)", "uint64(160)"),
            conv("tensor<fp16, [2, 4, 1, 1]>", "tensor<fp16, [1, 2, 64, 128]>", ""),
        ),
        ("ANE110", "m4", Direct, constant_product(256), constant_product(255)),
        (
            "ANE111",
            "m4",
            Direct,
            computed_conv(1, 1),
            conv("tensor<fp16, [2, 4, 1, 1]>", "tensor<fp16, [1, 2, 64, 128]>", ""),
        ),
        ("ANE002", "m4", Direct, unary("rsqrt", F, ""), with_eps.clone()),
        ("ANE003", "m4", Direct, unary("rsqrt", F, "epsilon = fp16(0x1p-10), "), with_eps.clone()),
        ("ANE004", "m4", Direct, clean.replace("ios18", "ios16"), clean.clone()),
        ("ANE005", "m4", Direct, clean.replace("ios18", "ios26"), clean.clone()),
        (
            "ANE006",
            "m4",
            Direct,
            clean.replace(
                "[buildInfo = dict<string, string>({{\"coremlc-version\", \"1\"}})]\n",
                "",
            ),
            clean.clone(),
        ),
        (
            "ANE007",
            "m1",
            Direct,
            clean.replace(" a)", " mean)").replace("x = a", "x = mean"),
            clean.clone(),
        ),
        ("ANE008", "m4", Direct, program(&format!("{F} a"), "", "a"), clean.clone()),
        ("ANE020", "m4", Direct, clean.replace("-> (b)", "-> (a, b)"), clean.clone()),
        ("ANE021", "m4", Direct, body(&(constant("b", "fp16", "fp16(0x1p+0)"))), clean.clone()),
        ("ANE022", "m4", Direct, int("maximum", "int32"), clean.clone()),
        ("ANE023", "m4", Direct, axis(33), axis(32)),
        ("ANE024", "m4", Direct, two_ports("q", "p"), two_ports("p", "q")),
        ("ANE025", "m4", CoreMl, clean.replace("[1, 64, 8, 64]", "[1, 64, 8, ?]"), clean.clone()),
        ("ANE040", "m4", CoreMl, unary("tan", F, ""), unary("atan", F, "")),
        ("ANE042", "m2", CoreMl, unary("sin", F, ""), unary("tanh", F, "")),
        ("ANE044", "m4", CoreMl, int("add", "int32"), int("add", "fp16")),
        ("ANE050", "m4", Direct, sdpa("attn_mask = m, "), sdpa("")),
        ("ANE055", "m3", Direct, concat(3, "[1, 64, 8, 128]"), concat(1, "[1, 128, 8, 64]")),
        (
            "ANE056",
            "m4",
            Direct,
            conv("tensor<fp16, [2, 4, 1, 1]>", "tensor<fp16, [1, 2, 64, 128]>", "bias = bias, "),
            conv("tensor<fp16, [2, 4, 1, 1]>", "tensor<fp16, [1, 2, 64, 128]>", ""),
        ),
        ("ANE057", "m4", Direct, square(96), square(128)),
        ("ANE058", "m4", Direct, zero("fp16(0x0p+0)"), zero("fp16(0x1p+0)")),
        ("ANE059", "m4", Direct, softmax(96), softmax(128)),
        (
            "ANE070",
            "m4",
            CoreMl,
            unary("relu", "tensor<fp16, [1, 1, 2, 2, 2, 2]>", ""),
            unary("relu", "tensor<fp16, [1, 2, 2, 2, 2]>", ""),
        ),
        ("ANE071", "m4", CoreMl, axis(65_537), axis(65_536)),
        ("ANE071", "m3", CoreMl, axis(16_385), axis(16_384)),
        ("ANE072", "m4", CoreMl, inner(40_000), inner(32_768)),
        (
            "ANE073",
            "m4",
            CoreMl,
            conv("tensor<fp16, [2, 4, 1, 16]>", "tensor<fp16, [1, 2, 64, 113]>", ""),
            conv("tensor<fp16, [2, 4, 16, 1]>", "tensor<fp16, [1, 2, 49, 128]>", ""),
        ),
        (
            "ANE073",
            "m1",
            CoreMl,
            conv("tensor<fp16, [2, 4, 1, 15]>", "tensor<fp16, [1, 2, 64, 114]>", ""),
            conv("tensor<fp16, [2, 4, 1, 13]>", "tensor<fp16, [1, 2, 64, 116]>", ""),
        ),
        ("ANE074", "m4", CoreMl, pool(13), pool(8)),
        ("ANE075", "m4", Direct, chain(384), chain(383)),
        ("ANE080", "m4", Direct, softmax(2048), softmax(1024)),
        ("ANE081", "m2", CoreMl, slice(32), slice(0)),
        ("ANE083", "m4", CoreMl, mask("fp32(-0x1.dcd65p+29)"), mask("fp32(-0x1.388p+13)")),
        ("ANE084", "m4", CoreMl, reduce(4096), reduce(2048)),
        ("ANE085", "m4", CoreMl, clipped("0x1p+3"), clipped("0x1p+2")),
        ("ANE087", "m4", CoreMl, body(&(tiny_eps + rsqrt)), with_eps),
        ("ANE088", "m4", CoreMl, unary("round", F, ""), unary("floor", F, "")),
        (
            "ANE100",
            "m4",
            CoreMl,
            conv("tensor<fp16, [2, 4, 1, 1]>", "tensor<fp16, [1, 2, 64, 128]>", "")
                .replace("uint64(64)", "uint64(0)"),
            conv("tensor<fp16, [2, 4, 1, 1]>", "tensor<fp16, [1, 2, 64, 128]>", ""),
        ),
        (
            "ANE112",
            "m4",
            CoreMl,
            matmul(
                "tensor<fp16, [1, 5120]>",
                "tensor<fp16, [5120, 5120]>",
                "tensor<fp16, [1, 5120]>",
            ),
            matmul(
                "tensor<fp16, [1, 4096]>",
                "tensor<fp16, [4096, 5120]>",
                "tensor<fp16, [1, 5120]>",
            ),
        ),
        (
            "ANE113",
            "m4",
            CoreMl,
            unary("relu", "tensor<fp16, [1, 4, 64, 1]>", ""),
            unary("relu", "tensor<fp16, [1, 4, 1, 64]>", ""),
        ),
        ("ANE114", "m4", Direct, unary("relu", "tensor<fp32, [1, 4, 64, 64]>", ""), plain()),
        (
            "ANE115",
            "m4",
            Direct,
            plain(),
            matmul(
                "tensor<fp16, [512, 512]>",
                "tensor<fp16, [512, 512]>",
                "tensor<fp16, [512, 512]>",
            ),
        ),
    ]
}

/// Rules that only show when a program runs or its weights are there, and where they are tested.
const ELSEWHERE: [(&str, &str); 6] = [
    ("ANE026", "emulator: a_surface_of_another_size_gives_0x1d"),
    ("ANE079", "emulator: too_many_programs_are_refused_until_one_is_dropped"),
    ("ANE086", "weights_are_looked_into"),
    ("ANE101", "weights_are_looked_into"),
    // These say what a host must not believe; no program breaks them.
    ("ANE102", "nothing: about weight files that change behind a compiled program"),
    ("ANE103", "nothing: about patching compiled programs"),
];

#[test]
fn every_rule_has_a_program_that_breaks_it() {
    let cases = cases();
    for rule in rules() {
        let broken = cases.iter().any(|(code, ..)| *code == rule.code);
        let elsewhere = ELSEWHERE.iter().any(|(code, _)| *code == rule.code);
        assert!(broken != elsewhere, "{} is broken by no case, or twice on the lists", rule.code);
    }
    for (code, _) in ELSEWHERE {
        assert!(orion_device::rule(code).is_some(), "there is no {code}");
    }
}

#[test]
fn rules_see_what_breaks_them_and_nothing_else() {
    let mut wrong = Vec::new();
    for (code, chip, route, bad, good) in cases() {
        // The logical operations run from macOS 27 on.
        let os = if code == "ANE043" { Os::V26 } else { Os::V27 };
        let target = Target { os, ..target(chip, route) };
        let seen = codes(&bad, &target);
        if !seen.contains(&code) {
            wrong.push(format!("{code} is not seen: {seen:?}\n{bad}"));
        }
        let seen = codes(&good, &target);
        if seen.contains(&code) || (code != "ANE001" && seen.contains(&"ANE001")) {
            wrong.push(format!("{code} or ANE001 is seen in\n{good}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rules_hold_where_they_say() {
    let sin = unary("sin", F, "");
    let on = |chip, os| {
        let target =
            Target { chip: std::str::FromStr::from_str(chip).unwrap(), os, route: Route::CoreMl };
        codes(&sin, &target)
    };
    assert!(on("m2", Os::V26).contains(&"ANE042"));
    assert!(!on("m3", Os::V26).contains(&"ANE042"));
    // Only an operation that Core ML can run elsewhere is spared.
    let tan = unary("tan", F, "");
    let direct = findings(&tan, None, &target("m4", Route::Direct));
    let core_ml = findings(&tan, None, &target("m4", Route::CoreMl));
    assert!(direct.iter().any(|f| f.rule.code == "ANE040" && f.is_failure()));
    assert!(core_ml.iter().all(|f| !f.is_failure()));
}

#[test]
fn findings_name_the_place() {
    let found = findings(&unary("tan", F, ""), None, &target("m4", Route::Direct));
    let finding = found.iter().find(|f| f.rule.code == "ANE040").unwrap();
    assert_eq!((finding.function.as_str(), finding.place.as_str()), ("main", "tan -> b"));
    assert_eq!(finding.value.as_deref(), Some("b"));
    assert!(found[0].is_failure(), "what fails stands first");
}

#[test]
fn weights_are_looked_into() {
    let program = conv("tensor<fp16, [2, 4, 1, 1]>", "tensor<fp16, [1, 2, 64, 128]>", "");
    let with = |shape: &[usize], number: f64| {
        let count = shape.iter().product();
        let mut weights = Weights::new();
        let tensor = Tensor::from_slice(shape, &vec![f16::from_f64(number); count]);
        weights.append("@model_path/weights/weight.bin", tensor);
        let found = findings(&program, Some(&weights), &target("m4", Route::CoreMl));
        found.iter().map(|f| f.rule.code).collect::<Vec<_>>()
    };
    assert_eq!(with(&[8], 0.5), [""; 0]);
    assert_eq!(with(&[8], 1e-6), ["ANE086"]);
    assert_eq!(with(&[7], 0.5), ["ANE101"]);
}

#[test]
fn an_invalid_program_breaks_the_first_rule_only() {
    let source = body("        tensor<fp16, [1, 64, 8, 63]> b = tan(x = a)[name = string(\"b\")];");
    assert_eq!(codes(&source, &target("m4", Route::Direct)), ["ANE001"]);
}

#[test]
fn the_page_of_rules_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/rules.md");
    let text = orion_device::catalogue();
    if std::env::var_os("ORION_BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        there == text,
        "docs/rules.md is not what the rules say: run ORION_BLESS=1 cargo test -p orion-device"
    );
    assert!(rules().count() > 60);
}
