#!/usr/bin/env python3
"""Evaluates a .mlpackage with numpy and PyTorch, independently of Orion, and prints a few numbers of
each output as JSON: what `crates/testing/tests/bundles.rs` compares with.

    evaluate_bundle.py PACKAGE.mlpackage [OFFSET] > results/NAME.json

Needs coremltools 9.0 (to read protobufs and weights, nothing else), numpy and torch. A compiled
model is made a package first: orion mil convert MODEL.mlmodelc MODEL.mlpackage.

Inputs are waves that any language can compute: element i of the input at place p (by name) is
sin(0.37 i + p) / 2, plus the offset; open sizes are the model's default. Every result is rounded to the type that the program declares.
"""
import json
import math
import sys

import coremltools as ct
import numpy as np
import torch
import torch.nn.functional as F
from coremltools.libmilstoragepython import _BlobStorageReader

DTYPES = {1: np.bool_, 2: str, 10: np.float16, 11: np.float32, 21: np.int8, 23: np.int32, 31: np.uint8,
          33: np.uint32}
FIELDS = {np.bool_: "bools", np.float32: "floats", np.int32: "ints", str: "strings"}
BLOBS = {np.float16: "read_fp16_data", np.float32: "read_float_data", np.uint8: "read_uint8_data"}


def constant(value, weights):
    ty = value.type.tensorType
    dtype, shape = DTYPES[ty.dataType], [d.constant.size for d in ty.dimensions]
    if value.WhichOneof("value") == "blobFileValue":
        blob = value.blobFileValue
        file = blob.fileName.replace("@model_path/weights", weights)
        data = getattr(_BlobStorageReader(file), BLOBS[dtype])(blob.offset)
        data = data.view(np.float16) if dtype is np.float16 else data
        return np.asarray(data).astype(dtype).reshape(shape)
    tensor = value.immediateValue.tensor
    if dtype in (np.float16, np.uint8, np.int8, np.uint32):
        return np.frombuffer(tensor.bytes.values, dtype=dtype).reshape(shape)
    data = list(getattr(tensor, FIELDS[dtype]).values)
    return data[0] if dtype is str else np.array(data, dtype=dtype).reshape(shape)


def wide(x):
    return torch.from_numpy(np.asarray(x, dtype=np.float64))


def conv(a):
    x, w = wide(a["x"]), wide(a["weight"])
    n = x.ndim - 2
    kind = a.get("pad_type", "valid")
    pads = list(a.get("pad", [0] * (2 * n)))
    strides = [int(s) for s in a.get("strides", [1] * n)]
    dilations = [int(d) for d in a.get("dilations", [1] * n)]
    if kind in ("same", "same_lower"):
        pads = []
        for axis in range(n):
            reach = (w.shape[2 + axis] - 1) * dilations[axis] + 1
            size = x.shape[2 + axis]
            total = max((math.ceil(size / strides[axis]) - 1) * strides[axis] + reach - size, 0)
            small, large = total // 2, total - total // 2
            pads += [small, large] if kind == "same" else [large, small]
    elif kind == "valid":
        pads = [0] * (2 * n)
    # torch pads the last axis first
    flat = [int(p) for axis in reversed(range(n)) for p in pads[2 * axis:2 * axis + 2]]
    run = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[n]
    bias = wide(a["bias"]) if "bias" in a else None
    return run(F.pad(x, flat), w, bias, strides, 0, dilations, int(a.get("groups", 1))).numpy()


def lstm(a):
    """Forward only. Core ML's gates are input, forget, output, cell; torch's end with cell, output."""
    assert a.get("direction", "forward") == "forward"
    hidden = a["initial_h"].shape[-1]

    def reordered(w):
        i, f, o, g = np.split(np.asarray(w, dtype=np.float64), 4)
        return torch.from_numpy(np.concatenate([i, f, g, o]))

    cell = torch.nn.LSTMCell(a["x"].shape[-1], hidden, dtype=torch.float64)
    with torch.no_grad():
        cell.weight_ih.copy_(reordered(a["weight_ih"]))
        cell.weight_hh.copy_(reordered(a["weight_hh"]))
        cell.bias_ih.copy_(reordered(a["bias"]))
        cell.bias_hh.zero_()
        h, c = wide(a["initial_h"]), wide(a["initial_c"])
        steps = []
        for x in wide(a["x"]):
            h, c = cell(x, (h, c))
            steps.append(h)
    all_steps = torch.stack(steps) if a.get("output_sequence", False) else h[None]
    return [all_steps.numpy(), h.numpy(), c.numpy()]


