#!/usr/bin/env python3
"""Says what PyTorch makes of operations whose definition is easily misread, as programs with inputs
and outputs: `crates/testing/tests/ops.rs` runs the programs on every CPU device and compares.

    ops.py > results/ops.json

Needs numpy and torch. What MIL's parameters mean is coremltools' documentation of its operations;
what they give is PyTorch's, in double precision. All numbers are made here.
"""
import json
import sys

import numpy as np
import torch
import torch.nn.functional as F

rng = np.random.default_rng(4)
cases = []


def array(*shape, low=-1.0, high=1.0):
    return np.round(rng.uniform(low, high, shape), 4)


def literal(value):
    """A MIL constant of a Python value or array."""
    if isinstance(value, bool):
        return f"bool({str(value).lower()})"
    if isinstance(value, str):
        return f'string("{value}")'
    if isinstance(value, int):
        return f"int32({value})"
    if isinstance(value, float):
        return f"fp32({value!r})"
    if isinstance(value, list):
        inside = ", ".join(str(v).lower() for v in value)
        kind = "bool" if isinstance(value[0], bool) else "int32"
        return f"tensor<{kind}, [{len(value)}]>([{inside}])"
    return f"tensor<fp32, {list(value.shape)}>({json.dumps(value.tolist())})"


def ty(a):
    kind = "int32" if np.issubdtype(a.dtype, np.integer) else "fp32"
    return f"tensor<{kind}, {list(a.shape)}>" if a.ndim else kind


def case(name, op, inputs, parameters, outputs, variadic=None):
    """`inputs` are tensors the program takes; `parameters` constants; `outputs` what comes out."""
    outputs = [np.asarray(o) for o in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]
    names = [f"y{i}" for i in range(len(outputs))]
    inputs = {k: np.asarray(v) for k, v in inputs.items()}
    arguments = [] if variadic else [f"{k} = {k}_in" for k in inputs]
    if variadic:
        arguments.append(f"{variadic} = ({', '.join(k + '_in' for k in inputs)})")
    arguments += [f"{k} = {literal(v)}" for k, v in parameters.items()]
    signature = ", ".join(f"{ty(v)} {k}_in" for k, v in sorted(inputs.items()))
    results = ", ".join(f"{ty(o)} {n}" for o, n in zip(outputs, names))
    text = (
        "program(1.3)\n[]\n{\n    func main<ios18>(" + signature + ") {\n            " + results
        + f" = {op}(" + ", ".join(sorted(arguments)) + f')[name = string("{name}")];\n'
        + "        } -> (" + ", ".join(names) + ");\n}\n"
    )
    tell = lambda a: {"shape": list(a.shape), "values": np.asarray(a, dtype=np.float64).reshape(-1).tolist()}
    cases.append({
        "name": name, "program": text,
        "inputs": {f"{k}_in": tell(v) for k, v in inputs.items()},
        "outputs": {n: tell(o) for n, o in zip(names, outputs)},
    })


def t(a):
    return torch.from_numpy(np.array(a, dtype=np.float64))


