//! Every rule that is checked on programs, with a program that breaks it and one that hardly does
//! not.

use crate::programs::*;
use orion_device::Route;

/// Code, chip, way, a program that breaks the rule, and one that is close and does not.
pub(crate) fn cases() -> Vec<(&'static str, &'static str, Route, String, String)> {
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
