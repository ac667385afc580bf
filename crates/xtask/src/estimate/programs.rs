//! The programs that others measured, from their published sources, as far as cost goes.

use orion_mil::op::{Binary, Reduction, Unary};
use orion_mil::{Builder, Op, Program, TensorType, ValueId, WEIGHT_FILE};
use orion_tensor::DType;

/// A program being written; weights are named and not there.
pub(super) struct Draft {
    pub(super) b: Builder,
    next_weight: u64,
}

impl Draft {
    pub(super) fn new() -> Self {
        Self { b: Builder::new("main"), next_weight: 64 }
    }

    pub(super) fn input(&mut self, name: &str, dtype: DType, shape: &[usize]) -> ValueId {
        self.b.input(name, TensorType::new(dtype, shape))
    }

    pub(super) fn weight(&mut self, shape: &[usize]) -> ValueId {
        let offset = self.next_weight;
        self.next_weight += 64 * (2 + shape.iter().product::<usize>() as u64 / 32);
        let name = format!("w{offset}");
        self.b.blob(&name, TensorType::new(DType::F16, shape), WEIGHT_FILE, offset)
    }

    /// A 1×1 convolution of `[1, C, 1, S]` to `out` channels.
    pub(super) fn conv(&mut self, x: ValueId, out: usize) -> ValueId {
        let channels = self.b.shape(x)[1];
        let weight = self.weight(&[out, channels, 1, 1]);
        self.b.conv_1x1(x, weight, None)
    }

    /// RMSNorm over channels as the trainers write it.
    pub(super) fn norm(&mut self, x: ValueId) -> ValueId {
        let squares = self.b.mul(x, x);
        let sum = self.b.reduce(Reduction::Mean, squares, &[1], true);
        let root = self.b.unary(Unary::Rsqrt { epsilon: 1e-5 }, sum);
        let scaled = self.b.mul(x, root);
        let channels = self.b.shape(x)[1];
        let gain = self.weight(&[1, channels, 1, 1]);
        self.b.mul(scaled, gain)
    }

    /// `[1, heads · d, 1, S]` to `[1, heads, S, d]`.
    fn by_heads(&mut self, x: ValueId, heads: usize) -> ValueId {
        let shape = self.b.shape(x);
        let split = self.b.reshape(x, &[1, heads, shape[1] / heads, shape[3]]);
        self.b.transpose(split, &[0, 1, 3, 2])
    }

    /// Masked attention of `[1, heads · d, 1, S]`; probabilities and result.
    pub(super) fn attention(
        &mut self,
        (q, k, v): (ValueId, ValueId, ValueId),
        heads: usize,
    ) -> (ValueId, ValueId) {
        let shape = self.b.shape(q);
        let seq = shape[3];
        let (q, k, v) = (self.by_heads(q, heads), self.by_heads(k, heads), self.by_heads(v, heads));
        let scores = self.b.matmul(q, k, false, true);
        let scores = self.b.scale(scores, 0.125);
        let mask = self.weight(&[1, 1, seq, seq]);
        let masked = self.b.add(scores, mask);
        let probabilities = self.b.softmax(masked, 3);
        let out = self.b.matmul(probabilities, v, false, false);
        let out = self.b.transpose(out, &[0, 1, 3, 2]);
        (probabilities, self.b.reshape(out, &shape))
    }

    pub(super) fn gate(&mut self, h1: ValueId, h3: ValueId) -> ValueId {
        let sigmoid = self.b.unary(Unary::Sigmoid, h1);
        let silu = self.b.mul(h1, sigmoid);
        self.b.mul(silu, h3)
    }

    pub(super) fn finish(self, results: &[ValueId]) -> Program {
        Program::with_function(self.b.finish(results))
    }
}

/// Between casts at an fp32 border.
fn in_fp16(shape: &[usize], body: impl FnOnce(&mut Draft, ValueId) -> ValueId) -> Program {
    let mut d = Draft::new();
    let x = d.input("in", DType::F32, shape);
    let x = d.b.cast(x, DType::F16);
    let y = body(&mut d, x);
    let y = d.b.cast(y, DType::F32);
    d.finish(&[y])
}