def resizing():
    x = array(1, 2, 4, 5)
    for size in [(7, 9), (3, 2), (4, 5)]:
        for mode, align in [("UNALIGN_CORNERS", False), ("STRICT_ALIGN_CORNERS", True), ("ALIGN_CORNERS", True)]:
            y = F.interpolate(t(x), size=size, mode="bilinear", align_corners=align).numpy()
            case(f"resize_bilinear/{mode}/{size}", "resize_bilinear", {"x": x},
                 {"target_size_height": size[0], "target_size_width": size[1], "sampling_mode": mode}, y)
        for mode, torch_mode in [("DEFAULT", "nearest"), ("UNALIGN_CORNERS", "nearest-exact")]:
            y = F.interpolate(t(x), size=size, mode=torch_mode).numpy()
            text = {"interpolation_mode": "NEAREST_NEIGHBOR", "sampling_mode": mode, "shape": list(size)}
            case(f"resize/{mode}/{size}", "resize", {"x": x}, text, y)
            cases[-1]["program"] = cases[-1]["program"].replace(
                "sampling_mode", "resized_dims = uint32(2), sampling_mode", 1)
    # These two are not torch's: points by coreml's formula, bilinear by grid_sample.
    for mode in ["DEFAULT", "OFFSET_CORNERS"]:
        for size in [(7, 9), (3, 2)]:
            points = []
            for n, m in zip(x.shape[2:], size):
                i = np.arange(m)
                if mode == "DEFAULT":
                    at = i * ((n - n / m) / (m - 1))
                else:
                    delta = max(1, n - 1) / m
                    at = 0.5 * delta + i * delta
                points.append(np.clip(at, 0, n - 1))
            y = sampled(x, *np.meshgrid(*points, indexing="ij"))
            case(f"resize_bilinear/{mode}/{size}", "resize_bilinear", {"x": x},
                 {"target_size_height": size[0], "target_size_width": size[1], "sampling_mode": mode}, y)
    y = F.interpolate(t(x), scale_factor=(3, 2), mode="nearest").numpy()
    case("upsample_nearest_neighbor", "upsample_nearest_neighbor", {"x": x},
         {"scale_factor_height": 3, "scale_factor_width": 2}, y)
    for align in [True, False]:
        y = F.interpolate(t(x), scale_factor=(2, 3), mode="bilinear", align_corners=align).numpy()
        case(f"upsample_bilinear/{align}", "upsample_bilinear", {"x": x},
             {"scale_factor_height": 2, "scale_factor_width": 3, "align_corners": align}, y)


def sampled(x, rows, columns, mode="bilinear", border="zeros"):
    """One image at points in pixels."""
    h, w = x.shape[2:]
    to = lambda at, n: 2 * at / max(n - 1, 1) - 1
    grid = np.stack([to(columns, w), to(rows, h)], -1)[None]
    return F.grid_sample(t(x), t(grid), mode, border, align_corners=True).numpy()


def sampling():
    x = array(2, 3, 5, 4)
    grid = array(2, 3, 6, 2, low=-1.7, high=1.7)
    for mode in ["bilinear", "nearest"]:
        for border, align, mil in [
            ("zeros", True, "constant"), ("zeros", False, "constant"), ("border", True, "border"),
            ("border", False, "border"), ("reflection", True, "reflection"), ("reflection", False, "symmetric"),
        ]:
            y = F.grid_sample(t(x), t(grid), mode, border, align).numpy()
            for coordinates, given in [("normalized_minus_one_to_one", grid), ("normalized_zero_to_one", (grid + 1) / 2)]:
                case(f"resample/{mode}/{mil}/{align}/{coordinates}", "resample", {"x": x, "coordinates": given},
                     {"sampling_mode": mode, "padding_mode": mil, "padding_value": 0.0,
                      "coordinates_mode": coordinates, "align_corners": align}, y)
    pixels = (grid + 1) / 2 * np.array([3, 4])
    y = F.grid_sample(t(x), t(grid), "bilinear", "border", True).numpy()
    case("resample/unnormalized", "resample", {"x": x, "coordinates": pixels},
         {"sampling_mode": "bilinear", "padding_mode": "border", "padding_value": 0.0,
          "coordinates_mode": "unnormalized", "align_corners": True}, y)
    # A constant other than zero: zeros outside of x minus the constant.
    y = F.grid_sample(t(x) - 0.75, t(grid), "bilinear", "zeros", True).numpy() + 0.75
    case("resample/constant", "resample", {"x": x, "coordinates": grid},
         {"sampling_mode": "bilinear", "padding_mode": "constant", "padding_value": 0.75,
          "coordinates_mode": "normalized_minus_one_to_one", "align_corners": True}, y)
    for count in [1, 2]:
        matrix = array(count, 6)
        theta = t(np.broadcast_to(matrix, (2, 6))).reshape(2, 2, 3)
        points = F.affine_grid(theta, [2, 3, 6, 7], align_corners=True)
        y = F.grid_sample(t(x), points, "bilinear", "zeros", True).numpy()
        case(f"affine/{count}", "affine", {"x": x, "transform_matrix": matrix},
             {"output_height": 6, "output_width": 7, "sampling_mode": "bilinear", "padding_mode": "constant",
              "padding_value": 0.0, "coordinates_mode": "normalized_minus_one_to_one", "align_corners": True}, y)


