"""What each operation of a compiled program moves through memory and computes.

Bytes are those of the arrays that an operation reads and writes; of an array of which it takes a slice, or in which it
writes one in place, that slice. Operations are multiplications and additions of convolutions and matrix products, two
for each pair of factors that is no padding; what is done to each number by itself costs bytes.
"""

import re
from math import prod
from typing import Any, NamedTuple

from safjax.aot.hlo import Array, Module, Operation, arrays

FREE = {
    "parameter", "get-tuple-element", "tuple", "bitcast", "constant", "while", "conditional", "call", "iota",
    "optimization-barrier", "after-all", "partition-id", "replica-id", "async-start", "opt-barrier",
}  # fmt: skip
"""Operations that start nothing on the device by themselves."""

_SLICES = {"dynamic-slice", "slice", "gather"}
_NARROW = {"bf16", "f16"}
_RESULT, _FIRST, _SECOND = range(3)


class Kernel(NamedTuple):
    """What one operation does each time that it runs.

    Attributes:
      operation: it.
      bytes: read and written.
      operations: of products.
      narrow: whether these are of numbers narrower than float32.
    """

    operation: Operation
    bytes: int
    operations: int
    narrow: bool


def kernels(module: Module, operations: list[Operation]) -> list[Kernel]:
    """The operations of a body that start something on the device, with what they do."""
    types = {op.name: op.type for op in operations}
    return [_kernel(module, op, types) for op in operations if op.kind not in FREE and not op.kind.endswith("-done")]


def _kernel(module: Module, op: Operation, types: dict[str, str]) -> Kernel:
    if op.kind != "fusion":
        count, narrow = _products(op, types)
        return Kernel(op, _bytes_of(op, types), count, narrow)
    counts = [_products(one, {o.name: o.type for o in part}) for part in _parts(module, op) for one in part]
    moved = sum(_fused_bytes(module.computations[name]) for name in op.called("calls"))
    return Kernel(op, moved, sum(count for count, _ in counts), any(narrow for count, narrow in counts if count))


def _parts(module: Module, op: Operation) -> list[list[Operation]]:
    """The computations of a fusion, and of fusions within it."""
    parts = [module.computations[name] for name in op.called("calls")]
    return parts + [deep for part in parts for one in part if one.kind == "fusion" for deep in _parts(module, one)]


def _size(type_: str) -> int:
    return sum(array.bytes for array in arrays(type_) if not array.on_chip)


def _bytes_of(op: Operation, types: dict[str, str]) -> int:
    if op.kind == "dynamic-update-slice":
        return 2 * _size(types.get(op.operands[1], ""))
    if op.kind in _SLICES:
        return 2 * _size(op.type)
    if op.kind.endswith("-start"):
        # Its result holds its operand too.
        return 2 * sum(_size(types.get(name, "")) for name in op.operands)
    return _size(op.type) + sum(_size(types.get(name, "")) for name in op.operands)


def _fused_bytes(inner: list[Operation]) -> int:
    by_name = {op.name: op for op in inner}
    users: dict[str, list[tuple[Operation, int]]] = {}
    for op in inner:
        for place, operand in enumerate(op.operands):
            users.setdefault(operand, []).append((op, place))
    read = sum(_read(op, users, by_name) for op in inner if op.kind == "parameter")
    return read + sum(_written(op, by_name) for op in inner if op.root)


def _read(parameter: Operation, users: dict[Any, Any], by_name: dict[str, Operation]) -> int:
    uses, waiting = [], [parameter.name]
    while waiting:
        for op, place in users.get(waiting.pop(), []):
            if op.kind == "bitcast":
                waiting.append(op.name)
            else:
                uses.append((op, place))
    if not all(place == 0 and (op.kind in _SLICES or op.kind == "dynamic-update-slice") for op, place in uses):
        return _size(parameter.type)
    return sum(_size(op.type) for op, _ in uses if op.kind in _SLICES)


def _written(root: Operation, by_name: dict[str, Operation]) -> int:
    if root.kind == "tuple":
        return sum(_written(by_name[name], by_name) for name in root.operands)
    if root.kind == "bitcast" and root.operands[0] in by_name:
        return _written(by_name[root.operands[0]], by_name)
    if root.kind == "dynamic-update-slice":
        return _size(by_name[root.operands[1]].type)
    return _size(root.type)


def _products(op: Operation, types: dict[str, str]) -> tuple[int, bool]:
    """(how many multiplications and additions, whether of narrow numbers)."""
    given = [found[0] for name in op.operands if (found := arrays(types.get(name, "")))]
    if len(given) < 2 or not op.arrays:
        return 0, False
    narrow = any(array.kind in _NARROW for array in given[:2])
    if op.kind == "convolution" or "conv" in op.target:
        return _of_convolution(op, given), narrow
    if op.kind == "dot" or "gemm" in op.target or "matmul" in op.target:
        return _of_product(op, given[0]), narrow
    return 0, False


def _of_product(op: Operation, left: Array) -> int:
    axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", op.rest)
    named = axes.group(1) if axes else "".join(re.findall(r'"lhs_contracting_dimensions":\[([^\]]*)\]', op.rest))
    summed = prod(left.shape[int(axis)] for axis in re.findall(r"\d+", named))
    return 2 * summed * prod(op.arrays[0].shape)


def _of_convolution(op: Operation, given: list[Array]) -> int:
    labels = re.search(r"dim_labels=([\w?]+)_([\w?]+)->([\w?]+)", op.rest)
    if labels is None:
        return 0
    # cuDNN's gradients are written by the labels of the forward pass: what is its result is another part.
    parts = op.arrays[0], given[0], given[1]
    order = (_FIRST, _SECOND, _RESULT)
    if "BackwardInput" in op.target:
        order = (_RESULT, _SECOND, _FIRST)
    elif "BackwardFilter" in op.target:
        order = (_FIRST, _RESULT, _SECOND)
    image, kernel, out = (parts[place].shape for place in order)
    in_labels, kernel_labels, out_labels = labels.groups()
    window = _window(op, sum(label.isdigit() for label in in_labels))
    taps = 1
    for axis, (stride, low, stretched, dilated) in enumerate(window):
        sizes = (image[in_labels.index(f"{axis}")], kernel[kernel_labels.index(f"{axis}")])
        taps *= _taps(*sizes, out[out_labels.index(f"{axis}")], stride, low, stretched, dilated)
    return 2 * taps * out[out_labels.index("b")] * kernel[kernel_labels.index("o")] * kernel[kernel_labels.index("i")]


def _window(op: Operation, axes: int) -> list[tuple[int, int, int, int]]:
    """(stride, low padding, dilation of the input, dilation of the kernel) of each spatial axis."""
    text = re.search(r"\bwindow=\{([^}]*)\}", op.rest)
    fields = dict(re.findall(r"(\w+)=([-\w]+)", text.group(1))) if text else {}
    columns = []
    for name, default in (("stride", 1), ("pad", 0), ("lhs_dilate", 1), ("rhs_dilate", 1)):
        values = [int(part.split("_")[0]) for part in fields[name].split("x")] if name in fields else [default] * axes
        columns.append(values)
    return list(zip(*columns, strict=True))


def _taps(image: int, kernel: int, out: int, stride: int, low: int, stretched: int, dilated: int) -> int:
    """How many pairs of an output and a kernel's entry meet an input along an axis: the others meet padding."""
    length = (image - 1) * stretched + 1
    places = (y * stride + k * dilated - low for y in range(out) for k in range(kernel))
    return sum(0 <= place < length and place % stretched == 0 for place in places)
