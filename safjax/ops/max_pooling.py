"""Max pooling of channels-last arrays, with a gradient of a few elementwise operations.

The stock gradient (`select_and_scatter`) walks over windows one by one, which on CPU took 20 to 25 % of the training
step of a small convolutional net. Here the forward pass keeps which entry of each window was the largest, in one byte,
and the backward pass hands the error to it.
"""

import functools
from collections.abc import Sequence
from itertools import product
from math import prod

import jax
import jax.numpy as jnp
from jax import lax

from safjax.long_rows import SHORT
from safjax.ops.blocks import blocks_of, by_blocks, has_placed_axes
from safjax.ops.pooling import Pads, Sizes, checked_window


def max_pool(
    x: jax.Array,
    window: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: str | Sequence[tuple[int, int]] = "VALID",
) -> jax.Array:
    """y[..., i, c] = max_{k ∈ K} x[..., s i + k, c]: the largest entry of each window K; padding is never the largest.

    Spikes tie often: of several largest entries the first one, in the order of rows, then columns, gets the whole
    gradient, as in PyTorch and in `flax.nnx.max_pool`. (`jnp.max` over a reshaped array divides it among them.) Where
    a window holds a NaN, the result is NaN.

    Args:
      x: [..., *spatial, C], any number of leading axes.
      window: the window's size along each spatial axis; its length is their number.
      strides: distance of neighbouring windows along each spatial axis; default `window`.
      padding: "VALID", "SAME", or (low, high) for each spatial axis, each less than the window.

    Returns:
      [..., *pooled, C] in the dtype of x.

    Raises:
      ValueError: the arguments do not fit together, a window is larger than the padded input or lies in the padding
        altogether, or has more than 256 entries.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from safjax.ops import max_pool
      >>> spikes = jnp.array([[0.0, 1.0], [1.0, 1.0]]).reshape(1, 2, 2, 1)
      >>> jax.grad(lambda x: max_pool(x, (2, 2)).sum())(spikes).ravel().tolist()
      [0.0, 1.0, 0.0, 0.0]
    """
    window, strides, pads = checked_window("max_pool", x, window, strides, padding)
    if prod(window) > 256:
        raise ValueError(
            f"max_pool's windows of {' × '.join(map(str, window))} have {prod(window)} entries, more than the 256 that "
            "one byte tells apart. Pool twice, or take x.max(axis=...) over whole axes."
        )
    if any(max(pad) >= k for pad, k in zip(pads, window, strict=True)):
        raise ValueError(
            f"max_pool was given padding {padding} with a window of {window}: a window that holds nothing but padding "
            "has no largest entry. Pad by less than the window's size."
        )
    return _max_pool(x, window, strides, pads)


# Compiled by a name of its own: refusals find it in the program, and call it what users call it.
@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _max_pool(x: jax.Array, window: Sizes, strides: Sizes, pads: Pads) -> jax.Array:
    lead = x.ndim - len(window) - 1
    flat = x.reshape(-1, *x.shape[lead:])
    y = _pooled(flat, window, strides, pads)
    return y.reshape(*x.shape[:lead], *y.shape[1:])


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _pooled(x: jax.Array, window: Sizes, strides: Sizes, pads: Pads) -> jax.Array:
    return _with_index(x, window, strides, pads)[0]


def _forward(x: jax.Array, window: Sizes, strides: Sizes, pads: Pads) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    # In blocks the compiler computes the place once, not for each entry of the gradient.
    one = 2 * prod(x.shape[1:]) * x.dtype.itemsize
    y, index = by_blocks(lambda x: _with_index(x, window, strides, pads), x, blocks_of(len(x), one) if len(x) else 1)
    return y, (index, jnp.zeros((0, *x.shape[1:]), x.dtype))


