"""Average pooling of channels-last arrays, with a cheap gradient for disjoint windows."""

from collections.abc import Sequence
from math import prod

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["avg_pool", "global_avg_pool"]


def avg_pool(
    x: jax.Array,
    window: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: str | Sequence[tuple[int, int]] = "VALID",
) -> jax.Array:
    """Mean over a sliding window."""
    n = len(window)
    window = tuple(window)
    strides = window if strides is None else tuple(strides)
    spatial = x.shape[-n - 1 : -1]
    lead = x.ndim - n - 1
    if strides == window and padding == "VALID" and all(s % k == 0 for s, k in zip(spatial, window, strict=True)):
        split = [m for s, k in zip(spatial, window, strict=True) for m in (s // k, k)]
        y = x.reshape(*x.shape[:lead], *split, x.shape[-1])
        return y.mean(axis=tuple(range(lead + 1, lead + 2 * n, 2)))
    ones = (1,) * lead
    if not isinstance(padding, str):
        padding = [(0, 0)] * lead + [tuple(p) for p in padding] + [(0, 0)]
    total = lax.reduce_window(x, jnp.zeros((), x.dtype), lax.add, (*ones, *window, 1), (*ones, *strides, 1), padding)
    return total / prod(window)


def global_avg_pool(x: jax.Array) -> jax.Array:
    """Mean over the spatial axes of ``[batch, *spatial, channel]``."""
    return x.mean(axis=tuple(range(1, x.ndim - 1)))