def crops():
    x = array(2, 3, 6, 8)
    boxes = np.array([[0.5, 1.0, 4.0, 6.5], [1.0, 0.0, 5.0, 7.0], [2.25, 2.0, 3.0, 5.0]])
    images = np.array([1, 0, 1])

    def points(mode, start, end, m):
        i = np.arange(m)
        n = end - start + 1
        at = {"STRICT_ALIGN_CORNERS": lambda: i * (end - start) / (m - 1),
              "ALIGN_CORNERS": lambda: i * (end - start) / (m - 1),
              "DEFAULT": lambda: i * n / m,
              "OFFSET_CORNERS": lambda: (i + 0.5) * max(1, n - 1) / m,
              "UNALIGN_CORNERS": lambda: (i + 0.5) * n / m - 0.5}[mode]()
        return start + np.clip(at, 0, n - 1)

    def crop(mode, box, image, size):
        rows, columns = points(mode, box[0], box[2], size[0]), points(mode, box[1], box[3], size[1])
        return sampled(x[image:image + 1], *np.meshgrid(rows, columns, indexing="ij"))[0]

    for mode in ["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS"]:
        y = np.stack([crop(mode, b, i, (3, 4)) for b, i in zip(boxes, images)])
        case(f"crop_resize/{mode}", "crop_resize", {"x": x, "boxes": boxes, "box_indices": images},
             {"target_height": 3, "target_width": 4, "sampling_mode": mode}, y)
    y = np.stack([crop("ALIGN_CORNERS", b, i, (3, 4)) for b, i in zip(boxes, images)])
    low, high = boxes[:, :2], boxes[:, 2:]
    forms = {"CORNERS_WIDTH_FIRST": boxes[:, [1, 0, 3, 2]],
             "CENTER_SIZE_HEIGHT_FIRST": np.concatenate([(low + high) / 2, high - low], 1)}
    forms["CENTER_SIZE_WIDTH_FIRST"] = forms["CENTER_SIZE_HEIGHT_FIRST"][:, [1, 0, 3, 2]]
    for form, given in forms.items():
        case(f"crop_resize/{form}", "crop_resize", {"x": x, "boxes": given, "box_indices": images},
             {"target_height": 3, "target_width": 4, "sampling_mode": "ALIGN_CORNERS", "box_coordinate_mode": form}, y)
    case("crop_resize/normalized", "crop_resize",
         {"x": x, "boxes": boxes / np.array([5, 7, 5, 7]) * 2, "box_indices": images},
         {"target_height": 3, "target_width": 4, "sampling_mode": "ALIGN_CORNERS", "normalized_coordinates": True,
          "spatial_scale": 0.5}, y)
    roi = np.concatenate([images[:, None], boxes], 1).reshape(3, 1, 5, 1, 1)
    case("crop_resize/roi_with_images", "crop_resize", {"x": x, "roi": roi},
         {"target_height": 3, "target_width": 4, "sampling_mode": "ALIGN_CORNERS"}, y[:, None])
    every = np.stack([[crop("ALIGN_CORNERS", b, i, (3, 4)) for i in range(2)] for b in boxes])
    case("crop_resize/roi", "crop_resize", {"x": x, "roi": boxes.reshape(3, 1, 4, 1, 1)},
         {"target_height": 3, "target_width": 4, "sampling_mode": "ALIGN_CORNERS"}, every)