/// A chain of 1×1 convolutions that all read one weight: the benchmark's headers point every
/// weight at the same bytes.
pub(super) fn chain(depth: usize, channels: usize, columns: &[usize; 2]) -> Program {
    in_fp16(&[1, channels, columns[0], columns[1]], |d, mut x| {
        let weight = d.weight(&[channels, channels, 1, 1]);
        for _ in 0..depth {
            x = d.b.conv_1x1(x, weight, None);
        }
        x
    })
}

/// The same with 8-bit activations and weights.
pub(super) fn byte_chain(depth: usize, channels: usize, side: usize) -> Program {
    // Operations that the builder has no short way for are what the text says.
    let mut text = format!(
        "program(1.3)\n{{\n    func main<ios18>(tensor<fp16, [1, {channels}, {side}, {side}]> in) {{\n        fp16 scale = const()[name = string(\"scale\"), val = fp16(0x1p-3)];\n        int8 zero = const()[name = string(\"zero\"), val = int8(0)];\n        string int8 = const()[name = string(\"int8\"), val = string(\"int8\")];\n        string valid = const()[name = string(\"valid\"), val = string(\"valid\")];\n        tensor<int32, [2]> ones = const()[name = string(\"ones\"), val = tensor<int32, [2]>([1, 1])];\n        tensor<int32, [4]> zeros = const()[name = string(\"zeros\"), val = tensor<int32, [4]>([0, 0, 0, 0])];\n        int32 groups = const()[name = string(\"groups\"), val = int32(1)];\n        tensor<fp16, [{channels}, {channels}, 1, 1]> weight = constexpr_affine_dequantize()[axis = int32(0), name = string(\"weight\"), quantized_data = tensor<int8, [{channels}, {channels}, 1, 1]>(BLOBFILE(path = string(\"@model_path/weights/weight.bin\"), offset = uint64(64))), scale = fp16(0x1p-3), zero_point = int8(0)];\n"
    );
    let ty = |dtype: &str| format!("tensor<{dtype}, [1, {channels}, {side}, {side}]>");
    let mut last = "in".to_owned();
    for i in 0..depth {
        text += &format!(
            "        {} q{i} = quantize(input = {last}, output_dtype = int8, scale = scale, zero_point = zero)[name = string(\"q{i}\")];\n        {} d{i} = dequantize(input = q{i}, scale = scale, zero_point = zero)[name = string(\"d{i}\")];\n        {} c{i} = conv(dilations = ones, groups = groups, pad = zeros, pad_type = valid, strides = ones, weight = weight, x = d{i})[name = string(\"c{i}\")];\n",
            ty("int8"),
            ty("fp16"),
            ty("fp16")
        );
        last = format!("c{i}");
    }
    text += &format!("    }} -> ({last});\n}}\n");
    orion_mil::text::parse(&text).expect("a text written here")
}

/// One 1×1 convolution between fp32 surfaces.
pub(super) fn convolution(from: usize, to: usize, columns: usize) -> Program {
    in_fp16(&[1, from, 1, columns], |d, x| d.conv(x, to))
}

/// One k×k convolution of fp16 surfaces.
pub(super) fn square_convolution(channels: usize, side: usize, k: usize) -> Program {
    let mut d = Draft::new();
    let x = d.input("in", DType::F16, &[1, channels, side, side]);
    let weight = d.weight(&[channels, channels, k, k]);
    let y = d.b.push(&Op::Conv {
        x,
        weight,
        bias: None,
        strides: vec![1, 1],
        pads: vec![(k / 2, k / 2); 2],
        dilations: vec![1, 1],
        groups: 1,
    });
    d.finish(&[y])
}

/// A row times a constant square matrix.
pub(super) fn row_product(n: usize) -> Program {
    let mut d = Draft::new();
    let x = d.input("in", DType::F16, &[1, n]);
    let weight = d.weight(&[n, n]);
    let y = d.b.matmul(x, weight, false, false);
    d.finish(&[y])
}

/// A sum of two tensors of that many elements.
pub(super) fn sum(elements: usize) -> Program {
    let mut d = Draft::new();
    let x = d.input("x", DType::F16, &[1, 64, 1, elements / 64]);
    let y = d.input("y", DType::F16, &[1, 64, 1, elements / 64]);
    let z = d.b.binary(Binary::Add, x, y);
    d.finish(&[z])
}

