#!/usr/bin/env python3
"""Loads packages that Orion wrote with coremltools 9.0 (from PyPI) and says whether it reads the same.

    check_packages.py PACKAGE.mlpackage...

Checks that coremltools reads the package, its protobuf and every weight, builds its own program of
it, and that this program has the functions, inputs, outputs and operations that the protobuf says.
Ends with 1 when one of the packages fails, with 0 and a line that starts with SKIPPED when there
is no coremltools.
"""
import collections
import sys
import warnings

warnings.filterwarnings("ignore")
try:
    import coremltools as ct
    from coremltools.converters.mil.frontend.milproto.load import load
    from coremltools.libmilstoragepython import _BlobStorageReader
except ImportError as error:
    print(f"SKIPPED: coremltools cannot be loaded ({error}); pip install coremltools==9.0")
    sys.exit(0)

READERS = {10: "read_fp16_data", 11: "read_float_data", 21: "read_int8_data", 31: "read_uint8_data"}


def operations(block):
    for operation in block.operations:
        yield operation
        for nested in operation.blocks:
            yield from operations(nested)


def blobs(value):
    kind = value.WhichOneof("value")
    if kind == "blobFileValue":
        yield value


def check(path):
    model = ct.models.MLModel(path, skip_model_load=True)
    spec, weights = model.get_spec(), model.weights_dir
    written = spec.mlProgram.functions
    read = load(spec, specification_version=spec.specificationVersion, file_weights_dir=weights)
    if set(written) != set(read.functions):
        return f"functions {sorted(written)}, coremltools has {sorted(read.functions)}"
    for name, function in written.items():
        block = function.block_specializations[function.opset]
        mine = collections.Counter(o.type for o in operations(block))
        theirs = collections.Counter(o.op_type for o in operations(read.functions[name]))
        # coremltools makes constants of arguments and drops those that nothing reads.
        del mine["const"], theirs["const"]
        if mine != theirs:
            return f"{name}: operations differ: {mine - theirs} against {theirs - mine}"
        inputs = [i.name for i in function.inputs]
        if inputs != list(read.functions[name].inputs):
            return f"{name}: inputs {inputs}, coremltools has {list(read.functions[name].inputs)}"
        outputs = [o.name for o in read.functions[name].outputs]
        if list(block.outputs) != outputs:
            return f"{name}: outputs {list(block.outputs)}, coremltools has {outputs}"
        for operation in operations(block):
            for attribute in operation.attributes.values():
                for value in blobs(attribute):
                    size = 1
                    for dimension in value.type.tensorType.dimensions:
                        size *= dimension.constant.size
                    reader = READERS.get(value.type.tensorType.dataType)
                    file = value.blobFileValue.fileName.replace("@model_path/weights", weights)
                    if reader is None:
                        continue
                    data = getattr(_BlobStorageReader(file), reader)(value.blobFileValue.offset)
                    if len(data) != size:
                        return f"{name}: a weight of {size} numbers has {len(data)}"
    return None


def main():
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    failed = 0
    for path in sys.argv[1:]:
        try:
            problem = check(path)
        except Exception as error:  # whatever coremltools raises is what is asked for
            problem = f"{type(error).__name__}: {error}"
        print(f"{path}: {problem or 'reads the same in coremltools ' + ct.__version__}")
        failed += problem is not None
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
