"""Padded batches: of each member only its first steps count."""

from typing import Any

import jax
import jax.numpy as jnp


def going(lengths: jax.Array, steps: int) -> jax.Array:
    """Whether member b is still on its way at step t: t < lengths[b], [T, B]."""
    return jnp.arange(steps)[:, None] < lengths


def zeroed(which: jax.Array, tree: Any) -> Any:
    """Arrays whose first axes are those of `which`, with 0 where it is False, whatever stands there."""

    def one(x: jax.Array) -> jax.Array:
        return jnp.where(which.reshape(*which.shape, *(1,) * (x.ndim - which.ndim)), x, jnp.zeros((), x.dtype))

    return jax.tree.map(one, tree)


def by_member(which: jax.Array, x: jax.Array) -> jax.Array:
    """which[B] in a shape that goes with x[B, ...]."""
    return which.reshape(-1, *(1,) * (x.ndim - 1))


def last_of_each(tree: Any, lengths: jax.Array) -> Any:
    """Of arrays x[T, B, ...] what each member has at its own last step, [B, ...]; of one without steps the first."""

    def one(x: jax.Array) -> jax.Array:
        at = jnp.maximum(lengths - 1, 0).reshape(1, -1, *(1,) * (x.ndim - 2))
        return jnp.take_along_axis(x, at, 0)[0]

    return jax.tree.map(one, tree)


def placed(stacked: Any, last: Any, lengths: jax.Array) -> Any:
    """Arrays of all steps but the last, [T − 1, B, ...], with `last` [B, ...] where each member's own last step is."""

    def one(before: jax.Array, x: jax.Array) -> jax.Array:
        whole = jnp.concatenate([before, jnp.zeros_like(x)[None]])
        here = jnp.arange(len(whole))[:, None] == lengths - 1
        return jnp.where(here.reshape(*here.shape, *(1,) * (x.ndim - 1)), x, whole)

    return jax.tree.map(one, stacked, last)