/// A product of two square matrices between fp32 surfaces.
pub(super) fn square_product(n: usize) -> Program {
    let mut d = Draft::new();
    let x = d.input("x", DType::F32, &[1, 1, n, n]);
    let y = d.input("y", DType::F32, &[1, 1, n, n]);
    let (x, y) = (d.b.cast(x, DType::F16), d.b.cast(y, DType::F16));
    let z = d.b.matmul(x, y, false, false);
    let z = d.b.cast(z, DType::F32);
    d.finish(&[z])
}

/// Products of one activation with weights that lie beside it in the input, `[1, K, 1, S + Σ N]`,
/// as the trainers with dynamic weights pack them. One output for each weight.
pub(super) fn packed_products(k: usize, seq: usize, outs: &[usize], dtype: DType) -> Program {
    let mut d = Draft::new();
    let width = seq + outs.iter().sum::<usize>();
    let packed = d.input("in", dtype, &[1, k, 1, width]);
    let packed = if dtype == DType::F32 { d.b.cast(packed, DType::F16) } else { packed };
    let results = products_of(&mut d, packed, k, seq, outs);
    let results: Vec<ValueId> = if dtype == DType::F32 {
        results.into_iter().map(|r| d.b.cast(r, DType::F32)).collect()
    } else {
        results
    };
    d.finish(&results)
}

pub(super) fn products_of(
    d: &mut Draft,
    packed: ValueId,
    k: usize,
    seq: usize,
    outs: &[usize],
) -> Vec<ValueId> {
    let x = d.b.slice(packed, &[0; 4], &[1, k, 1, seq]);
    let x = d.b.reshape(x, &[1, 1, k, seq]);
    let x = d.b.transpose(x, &[0, 1, 3, 2]);
    let mut begin = seq;
    let mut results = Vec::new();
    for &n in outs {
        let w = d.b.slice(packed, &[0, 0, 0, begin], &[1, k, 1, n]);
        begin += n;
        let w = d.b.reshape(w, &[1, 1, k, n]);
        let y = d.b.matmul(x, w, false, false);
        let y = d.b.transpose(y, &[0, 1, 3, 2]);
        results.push(d.b.reshape(y, &[1, n, 1, seq]));
    }
    results
}

/// Attention with its projections, all of them inputs, between fp32 surfaces.
pub(super) fn attention_with_inputs(dim: usize, heads: usize, seq: usize) -> Program {
    let mut d = Draft::new();
    let x = d.input("x", DType::F32, &[1, dim, 1, seq]);
    let x = d.b.cast(x, DType::F16);
    let x = d.b.reshape(x, &[1, 1, dim, seq]);
    let x = d.b.transpose(x, &[0, 1, 3, 2]);
    let project = |d: &mut Draft, name: &str, rotates: bool| {
        let w = d.input(name, DType::F32, &[1, dim, 1, dim]);
        let w = d.b.cast(w, DType::F16);
        let w = d.b.reshape(w, &[1, 1, dim, dim]);
        let y = d.b.matmul(x, w, false, false);
        let y = d.b.reshape(y, &[1, seq, heads, dim / heads]);
        let y = d.b.transpose(y, &[0, 2, 1, 3]);
        let y = if rotates {
            let swap = d.weight(&[1, 1, dim / heads, dim / heads]);
            let turned = d.b.matmul(y, swap, false, false);
            let (c, s) = (d.weight(&[1, 1, seq, dim / heads]), d.weight(&[1, 1, seq, dim / heads]));
            let (y, turned) = (d.b.mul(y, c), d.b.mul(turned, s));
            d.b.add(y, turned)
        } else {
            y
        };
        let y = d.b.transpose(y, &[0, 1, 3, 2]);
        d.b.reshape(y, &[1, dim, 1, seq])
    };
    let q = project(&mut d, "wq", true);
    let k = project(&mut d, "wk", true);
    let v = project(&mut d, "wv", false);
    let (_, out) = d.attention((q, k, v), heads);
    let results: Vec<ValueId> =
        [out, q, k, v].into_iter().map(|r| d.b.cast(r, DType::F32)).collect();
    d.finish(&results)
}