def slice_by_index(a):
    x, rank = a["x"], a["x"].ndim
    mask = lambda name: list(a.get(name, [False] * rank))
    stride = list(a.get("stride", [1] * rank))
    cut = []
    for axis in range(rank):
        if mask("squeeze_mask")[axis]:
            cut.append(int(a["begin"][axis]))
            continue
        begin = None if mask("begin_mask")[axis] else int(a["begin"][axis])
        end = None if mask("end_mask")[axis] else int(a["end"][axis])
        cut.append(slice(begin, end, int(stride[axis])))
    return x[tuple(cut)]


def pad(a):
    x, amounts = a["x"], [int(p) for p in a["pad"]]
    pairs = list(zip(amounts[::2], amounts[1::2]))
    pairs = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    mode = a.get("mode", "constant")
    if mode == "constant":
        return np.pad(x, pairs, constant_values=a.get("constant_val", 0))
    return np.pad(x, pairs, mode={"reflect": "reflect", "replicate": "edge"}[mode])


def reduce(f):
    def run(a):
        axes = tuple(int(i) for i in a["axes"]) if "axes" in a else None
        return f(np.asarray(a["x"], dtype=np.float64), axis=axes, keepdims=bool(a.get("keep_dims", False)))
    return run


def batch_norm(a):
    x = np.asarray(a["x"], dtype=np.float64)
    shape = [1, -1] + [1] * (x.ndim - 2)
    of = lambda name, default: np.asarray(a.get(name, default), dtype=np.float64).reshape(shape)
    n = x.shape[1]
    root = np.sqrt(of("variance", None) + float(a.get("epsilon", 1e-5)))
    return (x - of("mean", None)) / root * of("gamma", np.ones(n)) + of("beta", np.zeros(n))


def palette(a):
    """Indices as a stream of bits, lowest first."""
    lut, shape = a["lut"], [int(n) for n in a["shape"]]
    bits = int(math.log2(lut.size))
    stream = np.unpackbits(a["indices"].view(np.uint8).reshape(-1), bitorder="little")
    count = int(np.prod(shape))
    digits = stream[:count * bits].reshape(count, bits)
    return lut[(digits * (1 << np.arange(bits))).sum(1)].reshape(shape)


def binary(f):
    return lambda a: f(np.asarray(a["x"], dtype=np.float64), np.asarray(a["y"], dtype=np.float64))


def unary(f):
    return lambda a: f(np.asarray(a["x"], dtype=np.float64))


OPS = {
    "add": binary(np.add), "sub": binary(np.subtract), "mul": binary(np.multiply),
    "real_div": binary(np.divide), "pow": binary(np.power),
    "relu": unary(lambda x: np.maximum(x, 0)), "sqrt": unary(np.sqrt),
    "sigmoid": unary(lambda x: 1 / (1 + np.exp(-x))),
    "log": lambda a: np.log(np.asarray(a["x"], dtype=np.float64) + float(a.get("epsilon", 1e-45))),
    "clip": lambda a: np.clip(np.asarray(a["x"], dtype=np.float64), float(a["alpha"]), float(a["beta"])),
    "cast": lambda a: a["x"], "conv": conv, "lstm": lstm, "pad": pad, "batch_norm": batch_norm,
    "slice_by_index": slice_by_index,
    "expand_dims": lambda a: np.expand_dims(a["x"], tuple(int(i) for i in a["axes"])),
    "squeeze": lambda a: np.squeeze(a["x"], tuple(int(i) for i in a["axes"]) if "axes" in a else None),
    "transpose": lambda a: np.transpose(a["x"], [int(i) for i in a["perm"]]),
    "reshape": lambda a: a["x"].reshape([int(i) for i in a["shape"]]),
    "stack": lambda a: np.stack(a["values"], int(a["axis"])),
    "concat": lambda a: np.concatenate(a["values"], int(a["axis"])),
    "reduce_max": reduce(np.max), "reduce_min": reduce(np.min), "reduce_sum": reduce(np.sum),
    "constexpr_lut_to_dense": palette,
}


