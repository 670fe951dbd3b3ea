"""The arrays of a tree by their names, on the host: what a checkpoint holds of a net and of an optimizer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Arrays = dict[str, np.ndarray]


def variables(net: nnx.Module) -> nnx.State:
    """All variables of a net: parameters, statistics, counts and keys of random numbers."""
    return nnx.as_pure(nnx.state(net))


def to_arrays(tree: Any) -> Arrays:
    """Copies of all leaves by their paths, `features.layers.0.kernel`; of a random key, its numbers."""
    leaves, _ = jax.tree.flatten_with_path(jax.device_get(jax.tree.map(_numbers, tree)))
    # On CPU what `device_get` gives is the device's own buffer, which the next training step takes over.
    return {_name(path): np.array(leaf, copy=True) for path, leaf in leaves}


def from_arrays(like: Any, arrays: Arrays) -> Any:
    """Inverse of `to_arrays`: a tree as `like`, on the same devices, with other values.

    Raises:
      ValueError: the arrays are not those of such a tree.
    """
    leaves, structure = jax.tree.flatten_with_path(like)
    expected = {_name(path): leaf for path, leaf in leaves}
    if other := sorted(expected.keys() ^ arrays.keys()):
        raise ValueError(f"{', '.join(other)}: on one side only")
    return jax.tree.unflatten(structure, [_value(name, leaf, arrays[name]) for name, leaf in expected.items()])


def all_finite(arrays: Arrays) -> bool:
    """Whether no number is infinite or not a number."""
    return all(np.isfinite(array).all() for array in arrays.values())


def is_key(leaf: Any) -> bool:
    """Whether an array is of random keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _numbers(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def _value(name: str, leaf: Any, array: np.ndarray) -> jax.Array:
    numbers = _numbers(leaf)
    if (array.shape, array.dtype) != (numbers.shape, numbers.dtype):
        raise ValueError(f"{name} is {array.dtype}{list(array.shape)}, not {numbers.dtype}{list(numbers.shape)}")
    placed = jax.device_put(array, numbers.sharding) if numbers.committed else jnp.asarray(array)
    return jax.random.wrap_key_data(placed, impl=jax.random.key_impl(leaf)) if is_key(leaf) else placed
