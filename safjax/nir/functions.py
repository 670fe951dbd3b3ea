"""Which nodes compute what an ordinary function computes: found out by calling it.

A function that its operations show to be affine is known by what it makes of zeros, of random numbers and of the
numbers 0, 1, 2 ...: whether it scales, reorders, pools, or, into a flat vector, multiplies by a matrix. Every finding
is compared with the function itself on random numbers, to the precision of their format.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from safjax.affine import nonaffine_operation
from safjax.nir.arrays import Shape
from safjax.nir.drawing import refused
from safjax.ops import avg_pool

Function = Callable[..., jax.Array]
LARGEST_MATRIX = 2**24
"""Entries of a matrix that a function is written as, at the most."""


class Found(NamedTuple):
    """What a function of one array is.

    Attributes:
      kind: "scale", "order", "pool", "mean" or "dense".
      numbers: factors; where entry i comes from; (window, strides, padding, factor); a factor; (W[in, out], bias).
    """

    kind: str
    numbers: Any


def wide() -> Any:
    """The number format in which functions are looked at."""
    return jnp.result_type(float)


def random(shape: Shape, seed: int = 0) -> jax.Array:
    """Two members of random numbers, [2, *shape]."""
    return jnp.asarray(np.random.default_rng(seed).normal(0, 1, (2, *shape)), wide())


def close(a: Any, b: Any, formats: Any = None) -> bool:
    """Whether two arrays are equal to the precision of the coarser format of both."""
    a, b = jnp.asarray(a), jnp.asarray(b)
    if a.shape != b.shape:
        return False
    formats = [f for f in (a.dtype, b.dtype, formats) if f is not None and jnp.issubdtype(f, jnp.floating)]
    eps = max(float(jnp.finfo(f).eps) for f in formats)
    size = float(jnp.max(jnp.abs(b))) if b.size else 0.0
    return bool(np.allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=0, atol=200 * eps * (1 + size)))


def checked_affine(path: str, function: Function, *shapes: Shape) -> Shape:
    """The shape of what an affine function makes of one example of each of its inputs.

    Raises:
      ValueError: it is not affine, or its result is no batch of examples.
    """
    inputs = tuple(jax.ShapeDtypeStruct((2, *shape), wide()) for shape in shapes)
    operation = nonaffine_operation(lambda _, xs: function(*xs), (), inputs)
    if operation is not None:
        raise refused(
            path,
            f"contains {operation}, for which NIR has no node. Its linear nodes are dense layers, convolutions, sum "
            "and average pooling, scaling and flattening; put a neuron in the place of a nonlinearity.",
        )
    made = jax.eval_shape(function, *inputs)
    if not hasattr(made, "shape") or made.shape[:1] != (2,):
        raise refused(
            path, "does not keep the batch on its leading axis, so that it is no function of single examples."
        )
    return tuple(made.shape[1:])


def recognised(path: str, function: Function, shape: Shape) -> Found:
    """What an affine function of one example of this shape is.

    Raises:
      ValueError: nothing that NIR has a node for.
    """
    made = checked_affine(path, function, shape)
    bias = np.asarray(function(jnp.zeros((2, *shape), wide())), np.float64)[0]
    found = None
    if not np.any(bias):
        found = _scale(function, shape, made) or _order(function, shape, made)
        found = found or _pool(function, shape, made) or _mean(function, shape, made)
    if found is None and len(made) == 1 and math.prod(shape) * made[0] <= LARGEST_MATRIX:
        found = _dense(function, shape, bias)
    if found is None:
        raise refused(
            path,
            f"makes {list(made)} of {list(shape)} by a function for which no node of NIR was found: it is no scaling, "
            "flattening, pooling with symmetric padding, nor a matrix into a flat vector of at most "
            f"{LARGEST_MATRIX:,} entries. Build it of nnx.Linear, nnx.Conv and avg_pool, one after the other in an "
            "nnx.Sequential.",
        )
    return found


def _scale(function: Function, shape: Shape, made: Shape) -> Found | None:
    if made != shape:
        return None
    # Of ones each entry is its own factor; that nothing else has a part in it is seen on random numbers.
    factors, x = np.asarray(function(jnp.ones((2, *shape), wide())), np.float64)[0], random(shape, 2)
    return Found("scale", factors) if close(function(x), jnp.asarray(factors, wide()) * x) else None


def _order(function: Function, shape: Shape, made: Shape) -> Found | None:
    if len(made) != 1 or made[0] != math.prod(shape):
        return None
    counted = jnp.arange(made[0], dtype=wide()).reshape(1, *shape)
    order = np.round(np.asarray(function(jnp.concatenate([counted, counted])))[0]).astype(int)
    if not np.array_equal(np.sort(order), np.arange(made[0])):
        return None
    x = random(shape, 3)
    return Found("order", order) if close(function(x), x.reshape(2, -1)[:, order]) else None


def _mean(function: Function, shape: Shape, made: Shape) -> Found | None:
    if len(shape) != 3 or made != shape[-1:]:
        return None
    x = random(shape, 4)
    mean = x.mean((1, 2))
    factor = _factor(function(x), mean)
    return Found("mean", factor) if close(function(x), factor * mean) else None


def _factor(y: jax.Array, x: jax.Array) -> float:
    """c of y = c x; a whole number where it is one to the precision of the format."""
    made, given = np.asarray(y, np.float64), np.asarray(x, np.float64)
    factor = float(np.sum(made * given) / max(np.sum(given * given), 1e-300))
    eps = float(jnp.finfo(wide()).eps)
    return float(round(factor)) if abs(factor - round(factor)) <= 50 * eps * max(1.0, abs(factor)) else factor


def _pool(function: Function, shape: Shape, made: Shape) -> Found | None:
    if len(shape) != 3 or len(made) != 3 or shape[-1] != made[-1]:
        return None
    windows = [_window(_reach(function, shape, axis), shape[axis], made[axis]) for axis in (0, 1)]
    if None in windows:
        return None
    window, strides, pads = zip(*(w for w in windows if w is not None), strict=True)
    x, padding = random(shape, 5), tuple((p, p) for p in pads)
    pooled = avg_pool(x, window, strides, padding)
    if pooled.shape[1:] != made:
        return None
    factor = _factor(function(x), pooled)
    return Found("pool", (window, strides, pads, factor)) if close(function(x), factor * pooled) else None


def _reach(function: Function, shape: Shape, axis: int) -> np.ndarray:
    """[made, given] of one axis: whether a row, or a column, reaches another one."""
    size = shape[axis]
    rows = np.zeros((size, *shape))
    at = np.moveaxis(rows, axis + 1, 1)
    at[np.arange(size), np.arange(size)] = 1
    y = np.asarray(function(jnp.asarray(rows, wide())))
    others = tuple(a for a in range(1, y.ndim) if a != axis + 1)
    return np.any(y != 0, others).T


def _window(reach: np.ndarray, size: int, made: int) -> tuple[int, int, int] | None:
    """(window, stride, padding) of which rows reach which."""
    widest = int(reach.sum(1).max())
    if made == 1:
        return (size, size, 0) if np.all(reach) else _first_window(reach, size, made, widest, (widest,))
    return _first_window(reach, size, made, widest, tuple(range(1, size + 1)))


def _first_window(
    reach: np.ndarray, size: int, made: int, widest: int, strides: tuple[int, ...]
) -> tuple[int, int, int] | None:
    given = np.arange(size)
    for window in range(max(widest, 1), widest + 3):
        for padding in range(window):
            for stride in strides:
                if (size + 2 * padding - window) // stride + 1 != made:
                    continue
                begins = np.arange(made)[:, None] * stride - padding
                if np.array_equal(reach, (given >= begins) & (given < begins + window)):
                    return window, stride, padding
    return None


def _dense(function: Function, shape: Shape, bias: np.ndarray) -> Found | None:
    weight = matrix(function, shape, bias)
    x = random(shape, 6)
    expected = jnp.asarray(np.asarray(x, np.float64).reshape(2, -1) @ weight + bias, wide())
    return Found("dense", (weight, bias)) if close(function(x), expected) else None


def matrix(function: Function, shape: Shape, bias: np.ndarray) -> np.ndarray:
    """[in, out] of a function into a flat vector, from what it makes of unit vectors."""
    size = math.prod(shape)
    units = jnp.eye(size, dtype=wide()).reshape(size, *shape)
    parts = [np.asarray(function(units[i : i + 256]), np.float64) for i in range(0, size, 256)]
    return np.concatenate(parts) - bias


def sum_of(path: str, function: Function, shapes: list[Shape]) -> list[Found]:
    """What a function of several arrays, affine in all of them together, makes of each; they are added up.

    Raises:
      ValueError: it is no such sum.
    """
    made = checked_affine(path, function, *shapes)
    zeros = [jnp.zeros((2, *shape), wide()) for shape in shapes]
    bias = np.asarray(function(*zeros), np.float64)[0]
    parts: list[Found] = []
    for i, shape in enumerate(shapes):

        def alone(x: jax.Array, i: int = i) -> jax.Array:
            rest = [jnp.zeros((len(x), *s), wide()) for s in shapes]
            return function(*rest[:i], x, *rest[i + 1 :]) - jnp.asarray(bias, wide())

        found = _scale(alone, shape, made) if not np.any(bias) else None
        if found is None and len(made) == 1 and math.prod(shape) * made[0] <= LARGEST_MATRIX:
            found = _dense(alone, shape, np.zeros(made))
            found = found and Found("dense", (found.numbers[0], bias if i == 0 else np.zeros(made)))
        if found is None:
            raise refused(
                path,
                f"joins its {len(shapes)} inputs by a function that is neither their weighted sum nor, into a flat "
                "vector, one of matrices. Give each input a Synapse of its own, and add up what they return.",
            )
        parts.append(found)
    return parts