def pooling():
    for shape, run in [((2, 3, 11), F.avg_pool1d), ((1, 2, 7, 9), F.avg_pool2d), ((1, 1, 4, 5, 6), F.avg_pool3d)]:
        x, n = array(*shape), len(shape) - 2
        settings = [
            (3, 2, 0, False, True), (3, 2, 1, False, True), (3, 2, 1, False, False), (3, 2, 1, True, False),
            (2, 2, 0, True, False), (3, 2, 1, True, True), (2, 3, 0, True, True), (4, 3, 2, True, True),
        ]
        for kernel, stride, padding, ceil, count in settings[3:6] if n == 3 else settings:
            y = run(t(x), kernel, stride, padding, ceil, count).numpy()
            common = {"kernel_sizes": [kernel] * n, "strides": [stride] * n, "pad_type": "custom",
                      "pad": [padding] * (2 * n), "ceil_mode": ceil}
            label = f"{n}d/{kernel}.{stride}.{padding}.{ceil}"
            case(f"avg_pool/{label}.{count}", "avg_pool", {"x": x},
                 {**common, "exclude_padding_from_average": not count}, y)
            most = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[n]
            y = most(t(x), kernel, stride, padding, ceil_mode=ceil).numpy()
            case(f"max_pool/{label}", "max_pool", {"x": x}, common, y)
            if n < 3 and padding == 0 and not ceil:
                norm = {1: F.lp_pool1d, 2: F.lp_pool2d}[n]
                case(f"l2_pool/{label}", "l2_pool", {"x": x},
                     {k: v for k, v in common.items() if k != "ceil_mode"}, norm(t(x), 2.0, kernel, stride).numpy())


def contractions():
    values = {"a": array(2, 3, 4), "b": array(2, 4, 5), "c": array(2, 5), "d": array(3, 3), "e": array(2, 4, 3, 5)}
    for equation, names in [
        ("bij,bjk->bik", "ab"), ("bij,bjk,bk->ij", "abc"), ("bij,bkj->bik", "aa"), ("ij->ji", "d"), ("ii->i", "d"),
        ("ij->", "d"), ("bhqd,bhkd->bhqk", "ee"), ("bij,bjk->kib", "ab"), ("bk,bk->b", "cc"), ("bk,bl->bkl", "cc"),
    ]:
        given = {f"v{i}": values[n] for i, n in enumerate(names)}
        y = torch.einsum(equation, *[t(v) for v in given.values()]).numpy()
        case(f"einsum/{equation}", "einsum", given, {"equation": equation}, y, variadic="values")
    for groups, stride, padding, extra, dilation in [(1, 2, 1, 1, 1), (2, 3, 0, 2, 1), (2, 2, 1, 0, 2), (1, 1, 0, 0, 1)]:
        for n, run in [(1, F.conv_transpose1d), (2, F.conv_transpose2d), (3, F.conv_transpose3d)]:
            x, w, b = array(1, 4, *[4, 3, 2][:n]), array(4, 2, *[3, 2, 2][:n]), array(2 * groups)
            y = run(t(x), t(w), t(b), stride, padding, extra, groups, dilation).numpy()
            parameters = {"weight": w, "bias": b, "strides": [stride] * n, "pad_type": "custom",
                          "pad": [padding] * (2 * n), "groups": groups, "dilations": [dilation] * n}
            # Output padding is said by the output's shape.
            if extra:
                parameters["output_shape"] = list(y.shape)
            case(f"conv_transpose/{n}d/{groups}.{stride}.{padding}.{extra}.{dilation}", "conv_transpose", {"x": x},
                 parameters, y)


