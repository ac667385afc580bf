//! Programs in text, each of a few operations, that rules are tried on.

/// A program around statements; `x` is the input, `y` the output.
pub(crate) fn program(input: &str, statements: &str, output: &str) -> String {
    format!(
        "program(1.3)\n[buildInfo = dict<string, string>({{{{\"coremlc-version\", \"1\"}}}})]\n{{\n    \
         func main<ios18>({input}) {{\n{statements}\n    }} -> ({output});\n}}\n"
    )
}

/// Operations on `a`, fp16 `[1, 64, 8, 64]`, whose result is `b`.
pub(crate) fn body(statements: &str) -> String {
    program("tensor<fp16, [1, 64, 8, 64]> a", statements, "b")
}

/// One operation of one operand on a tensor of that type.
pub(crate) fn unary(op: &str, ty: &str, arguments: &str) -> String {
    let statement = format!("        {ty} b = {op}({arguments}x = a)[name = string(\"b\")];");
    program(&format!("{ty} a"), &statement, "b")
}

pub(crate) fn constant(name: &str, ty: &str, literal: &str) -> String {
    format!("        {ty} {name} = const()[name = string(\"{name}\"), val = {literal}];\n")
}

pub(crate) const F: &str = "tensor<fp16, [1, 64, 8, 64]>";

pub(crate) fn matmul(x: &str, y: &str, out: &str) -> String {
    let flags = constant("no", "bool", "bool(false)");
    let statement = format!(
        "{flags}        {out} b = matmul(transpose_x = no, transpose_y = no, x = p, y = q)[name = string(\"b\")];"
    );
    program(&format!("{x} p, {y} q"), &statement, "b")
}

pub(crate) fn conv(kernel: &str, out: &str, extra: &str) -> String {
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
pub(crate) fn state(opset: &str) -> String {
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
pub(crate) fn unpacked(blocks: usize, reader: &str) -> String {
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

pub(crate) const ADD_ROWS: &str =
    "        tensor<fp16, [8, 64]> b = add(x = w, y = a)[name = string(\"b\")];";
pub(crate) const LINEAR: &str =
    "        tensor<fp16, [1, 8]> b = linear(weight = w, x = a)[name = string(\"b\")];";

/// A row of a table: by constant or by computed indices, along an axis.
pub(crate) fn look_up(constant_indices: bool, axis: usize) -> String {
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
pub(crate) fn reshaped_product(beside: bool) -> String {
    let source = matmul("tensor<fp16, [4, 64]>", "tensor<fp16, [64, 32]>", "tensor<fp16, [4, 32]>");
    let rest = constant("shape", "tensor<int32, [2]>", "tensor<int32, [2]>([1, 128])")
        + &constant("to", "string", "string(\"fp32\")")
        + "        tensor<fp16, [1, 128]> r = reshape(shape = shape, x = b)[name = string(\"r\")];\n"
        + "        tensor<fp32, [1, 128]> c = cast(dtype = to, x = r)[name = string(\"c\")];";
    let outputs = if beside { "(b, c)" } else { "(c)" };
    source.replace("\n    } -> (b)", &format!("\n{rest}\n    }} -> {outputs}"))
}

/// A convolution whose weight is an input.
pub(crate) fn computed_conv(images: usize, groups: usize) -> String {
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
pub(crate) fn constant_product(n: usize) -> String {
    let ty = format!("tensor<fp16, [{n}, {n}]>");
    let blob = format!(
        "{ty}(BLOBFILE(path = string(\"@model_path/weights/weight.bin\"), offset = uint64(64)))"
    );
    matmul(&ty, &ty, &ty)
        .replace(&format!("{ty} p, {ty} q"), &format!("{ty} p"))
        .replace("        bool no", &(constant("q", &ty, &blob) + "        bool no"))
}

/// A sum of that many weights, each in a file of its own, or all in one.
pub(crate) fn files(count: usize, apart: bool) -> String {
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
pub(crate) fn large_weight(rows: usize) -> String {
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
pub(crate) fn many(count: usize) -> String {
    let one = |i: usize| {
        let name = if i == 0 { "b".to_owned() } else { format!("t{i}") };
        format!("        {F} {name} = relu(x = a)[name = string(\"{name}\")];\n")
    };
    body(&(0..count).map(one).collect::<String>())
}

/// Two operands that are transposed before or in a product.
pub(crate) fn transposed_product(both: bool) -> String {
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
pub(crate) fn quotient(by: &str) -> String {
    body(&format!(
        "        {F} s = {by}(x = a)[name = string(\"s\")];\n        {F} b = real_div(x = a, y = s)[name = string(\"b\")];"
    ))
}

/// Attention of so many queries and keys.
pub(crate) fn attention(queries: usize, keys: usize) -> String {
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
pub(crate) fn copies(by_tile: bool) -> String {
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
pub(crate) fn list() -> String {
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

pub(crate) fn reduce(n: usize) -> String {
    let statements = constant("axes", "tensor<int32, [1]>", "tensor<int32, [1]>([3])")
        + &constant("keep", "bool", "bool(true)")
        + "        tensor<fp16, [1, 1, 1, 1]> b = reduce_sum(axes = axes, keep_dims = keep, x = a)[name = string(\"b\")];";
    program(&format!("tensor<fp16, [1, 1, 1, {n}]> a"), &statements, "b")
}