def list_scatter(a):
    items = list(a["ls"])
    for index, item in zip(a["indices"], a["value"]):
        items += [None] * (int(index) + 1 - len(items))
        items[int(index)] = item
    return Items(items)


def list_write(a):
    items = list(a["ls"])
    items += [None] * (int(a["index"]) + 1 - len(items))
    items[int(a["index"])] = a["value"]
    return Items(items)


class Items(list):
    """A list of tensors, as opposed to several results."""


def split(a):
    sizes = [int(n) for n in a["split_sizes"]] if "split_sizes" in a else None
    cuts = np.cumsum(sizes)[:-1] if sizes else int(a["num_splits"])
    return np.split(a["x"], cuts, int(a["axis"]))


def matmul(a):
    x, y = (np.asarray(a[k], dtype=np.float64) for k in "xy")
    x = np.swapaxes(x, -1, -2) if a.get("transpose_x", False) else x
    y = np.swapaxes(y, -1, -2) if a.get("transpose_y", False) else y
    return x @ y


OPS |= {
    "make_list": lambda a: Items([None] * int(a.get("init_length", 1))),
    "list_scatter": list_scatter, "list_write": list_write,
    "list_read": lambda a: a["ls"][int(a["index"])],
    "list_gather": lambda a: np.stack([a["ls"][int(i)] for i in a["indices"]]),
    "list_length": lambda a: np.int32(len(a["ls"])),
    "shape": lambda a: np.array(a["x"].shape, dtype=np.int32), "matmul": matmul, "split": split,
    "less": lambda a: a["x"] < a["y"], "tanh": unary(np.tanh), "reduce_mean": reduce(np.mean),
    "range_1d": lambda a: np.arange(int(a["start"]), int(a["end"]), int(a["step"]), dtype=np.int32),
}
SEVERAL = {"values", "loop_vars", "elem_shape"}


def run(block, values, weights):
    """Runs the operations of a block; what they compute is added to `values`."""
    for operation in block.operations:
        if operation.type == "const":
            values[operation.outputs[0].name] = constant(operation.attributes["val"], weights)
            continue
        arguments = {k: constant(v, weights) for k, v in operation.attributes.items() if k != "name"}
        for key, argument in operation.inputs.items():
            bound = [
                values[b.name] if b.WhichOneof("binding") == "name" else constant(b.value, weights)
                for b in argument.arguments
            ]
            arguments[key] = bound if key in SEVERAL else bound[0]
        if operation.type == "while_loop":
            condition, body = operation.blocks
            results = arguments["loop_vars"]
            while True:
                inner = dict(values) | {i.name: v for i, v in zip(condition.inputs, results)}
                run(condition, inner, weights)
                if not inner[condition.outputs[0]]:
                    break
                inner = dict(values) | {i.name: v for i, v in zip(body.inputs, results)}
                run(body, inner, weights)
                results = [inner[name] for name in body.outputs]
        else:
            results = OPS[operation.type](arguments)
            results = results if isinstance(results, list) and not isinstance(results, Items) else [results]
        for output, result in zip(operation.outputs, results):
            if isinstance(result, Items):
                values[output.name] = result
            else:
                values[output.name] = np.asarray(result).astype(DTYPES[output.type.tensorType.dataType])


def main():
    offset = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    model = ct.models.MLModel(sys.argv[1], skip_model_load=True)
    weights, spec = model.weights_dir, model.get_spec()
    function = spec.mlProgram.functions["main"]
    default = {i.name: list(i.type.multiArrayType.shape) for i in spec.description.input}
    values = {}
    inputs = sorted(function.inputs, key=lambda i: i.name)
    for place, given in enumerate(inputs):
        shape = default[given.name]
        wave = offset + np.sin(0.37 * np.arange(np.prod(shape)) + place) / 2
        values[given.name] = wave.astype(DTYPES[given.type.tensorType.dataType]).reshape(shape)
    block = function.block_specializations[function.opset]
    run(block, values, weights)
    told = {}
    for name in block.outputs:
        flat = values[name].astype(np.float64).reshape(-1)
        step = max(len(flat) // 64, 1)
        told[name] = {
            "shape": list(values[name].shape),
            "step": step,
            "every": [float(v) for v in flat[::step]],
            "rms": float(np.sqrt(np.mean(flat ** 2))),
        }
    json.dump(told, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
