"""What stands in a synapse as nodes: dense layers and convolutions by what they are, all else by what it does."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from safjax.nir import functions
from safjax.nir.arrays import Shape, first, last
from safjax.nir.conventions import Convention
from safjax.nir.drawing import Drawing, Wire, refused
from safjax.nir.layers import LINEAR
from safjax.nn import WSConv
from safjax.nn.folding import passed_on
from safjax.ops.standardisation import standardise


def draw_synapse(drawing: Drawing, path: str, layer: Any, wires: Sequence[Any]) -> Wire:
    """The nodes of a synapse's layer.

    Raises:
      ValueError: NIR has none for a part of it.
    """
    if len(wires) > 1:
        return draw_joined(drawing, path, layer, list(wires))
    wire = wires[0]
    wire._refuse_final(wire)
    for stage in _stages(layer):
        wire = _draw(drawing, path, stage, wire)
    return wire


def _stages(layer: Any) -> Iterator[Any]:
    if type(layer) is nnx.Sequential:
        for inner in layer.layers:
            yield from _stages(inner)
    elif layer is not passed_on:
        yield layer


def _draw(drawing: Drawing, path: str, layer: Any, wire: Wire) -> Wire:
    if type(layer) is nnx.Linear and len(wire.shape) == 1:
        return _dense(drawing, path, layer, wire)
    if type(layer) is nnx.Linear and len(wire.shape) in (2, 3):
        # Along channels: a convolution of single places.
        kernel = np.asarray(layer.kernel[...])
        ones = (1,) * (len(wire.shape) - 1)
        return _convolved(
            drawing, path, layer, wire, kernel.reshape(*ones, *kernel.shape), ones, ones, (0,) * len(ones)
        )
    if type(layer) in (nnx.Conv, WSConv):
        return _convolution(drawing, path, layer, wire)
    return _function(drawing, path, layer, wire)


def _numbers(array: Any) -> np.ndarray:
    """A parameter as a NumPy array, float32 or wider."""
    array = jnp.asarray(array)
    return np.array(array.astype(jnp.promote_types(array.dtype, jnp.float32)))


def _dense(drawing: Drawing, path: str, layer: nnx.Linear, wire: Wire) -> Wire:
    weight, bias = _numbers(layer.kernel[...]).T, None if layer.bias is None else _numbers(layer.bias[...])
    return _matrix(drawing, path, weight, bias, wire, layer)


def _matrix(drawing: Drawing, path: str, weight: np.ndarray, bias: Any, wire: Wire, layer: Any = None) -> Wire:
    """W[out, in] of entries in the order of safjax."""
    nir = drawing.nir
    node = nir.Linear(weight) if bias is None else nir.Affine(weight, bias)
    if layer is not None:
        _verify(path, layer, node, wire.shape)
    if wire.order is not None:
        ordered = np.empty_like(weight)
        ordered[:, wire.order] = weight
        node.weight = ordered
    return drawing.add(path, node, wire, weight.shape[:1])


def _convolution(drawing: Drawing, path: str, layer: Any, wire: Wire) -> Wire:
    kernel, axes = _numbers(layer.kernel[...]), layer.kernel[...].ndim - 2
    if isinstance(layer, WSConv):
        kernel = _numbers(standardise(layer.kernel[...], layer.gain[...]))
        strides, dilation, padding = _each(layer.strides, axes), (1,) * axes, layer.padding
    else:
        if layer.mask is not None:
            kernel = kernel * _numbers(layer.mask)
        if any(d != 1 for d in _each(layer.input_dilation, axes)):
            raise refused(path, "holds a convolution with input_dilation, for which NIR has no node.")
        strides, dilation = _each(layer.strides, axes), _each(layer.kernel_dilation, axes)
        padding = layer.padding
    if axes not in (1, 2):
        raise refused(path, f"holds a convolution over {axes} axes, of which NIR knows one and two.")
    if len(wire.shape) != axes + 1:
        raise refused(path, f"holds a convolution over {axes} axes, but is given examples of shape {list(wire.shape)}.")
    pads = _pads(path, padding, wire.shape[:-1], kernel.shape[:-2], strides, dilation)
    kernel, dilation, symmetric = _symmetric(path, kernel, pads, dilation)
    return _convolved(drawing, path, layer, wire, kernel, strides, dilation, symmetric)


def _each(value: Any, axes: int) -> tuple[int, ...]:
    if value is None or isinstance(value, int):
        return (1 if value is None else value,) * axes
    return tuple(int(n) for n in value)


def _pads(
    path: str, padding: Any, image: Shape, kernel: Shape, strides: Shape, dilation: Shape
) -> list[tuple[int, int]]:
    """(before, after) of each axis, as Flax has it."""
    extents = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise refused(path, f"holds a convolution with padding {padding!r}; NIR's are padded with zeros, or not.")
        return [(int(a), int(b)) for a, b in jax.lax.padtype_to_pads(image, extents, strides, padding)]
    if isinstance(padding, int):
        return [(padding, padding)] * len(image)
    return [(p, p) if isinstance(p, int) else (int(p[0]), int(p[1])) for p in padding]


def _symmetric(
    path: str, kernel: np.ndarray, pads: list[tuple[int, int]], dilation: Shape
) -> tuple[np.ndarray, Shape, Shape]:
    """(kernel, dilation, padding) of the same convolution with as much padding before as after.

    Zeros are put in front of the kernel, or behind it; between its entries in the place of a dilation where the padding
    does not differ by a multiple of that.
    """
    spaced = []
    for axis, ((low, high), d) in enumerate(zip(pads, dilation, strict=True)):
        if min(low, high) < 0:
            raise refused(path, f"holds a convolution with a padding below 0, {pads}.")
        if (high - low) % d:
            wide = np.zeros((*kernel.shape[:axis], d * (kernel.shape[axis] - 1) + 1, *kernel.shape[axis + 1 :]))
            wide[(slice(None),) * axis + (slice(None, None, d),)] = kernel
            kernel, d = wide.astype(kernel.dtype), 1
        spaced.append(d)
        more = abs(high - low) // d
        kernel = np.pad(
            kernel, [((more, 0) if high > low else (0, more)) if a == axis else (0, 0) for a in range(kernel.ndim)]
        )
    return kernel, tuple(spaced), tuple(max(pair) for pair in pads)


def _convolved(
    drawing: Drawing,
    path: str,
    layer: Any,
    wire: Wire,
    kernel: np.ndarray,
    strides: Shape,
    dilation: Shape,
    pads: Shape,
) -> Wire:
    """kernel[..., in / groups, out] ↦ W[out, in / groups, ...]."""
    nir, axes = drawing.nir, len(strides)
    weight = np.ascontiguousarray(np.moveaxis(kernel, (-1, -2), (0, 1)))
    bias = np.zeros(len(weight), weight.dtype) if layer.bias is None else _numbers(layer.bias[...])
    groups = getattr(layer, "feature_group_count", 1)
    image = wire.shape[:-1]
    if axes == 1:
        node = nir.Conv1d(image[0], weight, strides[0], pads[0], dilation[0], groups, bias)
    else:
        node = nir.Conv2d(tuple(image), weight, tuple(strides), tuple(pads), tuple(dilation), groups, bias)
    return drawing.add(path, node, wire, _verify(path, layer, node, wire.shape))


def _verify(path: str, layer: Any, node: Any, shape: Shape) -> Shape:
    """Compares a layer with what a reader makes of its node; the shape of what comes out, channels last.

    Raises:
      ValueError: they differ.
    """
    given = first(shape)
    read, made = LINEAR[type(node).__name__](path, node, given, Convention())
    x = functions.random(shape, 7)
    # What one layer rounds to bfloat16, say, is no difference.
    if not functions.close(layer(x), read(x), getattr(layer, "dtype", None)):
        raise refused(
            path,
            f"holds a {type(layer).__name__} that computes something else than its kernel, bias, strides and padding "
            "say. Does it have a dot_general or conv_general_dilated of its own?",
        )
    return last(made)


def _function(drawing: Drawing, path: str, layer: Any, wire: Wire) -> Wire:
    found = functions.recognised(path, layer, wire.shape)
    return _found(drawing, path, found, wire)


def _found(drawing: Drawing, path: str, found: functions.Found, wire: Wire) -> Wire:
    numbers = found.numbers
    if found.kind == "scale":
        return wire if np.all(numbers == 1) else drawing.scaled(path, wire, numbers)
    if found.kind == "order":
        return _flattened(drawing, path, wire, numbers)
    if found.kind == "pool":
        window, strides, pads, factor = numbers
        return _pooled(drawing, path, wire, window, strides, pads, factor)
    if found.kind == "mean":
        window = wire.shape[:-1]
        pooled = _pooled(drawing, path, wire, window, window, (0, 0), numbers)
        return _flattened(drawing, path, pooled, np.arange(wire.shape[-1]))
    weight, bias = numbers
    flat = _flattened(drawing, path, wire, np.arange(math.prod(wire.shape)))
    return _matrix(drawing, path, weight.T, bias if np.any(bias) else None, flat)


def _flattened(drawing: Drawing, path: str, wire: Wire, order: np.ndarray) -> Wire:
    """NIR flattens channels, rows, columns; `order` is in terms of rows, columns, channels."""
    if len(wire.shape) == 1:
        return dataclasses.replace(wire, order=order if wire.order is None else wire.order[order])
    shape = first(wire.shape)
    size = math.prod(shape)
    # Where entry i of rows, columns, channels is found among channels, rows, columns.
    where = np.moveaxis(np.arange(size).reshape(shape), 0, -1).ravel()
    node = drawing.nir.Flatten(np.array(shape), 0, -1)
    return drawing.add(path, node, wire, (size,), where[order])


def _pooled(drawing: Drawing, path: str, wire: Wire, window: Shape, strides: Shape, pads: Shape, factor: float) -> Wire:
    nir, count = drawing.nir, math.prod(window)
    kind = nir.SumPool2d if factor == count and count > 1 else nir.AvgPool2d
    node = kind(*(np.array(numbers) for numbers in (window, strides, pads)))
    made = tuple((m + 2 * p - k) // s + 1 for m, p, k, s in zip(wire.shape, pads, window, strides, strict=False))
    pooled = drawing.add(path, node, wire, (*made, wire.shape[-1]))
    rest = factor / count if kind is nir.SumPool2d else factor
    return pooled if rest == 1 else drawing.scaled(path, pooled, rest)


def draw_joined(drawing: Drawing, path: str, layer: Any, wires: list[Wire]) -> Wire:
    """A sum of what a function makes of each of its inputs.

    Raises:
      ValueError: it is no such sum.
    """
    shapes = [wire.shape for wire in wires]
    parts = functions.sum_of(path, layer, shapes)
    drawn = [_found(drawing, path, part, wire) for part, wire in zip(parts, wires, strict=True)]
    return sum(drawn[1:], drawn[0])