def indexed():
    x = array(3, 4, 5)
    rows = np.array([[2, 0, 4], [0, 3, 1]])
    case("gather_nd", "gather_nd", {"x": x, "indices": rows}, {"batch_dims": 0}, x[tuple(rows.T)])
    pairs = np.array([[2, 1], [0, 3], [2, 1]])
    case("gather_nd/slices", "gather_nd", {"x": x, "indices": pairs}, {"batch_dims": 0}, x[tuple(pairs.T)])
    batched = np.array([[[1]], [[3]], [[0]]])
    case("gather_nd/batch", "gather_nd", {"x": x, "indices": batched}, {"batch_dims": 1},
         np.stack([x[b, batched[b, :, 0]] for b in range(3)]))
    updates = array(3, 5)
    along = np.array([[[0, 2, 1, 2, 0], [1, 1, 1, 0, 2]]] * 3)
    part = array(3, 2, 5, low=0.5, high=1.5)
    for mode, reduce in [("add", "sum"), ("mul", "prod"), ("max", "amax"), ("min", "amin")]:
        flat = t(x).reshape(12, 5).clone()
        place = torch.from_numpy(pairs @ np.array([4, 1]))[:, None].expand(3, 5)
        y = flat.scatter_reduce(0, place, t(updates), reduce).reshape(3, 4, 5).numpy()
        case(f"scatter_nd/{mode}", "scatter_nd", {"data": x, "indices": pairs, "updates": updates}, {"mode": mode}, y)
        y = t(x).scatter_reduce(1, torch.from_numpy(along), t(part), reduce).numpy()
        case(f"scatter_along_axis/{mode}", "scatter_along_axis", {"data": x, "indices": along, "updates": part},
             {"axis": 1, "mode": mode}, y)
        places = np.array([3, 0, 3])
        slices = array(3, 3, 5, low=0.5, high=1.5)
        y = t(x).index_reduce(1, torch.from_numpy(places), t(slices), {"prod": "prod"}.get(reduce, reduce)).numpy() \
            if reduce != "sum" else t(x).index_add(1, torch.from_numpy(places), t(slices)).numpy()
        case(f"scatter/{mode}", "scatter", {"data": x, "indices": places, "updates": slices}, {"axis": 1, "mode": mode}, y)
    for mode, f in [("sub", np.subtract), ("div", np.divide), ("update", lambda a, b: b)]:
        y = x.copy()
        for row, (i, j) in enumerate([(2, 1), (0, 3)]):
            y[i, j] = f(y[i, j], updates[row])
        case(f"scatter_nd/{mode}", "scatter_nd", {"data": x, "indices": pairs[:2], "updates": updates[:2]}, {"mode": mode}, y)
    case("cumsum", "cumsum", {"x": x}, {"axis": 1, "exclusive": False, "reverse": True},
         torch.flip(torch.cumsum(torch.flip(t(x), [1]), 1), [1]).numpy())
    values, places = torch.topk(t(x), 3, 1)
    case("topk", "topk", {"x": x}, {"k": 3, "axis": 1, "ascending": False, "sort": True, "return_indices": True,
         "output_indices_dtype": "int32"}, [values.numpy(), places.numpy()])
    case("gather_along_axis", "gather_along_axis", {"x": x, "indices": along}, {"axis": 1, "validate_indices": False},
         torch.gather(t(x), 1, torch.from_numpy(along)).numpy())
    image = array(2, 8, 2, 3)
    case("pixel_shuffle", "pixel_shuffle", {"x": image}, {"upscale_factor": 2}, F.pixel_shuffle(t(image), 2).numpy())
    case("local_response_norm", "local_response_norm", {"x": image}, {"size": 3, "alpha": 0.5, "beta": 0.75, "k": 2.0},
         F.local_response_norm(t(image), 3, 0.5, 0.75, 2.0).numpy())
    scale, shift = array(8), array(8)
    case("instance_norm", "instance_norm", {"x": image}, {"gamma": scale, "beta": shift, "epsilon": 0.25},
         F.instance_norm(t(image), weight=t(scale), bias=t(shift), eps=0.25).numpy())


