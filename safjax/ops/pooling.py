"""Average pooling of channels-last arrays, and the arguments of all pooling."""

import functools
from collections.abc import Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from safjax.portable import by_platform
from safjax.precision import widened

Pads = tuple[tuple[int, int], ...]
"""Padding (low, high) of each spatial axis."""

Sizes = tuple[int, ...]
"""One number for each spatial axis."""


def avg_pool(
    x: jax.Array,
    window: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: str | Sequence[tuple[int, int]] = "VALID",
) -> jax.Array:
    """y[..., i, c] = (1 / |K|) Σ_{k ∈ K} x̄[..., s i + k, c]: the mean over windows K, x̄ the zero-padded input.

    The divisor is the full window size, also where the window overlaps the padding, as in the published networks.
    Windows that tile the input exactly are averaged by a reshape, which on CPU is faster forwards and backwards, and on
    GPUs no slower; on TPUs, which would have to lay the array out anew, they are added up as all others are.

    Args:
      x: [..., *spatial, C], any number of leading axes.
      window: the window's size along each spatial axis; its length is their number.
      strides: distance of neighbouring windows along each spatial axis; default `window`.
      padding: "VALID", "SAME", or (low, high) for each spatial axis.

    Returns:
      [..., *pooled, C]; of whole numbers and booleans, in float32.

    Raises:
      ValueError: if the arguments do not fit together or a window is larger than the padded input.
    """
    window, strides, pads = checked_window("avg_pool", x, window, strides, padding)
    # A sum of small whole numbers, uint8 for instance, would run over.
    x = x if jnp.issubdtype(x.dtype, jnp.inexact) else widened(x)
    lead = x.ndim - len(window) - 1
    spatial = x.shape[lead:-1]
    if not any(map(any, pads)) and strides == window and all(m % k == 0 for m, k in zip(spatial, window, strict=True)):
        tiled = functools.partial(_mean_of_tiles, window=window)
        # The mean of bfloat16 is taken in float32 by both.
        added = functools.partial(_mean_of_windows, window=window, strides=strides, pads=pads)
        return by_platform(x, tpu=lambda x: added(widened(x)).astype(x.dtype), default=tiled)
    return _mean_of_windows(x, window, strides, pads)


def _mean_of_tiles(x: jax.Array, window: tuple[int, ...]) -> jax.Array:
    lead = x.ndim - len(window) - 1
    split = [size for m, k in zip(x.shape[lead:-1], window, strict=True) for size in (m // k, k)]
    tiles = x.reshape(*x.shape[:lead], *split, x.shape[-1])
    return tiles.mean(axis=tuple(range(lead + 1, tiles.ndim - 1, 2)))


def _mean_of_windows(x: jax.Array, window: tuple[int, ...], strides: tuple[int, ...], pads: Pads) -> jax.Array:
    lead = [1] * (x.ndim - len(window) - 1)
    padding = [*((0, 0) for _ in lead), *pads, (0, 0)]
    total = lax.reduce_window(x, x.dtype.type(0), lax.add, (*lead, *window, 1), (*lead, *strides, 1), padding)
    return total / prod(window)


def global_avg_pool(x: jax.Array) -> jax.Array:
    """The mean over all spatial axes, x[N, *spatial, C] ↦ [N, C].

    Raises:
      ValueError: if x has no spatial axis.
    """
    if x.ndim < 3:
        raise ValueError(f"global_avg_pool takes x[N, *spatial, C], at least three axes; got shape {x.shape}.")
    return x.mean(axis=tuple(range(1, x.ndim - 1)))


def checked_window(
    name: str, x: jax.Array, window: Sequence[int], strides: Sequence[int] | None, padding: str | Sequence[Any]
) -> tuple[tuple[int, ...], tuple[int, ...], Pads]:
    """window, strides and padding of each spatial axis, as pooling takes them.

    Raises:
      ValueError: they do not fit together, or a window is larger than the padded input; it calls the function `name`.
    """
    window = tuple(window)
    strides = window if strides is None else tuple(strides)
    shape = f"got x of shape {x.shape} and window {window}"
    if not 0 < len(window) < x.ndim:
        raise ValueError(f"{name} takes x[..., *spatial, C] and one window size for each spatial axis; {shape}.")
    if len(strides) != len(window) or min(*window, *strides) < 1:
        raise ValueError(
            f"{name} takes one window size and one stride, both at least 1, for each spatial axis; {shape}, "
            f"strides {strides}. For 2×2 blocks write {name}(x, (2, 2))."
        )
    image = x.shape[-len(window) - 1 : -1]
    pads = _pads(name, padding, image, window, strides, shape)
    if any(m + sum(p) < k for m, p, k in zip(image, pads, window, strict=True)):
        raise ValueError(f"{name}'s window must fit into the padded input; {shape}, padding {padding}.")
    return window, strides, pads


def _pads(name: str, padding: str | Sequence[Any], image: Sizes, window: Sizes, strides: Sizes, shape: str) -> Pads:
    if isinstance(padding, str):
        if padding not in ("VALID", "SAME"):
            raise ValueError(f'{name} takes padding "VALID", "SAME" or (low, high) for each axis; got {padding!r}.')
        return tuple((int(low), int(high)) for low, high in lax.padtype_to_pads(image, window, strides, padding))
    pads = [tuple(p) for p in padding]
    if [len(p) for p in pads] != [2] * len(window):
        raise ValueError(f"{name} takes padding (low, high) for each spatial axis; {shape}, padding {padding}.")
    return tuple((int(low), int(high)) for low, high in pads)