def _backward(
    window: Sizes, strides: Sizes, pads: Pads, residuals: tuple[jax.Array, jax.Array], error: jax.Array
) -> tuple[jax.Array]:
    index, like = residuals
    image = like.shape[1:-1]
    # Where types say how values are placed, the reshape of tiles is refused.
    if strides == window and not any(map(any, pads)) and not has_placed_axes(index):
        count = _gradient_blocks(index.shape[0], like)
        return (by_blocks(lambda kept: _to_tiles(kept[0], kept[1], window, image), (index, error), count),)
    return (_to_windows(index, error, window, strides, pads, image),)


_pooled.defvjp(_forward, _backward)


def _gradient_blocks(images: int, like: jax.Array) -> int:
    """In blocks, two at least, the gradient is computed once, and not again for each of its readers.

    Where loops run over many channels, computing it again is quicker than writing and reading it.
    """
    if like.shape[-1] >= SHORT:
        return 1
    return blocks_of(images, prod(like.shape[1:]) * like.dtype.itemsize, at_least=2)


def _with_index(x: jax.Array, window: Sizes, strides: Sizes, pads: Pads) -> tuple[jax.Array, jax.Array]:
    """(y, the place of the first largest entry in its window, counted row by row, as uint8)."""
    if any(map(any, pads)):
        x = lax.pad(x, _smallest(x.dtype), [(0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)])
    out = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:-1], window, strides, strict=True)]
    entries = []
    for offset in product(*map(range, window)):
        stops = [o + s * (m - 1) + 1 for o, s, m in zip(offset, strides, out, strict=True)]
        entries.append(lax.slice(x, (0, *offset, 0), (x.shape[0], *stops, x.shape[-1]), (1, *strides, 1)))
    largest = functools.reduce(jnp.maximum, entries)
    index = jnp.full(largest.shape, len(entries) - 1, jnp.uint8)
    for place in range(len(entries) - 2, -1, -1):
        index = jnp.where(entries[place] == largest, jnp.uint8(place), index)
    return largest, index


def _smallest(dtype: jnp.dtype) -> jax.Array:
    if jnp.issubdtype(dtype, jnp.inexact):
        return jnp.array(-jnp.inf, dtype)
    return jnp.array(False if dtype == jnp.bool_ else jnp.iinfo(dtype).min, dtype)


def _to_tiles(index: jax.Array, error: jax.Array, window: Sizes, image: Sizes) -> jax.Array:
    """The error at the entry that `index` names; windows tile the image, or all of it but its end."""
    # [N, i, 1, j, 1, C] against the places [1, k, 1, l]
    thin = [size for m in index.shape[1:-1] for size in (m, 1)]
    places = jnp.arange(prod(window), dtype=jnp.uint8).reshape([size for k in window for size in (1, k)])
    index, error = (a.reshape(len(a), *thin, a.shape[-1]) for a in (index, error))
    tiles = jnp.where(index == places[..., None], error, 0)
    covered = [m * k for m, k in zip(thin[::2], window, strict=True)]
    x = tiles.reshape(len(tiles), *covered, tiles.shape[-1])
    rest = [(0, n - c) for n, c in zip(image, covered, strict=True)]
    return jnp.pad(x, [(0, 0), *rest, (0, 0)]) if any(high for _, high in rest) else x


def _to_windows(
    index: jax.Array, error: jax.Array, window: Sizes, strides: Sizes, pads: Pads, image: Sizes
) -> jax.Array:
    """The same where windows overlap or leave gaps: the sum over the entries of a window."""
    total = jnp.zeros((), error.dtype)
    for place, offset in enumerate(product(*map(range, window))):
        chosen = jnp.where(index == place, error, 0)
        config = []
        for o, s, m, n, (low, _) in zip(offset, strides, index.shape[1:-1], image, pads, strict=True):
            before = o - low
            config.append((before, n - before - (s * (m - 1) + 1), s - 1))
        total = total + lax.pad(chosen, jnp.zeros((), error.dtype), [(0, 0, 0), *config, (0, 0, 0)])
    return total