def recurrent():
    steps, batch, inputs, size = 4, 2, 3, 5
    x = array(steps, batch, inputs)

    def weights(gates):
        return array(gates * size, inputs), array(gates * size, size), array(gates * size)

    def to_torch(w):
        # Core ML: input, forget, output, cell. torch: input, forget, cell, output.
        i, f, o, g = np.split(w, 4)
        return t(np.concatenate([i, f, g, o]))

    for direction in ["forward", "reverse", "bidirectional"]:
        both = direction == "bidirectional"
        h0, c0 = array(batch, size * (1 + both)), array(batch, size * (1 + both))
        ways = [weights(4) for _ in range(1 + both)]
        layer = torch.nn.LSTM(inputs, size, bidirectional=both, dtype=torch.float64)
        with torch.no_grad():
            for (ih, hh, b), suffix in zip(ways, ["", "_reverse"]):
                getattr(layer, f"weight_ih_l0{suffix}").copy_(to_torch(ih))
                getattr(layer, f"weight_hh_l0{suffix}").copy_(to_torch(hh))
                getattr(layer, f"bias_ih_l0{suffix}").copy_(to_torch(b))
                getattr(layer, f"bias_hh_l0{suffix}").zero_()
            split = lambda s: torch.stack(torch.split(t(s), size, 1))
            given = t(x).flip(0) if direction == "reverse" else t(x)
            y, (h, c) = layer(given, (split(h0), split(c0)))
            y = y.flip(0) if direction == "reverse" else y
        join = lambda s: torch.cat(list(s), 1).numpy()
        parameters = {"weight_ih": ways[0][0], "weight_hh": ways[0][1], "bias": ways[0][2], "direction": direction,
                      "output_sequence": True}
        if both:
            parameters |= {"weight_ih_back": ways[1][0], "weight_hh_back": ways[1][1], "bias_back": ways[1][2]}
        case(f"lstm/{direction}", "lstm", {"x": x, "initial_h": h0, "initial_c": c0}, parameters,
             [y.numpy(), join(h), join(c)])
    for direction in ["forward", "reverse"]:
        order = range(steps) if direction == "forward" else range(steps - 1, -1, -1)
        h0 = array(batch, size)
        for activation, f in [("tanh", np.tanh), ("relu", lambda v: np.maximum(v, 0))]:
            ih, hh, b = weights(1)
            h, every = h0, np.zeros((steps, batch, size))
            for step in order:
                h = f(x[step] @ ih.T + b + h @ hh.T)
                every[step] = h
            case(f"rnn/{direction}/{activation}", "rnn", {"x": x, "initial_h": h0},
                 {"weight_ih": ih, "weight_hh": hh, "bias": b, "direction": direction, "activation": activation,
                  "output_sequence": True}, [every, h])
        # Core ML's gates are reset, output, update: coremltools hands them on as `roz_to_zro`.
        ih, hh, b = weights(3)
        extra = array(3 * size)
        swap = lambda w: t(np.concatenate([w[:size], w[2 * size:], w[size:2 * size]]))
        layer = torch.nn.GRU(inputs, size, dtype=torch.float64)
        with torch.no_grad():
            layer.weight_ih_l0.copy_(swap(ih)); layer.weight_hh_l0.copy_(swap(hh))
            layer.bias_ih_l0.copy_(swap(extra)); layer.bias_hh_l0.copy_(swap(b))
            given = t(x).flip(0) if direction == "reverse" else t(x)
            y, h = layer(given, t(h0)[None])
            y = y.flip(0) if direction == "reverse" else y
        case(f"gru/{direction}/reset_after", "gru", {"x": x, "initial_h": h0},
             {"weight_ih": ih, "weight_hh": hh, "bias": b, "input_bias": extra, "reset_after": True,
              "direction": direction, "output_sequence": True}, [y.numpy(), h[0].numpy()])
        sigmoid = lambda v: 1 / (1 + np.exp(-v))
        h, every = h0, np.zeros((steps, batch, size))
        for step in order:
            r = sigmoid(x[step] @ ih[:size].T + b[:size] + h @ hh[:size].T)
            z = sigmoid(x[step] @ ih[2 * size:].T + b[2 * size:] + h @ hh[2 * size:].T)
            o = np.tanh(x[step] @ ih[size:2 * size].T + b[size:2 * size] + (r * h) @ hh[size:2 * size].T)
            h = (1 - z) * o + z * h
            every[step] = h
        case(f"gru/{direction}", "gru", {"x": x, "initial_h": h0},
             {"weight_ih": ih, "weight_hh": hh, "bias": b, "direction": direction, "output_sequence": True}, [every, h])


