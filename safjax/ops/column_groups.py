"""Neighbouring columns of a convolution taken together, so that an image of few channels has more of them.

XLA's CPU compiler computes over channels, and fills a vector only if there are as many. Where g neighbouring columns
stand as one of g times as many channels, which is the same memory, the convolution is one from groups to groups:

    y[J, (b, o)] = Σ_{Q, a, c} x̄[J + Q, (a, c)] W[Q, (a, c), (b, o)],   W[Q, (a, c), (b, o)] = w[g Q + a − b, c, o]

for columns g J + b of the output and windows of ⌈(g + k − 1) / g⌉ groups. W is w, shifted by b and filled up with
zeros, so that ⌈(g + k − 1) / g⌉ g / k times as much is multiplied: of five columns in pairs 6/5. A NaN or an infinity
makes NaN of all columns that its group's windows meet, of no other image.
"""

import functools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def together(x: jax.Array, size: int) -> jax.Array:
    """x[..., columns, C] ↦ [..., columns / size, size · C]."""
    *lead, columns, channels = x.shape
    return x.reshape(*lead, columns // size, size * channels)


def apart(x: jax.Array, size: int) -> jax.Array:
    """The inverse of `together`."""
    *lead, groups, channels = x.shape
    return x.reshape(*lead, groups * size, channels // size)


def groups_of(columns: int, size: int) -> int:
    """How many groups the windows of `size` neighbouring outputs meet."""
    return -(-(size + columns - 1) // size)


def window_of_groups(window: Any, out: int, size: int) -> Any:
    """The `Window` from groups to groups, for `out` columns of the output.

    `size` divides these, the image's columns and the padding in front of them; strides and dilation of columns are 1.
    The padding behind is what the last groups of the output need.
    """
    columns, low, count = window.image[-1] // size, window.padding[-1][0] // size, groups_of(window.kernel[-1], size)
    return replace(
        window,
        image=(*window.image[:-1], columns),
        kernel=(*window.kernel[:-1], count),
        padding=(*window.padding[:-1], (low, out // size + count - 1 - columns - low)),
    )


def padded_to_groups(x: jax.Array, out: int, window: Any, size: int) -> tuple[jax.Array, Any]:
    """x̄ as far as windows of groups reach, in groups, and these windows; of any image and padding of columns."""
    columns, low = window.image[-1], window.padding[-1][0]
    needed = out + (groups_of(window.kernel[-1], size) - 1) * size
    places = [*((0, 0, 0) for _ in x.shape[:-2]), (low, needed - columns - low, 0), (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), places)
    padded = replace(window, image=(*window.image[:-1], needed), padding=(*window.padding[:-1], (0, 0)))
    return together(x, size), window_of_groups(padded, out, size)


def kernel_of_groups(w: jax.Array, size: int) -> jax.Array:
    """W, [*rows, columns, C, O] ↦ [*rows, groups, size · C, size · O]."""
    *rows, columns, channels, features = w.shape
    count = groups_of(columns, size)
    kept, zero = [(0, 0, 0)], jnp.zeros((), w.dtype)
    shifted = [
        lax.pad(w, zero, [*kept * len(rows), (b, count * size - columns - b, 0), *kept * 2]) for b in range(size)
    ]
    return jnp.stack(shifted, -2).reshape(*rows, count, size * channels, size * features)


def kernel_gradient(gradient: jax.Array, columns: int, size: int) -> jax.Array:
    """∂L/∂w of ∂L/∂W, the transpose of `kernel_of_groups`.

    [*rows, groups, size · C, size · O] ↦ [*rows, columns, C, O].
    """
    *rows, count, channels, features = gradient.shape
    parts = gradient.reshape(*rows, count * size, channels // size, size, features // size)
    return functools.reduce(jnp.add, (parts[..., b : b + columns, :, b, :] for b in range(size)))
