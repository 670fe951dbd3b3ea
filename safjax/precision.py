"""Number formats: sums over time are kept in float32 or wider, whatever the layers between them compute in.

A layer of dtype bfloat16 hands on currents of 8 significant bits. Membranes, traces, accumulated spikes, gains and the
gradients that add up over the steps would lose what is added to them in such a format, so they are never kept in it.
"""

import jax
import jax.numpy as jnp


def wide_dtype(like: jax.Array) -> jnp.dtype:
    """float32 for narrower floats and for whole numbers, else the dtype of `like`."""
    return jnp.promote_types(like.dtype, jnp.float32)


def widened(x: jax.Array) -> jax.Array:
    """x in its `wide_dtype`; its gradient comes back in its own."""
    return x.astype(wide_dtype(x))


def wide_zeros(like: jax.Array) -> jax.Array:
    """The sum over no steps of arrays like this one: zeros in its `wide_dtype`."""
    return jnp.zeros_like(like, wide_dtype(like))