def boxes():
    """By the rule as it is written: best score first, overlaps above the threshold out."""
    def suppress(boxes, scores, iou, least, most, per_class):
        best, cls = scores.max(1), scores.argmax(1)
        kept = []
        for i in np.argsort(-best, kind="stable"):
            if best[i] < least or len(kept) == most:
                continue
            for j in kept:
                lo = np.maximum(boxes[i, :2] - boxes[i, 2:] / 2, boxes[j, :2] - boxes[j, 2:] / 2)
                hi = np.minimum(boxes[i, :2] + boxes[i, 2:] / 2, boxes[j, :2] + boxes[j, 2:] / 2)
                both = np.prod(np.maximum(hi - lo, 0))
                if both / (np.prod(boxes[i, 2:]) + np.prod(boxes[j, 2:]) - both) > iou and (not per_class or cls[i] == cls[j]):
                    break
            else:
                kept.append(i)
        return kept

    n, k, most = 12, 3, 6
    given = np.concatenate([array(2, n, 2, low=0, high=4), array(2, n, 2, low=1, high=3)], 2)
    scores = array(2, n, k, low=0, high=1)
    for per_class in [False, True]:
        out = [np.zeros((2, most, 4)), np.zeros((2, most, k)), np.full((2, most), -1), np.zeros(2, dtype=int)]
        late = [np.zeros((2, most, 4)), np.zeros((2, most, k)), np.full((2, most), -1)]
        for b in range(2):
            for target, least in [(out, 0.5), (late, -1)]:
                kept = suppress(given[b], scores[b], 0.3, least, most, per_class)
                target[0][b, :len(kept)], target[1][b, :len(kept)] = given[b, kept], scores[b, kept]
                target[2][b, :len(kept)] = kept
                if least > 0:
                    out[3][b] = len(kept)
        case(f"non_maximum_suppression/{per_class}", "non_maximum_suppression", {"boxes": given, "scores": scores},
             {"iou_threshold": 0.3, "score_threshold": 0.5, "max_boxes": most, "per_class_suppression": per_class}, out)
        turn = lambda a: a.transpose(0, 2, 1).copy()
        case(f"non_maximum_suppression/ios17/{per_class}", "non_maximum_suppression",
             {"boxes": turn(given), "scores": turn(scores)},
             {"iou_threshold": 0.3, "max_boxes": most, "per_class_suppression": per_class},
             [turn(late[0]), turn(late[1]), late[2]])


for group in [resizing, sampling, crops, pooling, contractions, indexed, recurrent, boxes]:
    group()
rounded = lambda tell: {"shape": tell["shape"], "values": [float(f"{v:.7g}") for v in tell["values"]]}
for one in cases:
    one["inputs"] = {k: rounded(v) for k, v in one["inputs"].items()}
    one["outputs"] = {k: rounded(v) for k, v in one["outputs"].items()}
lines = ",\n".join(json.dumps(one) for one in cases)
sys.stdout.write(f"[\n{lines}\n]\n")
