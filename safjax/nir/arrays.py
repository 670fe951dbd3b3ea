"""The numbers of NIR's nodes, and their layout: NIR has channels first, safjax has them last."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Shape = tuple[int, ...]


def last(shape: Shape) -> Shape:
    """The shape of one example with channels last, [C, H, W] ↦ [H, W, C]; of one axis itself."""
    return (*shape[1:], *shape[:1])


def first(shape: Shape) -> Shape:
    """The shape of one example with channels first."""
    return (*shape[-1:], *shape[:-1])


def channels_last(array: Any) -> Any:
    """One example's array [C, ...] ↦ [..., C]."""
    return np.moveaxis(array, 0, -1) if np.ndim(array) > 1 else array


def channels_first(array: Any) -> Any:
    """One example's array [..., C] ↦ [C, ...]."""
    return np.moveaxis(array, -1, 0) if np.ndim(array) > 1 else array


def batch_last(x: jax.Array) -> jax.Array:
    """[B, C, ...] ↦ [B, ..., C]."""
    return jnp.moveaxis(x, 1, -1)


def batch_first(x: jax.Array) -> jax.Array:
    """[B, ..., C] ↦ [B, C, ...]."""
    return jnp.moveaxis(x, -1, 1)


def shape_of(value: Any) -> Shape | None:
    """A shape as the types of nodes hold it, {"input": array}; None where it is not given."""
    value = next(iter(value.values()), None) if isinstance(value, dict) else value
    return None if value is None else tuple(int(n) for n in np.atleast_1d(np.asarray(value)))


def listed(shape: Shape) -> str:
    """As messages write it."""
    return str(list(shape))


def field(name: str, node: Any, key: str, shape: Shape) -> np.ndarray:
    """A number of neurons, float64 of the layer's shape, channels first; a single one is spread.

    Raises:
      ValueError: it has another shape, or is not finite.
    """
    array = np.asarray(getattr(node, key), np.float64)
    if array.size == 1:
        array = np.full(shape, array.item())
    if array.shape != shape:
        raise ValueError(
            f"from_nir: the {type(node).__name__} '{name}' is given what has the shape {listed(shape)}, channels "
            f"first, but its {key} has the shape {listed(array.shape)}: expected is one number for each neuron. "
            f"Spread it: np.full({shape}, ...)."
        )
    if not np.all(np.isfinite(array)):
        raise ValueError(f"from_nir: {key} of the {type(node).__name__} '{name}' is not finite everywhere.")
    return array


def uniform(array: np.ndarray) -> float | None:
    """The number that all entries are; None where they differ."""
    flat = array.ravel()
    return float(flat[0]) if flat.size and np.all(flat == flat[0]) else None


def number(array: np.ndarray) -> Any:
    """As a neuron takes it: a Python number, or a variable with one for each neuron, channels last."""
    same = uniform(array)
    return nnx.Variable(jnp.asarray(channels_last(array))) if same is None else same


def whole(name: str, node: Any, key: str, count: int) -> tuple[int, ...]:
    """Whole numbers of a node, one for each of `count` axes; a single one is that of all.

    Raises:
      ValueError: they are none.
    """
    array = np.atleast_1d(np.asarray(getattr(node, key)))
    array = np.repeat(array, count) if array.size == 1 else array
    if array.shape != (count,) or array.dtype.kind not in "iuf" or np.any(array != np.round(array)):
        raise ValueError(
            f"from_nir: {key} of the {type(node).__name__} '{name}' is {getattr(node, key)!r}; expected is a whole "
            f"number, or {count} of them."
        )
    return tuple(int(n) for n in array)