/// The sizes of a transformer with gated feed-forward.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) layers: usize,
    pub(super) dim: usize,
    pub(super) hidden: usize,
    pub(super) heads: usize,
    /// Channels of all keys, or of all values.
    pub(super) kv: usize,
    pub(super) seq: usize,
    pub(super) vocab: usize,
}

impl Sizes {
    /// Weights of the matrices in one layer.
    pub(super) fn layer_weights(&self) -> f64 {
        (2 * self.dim * (self.dim + self.kv) + 3 * self.dim * self.hidden) as f64
    }
}

fn attention_block(d: &mut Draft, x: ValueId, s: &Sizes) -> (ValueId, [ValueId; 5]) {
    let normed = d.norm(x);
    let (q, k, v) = (d.conv(normed, s.dim), d.conv(normed, s.dim), d.conv(normed, s.dim));
    let (_, attended) = d.attention((q, k, v), s.heads);
    (d.conv(attended, s.dim), [q, k, v, attended, normed])
}

fn feed_forward_block(d: &mut Draft, x: ValueId, s: &Sizes) -> (ValueId, [ValueId; 4]) {
    let normed = d.norm(x);
    let (h1, h3) = (d.conv(normed, s.hidden), d.conv(normed, s.hidden));
    let gated = d.gate(h1, h3);
    (d.conv(gated, s.dim), [h1, h3, gated, normed])
}

/// All layers as one program, constant weights.
pub(super) fn whole_forward(s: &Sizes) -> Program {
    let mut d = Draft::new();
    let mut x = d.input("in", DType::F16, &[1, s.dim, 1, s.seq]);
    for _ in 0..s.layers {
        let (out, _) = attention_block(&mut d, x, s);
        x = d.b.add(x, out);
        let (out, _) = feed_forward_block(&mut d, x, s);
        x = d.b.add(x, out);
    }
    d.finish(&[x])
}

/// The programs of one layer with constant weights, forward with everything that the backward
/// pass needs as output, then backward.
pub(super) struct LayerPrograms {
    pub(super) forward: Vec<Program>,
    pub(super) backward: Vec<Program>,
}

pub(super) fn constant_weights(s: &Sizes) -> LayerPrograms {
    let with_taps = |block: &dyn Fn(&mut Draft, ValueId) -> Vec<ValueId>| {
        let mut d = Draft::new();
        let x = d.input("in", DType::F16, &[1, s.dim, 1, s.seq]);
        let outs = block(&mut d, x);
        let packed = d.b.concat(&outs, 1);
        d.finish(&[packed])
    };
    let forward = vec![
        with_taps(&|d, x| {
            let (out, taps) = attention_block(d, x, s);
            [&[out][..], &taps].concat()
        }),
        with_taps(&|d, x| {
            let (out, taps) = feed_forward_block(d, x, s);
            [&[out][..], &taps].concat()
        }),
    ];
    let (dim, hidden, seq) = (s.dim, s.hidden, s.seq);
    let mut backward = Vec::new();
    {
        let mut d = Draft::new();
        let packed = d.input("in", DType::F16, &[1, dim + 2 * hidden, 1, seq]);
        let parts = d.b.split(packed, 1, &[dim, hidden, hidden]);
        let dgate = d.conv(parts[0], hidden);
        let (dh1, dh3) = gate_backward(&mut d, dgate, parts[1], parts[2]);
        let (a, b) = (d.conv(dh1, dim), d.conv(dh3, dim));
        let dx = d.b.add(a, b);
        let out = d.b.concat(&[dx, dh1, dh3], 1);
        backward.push(d.finish(&[out]));
    }
    {
        let mut d = Draft::new();
        let packed = d.input("in", DType::F16, &[1, 4 * dim, 1, seq]);
        let parts = d.b.split(packed, 1, &[dim; 4]);
        let dout = d.conv(parts[3], dim);
        let (dv, p, dp) = scores_backward(&mut d, (parts[0], parts[1], parts[2], dout), s.heads);
        let out = d.b.concat(&[dv, p, dp], 1);
        backward.push(d.finish(&[out]));
    }
    backward.push(queries_and_keys_backward(s));
    {
        let mut d = Draft::new();
        let packed = d.input("in", DType::F16, &[1, 3 * dim, 1, seq]);
        let parts = d.b.split(packed, 1, &[dim; 3]);
        let parts: Vec<ValueId> = parts.into_iter().map(|p| d.conv(p, dim)).collect();
        let sum = d.b.add(parts[0], parts[1]);
        let sum = d.b.add(sum, parts[2]);
        backward.push(d.finish(&[sum]));
    }
    LayerPrograms { forward, backward }
}

/// The gradient of a gated product, in the eight operations that the trainers use.
fn gate_backward(d: &mut Draft, dgate: ValueId, h1: ValueId, h3: ValueId) -> (ValueId, ValueId) {
    let sigmoid = d.b.unary(Unary::Sigmoid, h1);
    let silu = d.b.mul(h1, sigmoid);
    let dh3 = d.b.mul(dgate, silu);
    let dsilu = d.b.mul(dgate, h3);
    let rest = d.b.sub(h1, silu);
    let rest = d.b.offset(rest, 1.0);
    let slope = d.b.mul(sigmoid, rest);
    (d.b.mul(dsilu, slope), dh3)
}

/// Probabilities anew, their gradient, and that of the values; scores as channels.
fn scores_backward(
    d: &mut Draft,
    (q, k, v, dout): (ValueId, ValueId, ValueId, ValueId),
    heads: usize,
) -> (ValueId, ValueId, ValueId) {
    let shape = d.b.shape(q);
    let seq = shape[3];
    let (p, _) = d.attention((q, k, v), heads);
    let (dout, v) = (d.by_heads(dout, heads), d.by_heads(v, heads));
    let dv = d.b.matmul(p, dout, true, false);
    let dv = d.b.transpose(dv, &[0, 1, 3, 2]);
    let dv = d.b.reshape(dv, &shape);
    let dp = d.b.matmul(dout, v, false, true);
    let flat = [1, heads * seq, 1, seq];
    (dv, d.b.reshape(p, &flat), d.b.reshape(dp, &flat))
}

/// From probabilities and their gradients to those of queries and keys. Has no weights.
fn queries_and_keys_backward(s: &Sizes) -> Program {
    let (dim, seq, heads) = (s.dim, s.seq, s.heads);
    let mut d = Draft::new();
    let packed = d.input("in", DType::F16, &[1, 2 * heads * seq + 2 * dim, 1, seq]);
    let parts = d.b.split(packed, 1, &[heads * seq, heads * seq, dim, dim]);
    let p = d.b.reshape(parts[0], &[1, heads, seq, seq]);
    let dp = d.b.reshape(parts[1], &[1, heads, seq, seq]);
    let (q, k) = (d.by_heads(parts[2], heads), d.by_heads(parts[3], heads));
    let product = d.b.mul(p, dp);
    let total = d.b.reduce(Reduction::Sum, product, &[3], true);
    let rest = d.b.sub(dp, total);
    let ds = d.b.mul(p, rest);
    let ds = d.b.scale(ds, 0.125);
    let (dq, dk) = (d.b.matmul(ds, k, false, false), d.b.matmul(ds, q, true, false));
    let flat = |d: &mut Draft, x| {
        let x = d.b.transpose(x, &[0, 1, 3, 2]);
        d.b.reshape(x, &[1, dim, 1, seq])
    };
    let (dq, dk) = (flat(&mut d, dq), flat(&mut d, dk));
    let out = d.b.concat(&[dq, dk], 1);
    d.finish(&[out])
}

/// The programs of one layer with weights beside the activations in the inputs.
pub(super) fn packed_weights(s: &Sizes, dtype: DType) -> LayerPrograms {
    let (dim, hidden, seq, kv, heads) = (s.dim, s.hidden, s.seq, s.kv, s.heads);
    let narrow = |d: &mut Draft, x| if dtype == DType::F32 { d.b.cast(x, DType::F16) } else { x };
    let end = |mut d: Draft, outs: &[ValueId]| {
        let out = if outs.len() == 1 { outs[0] } else { d.b.concat(outs, 1) };
        let out = if dtype == DType::F32 { d.b.cast(out, DType::F32) } else { out };
        d.finish(&[out])
    };
    let attention = {
        let mut d = Draft::new();
        let packed = d.input("in", dtype, &[1, dim, 1, seq + dim + 2 * kv]);
        let packed = narrow(&mut d, packed);
        let p = products_of(&mut d, packed, dim, seq, &[dim, kv, kv]);
        let groups = dim / kv;
        let again = |d: &mut Draft, x| {
            if groups == 1 { x } else { d.b.concat(&vec![x; groups], 1) }
        };
        let (k, v) = (again(&mut d, p[1]), again(&mut d, p[2]));
        let (_, out) = d.attention((p[0], k, v), heads);
        end(d, &[out, p[0], p[1], p[2]])
    };
    let feed_forward = {
        let mut d = Draft::new();
        let packed = d.input("in", dtype, &[1, dim, 1, 2 * seq + 3 * hidden]);
        let packed = narrow(&mut d, packed);
        let p = products_of(&mut d, packed, dim, seq, &[hidden, hidden]);
        let gated = d.gate(p[0], p[1]);
        let w = d.b.slice(packed, &[0, 0, 0, seq + 2 * hidden], &[1, dim, 1, hidden]);
        let w = d.b.reshape(w, &[1, 1, dim, hidden]);
        let x = d.b.reshape(gated, &[1, 1, hidden, seq]);
        let y = d.b.matmul(w, x, false, false);
        let y = d.b.reshape(y, &[1, dim, 1, seq]);
        let residual = d.b.slice(packed, &[0, 0, 0, 2 * hidden], &[1, dim, 1, seq]);
        let y = d.b.add(y, residual);
        end(d, &[y, p[0], p[1], gated])
    };
    let one = |k: usize, n: usize| packed_products(k, seq, &[n], dtype);
    let two = |k: usize, n: usize| {
        let mut d = Draft::new();
        let packed = d.input("in", dtype, &[1, k, 1, 2 * (seq + n)]);
        let packed = narrow(&mut d, packed);
        let parts = d.b.split(packed, 3, &[seq + n, seq + n]);
        let a = products_of(&mut d, parts[0], k, seq, &[n])[0];
        let b = products_of(&mut d, parts[1], k, seq, &[n])[0];
        let sum = d.b.add(a, b);
        end(d, &[sum])
    };
    let scores = {
        let mut d = Draft::new();
        let packed = d.input("in", dtype, &[1, 4 * dim, 1, seq]);
        let packed = narrow(&mut d, packed);
        let parts = d.b.split(packed, 1, &[dim; 4]);
        let (dv, p, dp) = scores_backward(&mut d, (parts[0], parts[1], parts[2], parts[3]), heads);
        end(d, &[dv, p, dp])
    };
    LayerPrograms {
        forward: vec![attention, one(dim, dim), feed_forward],
        backward: vec![
            one(dim, hidden),
            two(hidden, dim),
            one(dim, dim),
            scores,
            queries_and_keys_backward(s),
            one(dim, dim),
            two(kv, dim),
        ],
    }
}

/// One layer of GPT-2 with constant weights as two programs, for `seq` positions.
pub(super) fn gpt2_layer(dim: usize, heads: usize, seq: usize) -> [Program; 2] {
    let norm = |d: &mut Draft, x| {
        let mean = d.b.reduce(Reduction::Mean, x, &[1], true);
        let centred = d.b.sub(x, mean);
        d.norm(centred)
    };
    let mut d = Draft::new();
    let x = d.input("in", DType::F16, &[1, dim, 1, seq]);
    let normed = norm(&mut d, x);
    let (q, k, v) = (d.conv(normed, dim), d.conv(normed, dim), d.conv(normed, dim));
    let (_, attended) = d.attention((q, k, v), heads);
    let out = d.conv(attended, dim);
    let out = d.b.add(x, out);
    let attention = d.finish(&[out, k, v]);
    let mut d = Draft::new();
    let x = d.input("in", DType::F16, &[1, dim, 1, seq]);
    let normed = norm(&mut d, x);
    let h = d.conv(normed, 4 * dim);
    let h = d.b.gelu(h, orion_mil::op::GeluMode::Tanh);
    let out = d.conv(h, dim);
    let out = d.b.add(x, out);
    [attention, d.finish(&[out])]
}
