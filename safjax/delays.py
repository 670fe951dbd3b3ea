"""Delays of whole and of real-valued numbers of steps, of all steps of a sequence at once.

Every function takes x[K + T, B, ...], the K steps before the sequence in front of its T steps, and gives y[T, B, ...]:

    y[t] = Σ_{k ≤ K} w[k] x[t − k],   K the longest delay

with one w for each entry of a sample that delays d of broadcasting shape tell apart. A single step is a sequence of
T = 1. No step sees a later one, NaN or not.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def shifted(x: jax.Array, delays: jax.Array | int, longest: int) -> jax.Array:
    """y[t] = x[t − d], for whole d.

    Args:
      x: [K + T, B, ...].
      delays: d, of whole numbers in [0, K], of a shape that broadcasts to that of a sample.
      longest: K.
    """
    steps = len(x) - longest
    delays = jnp.asarray(delays)
    # A slice for each delay; what shares one is moved together.
    delays = delays.reshape((1,) * (x.ndim - 2 - delays.ndim) + delays.shape)
    move: Callable[..., Any] = functools.partial(_moved, longest=longest, steps=steps)
    for axis, size in enumerate(delays.shape):
        if size > 1:
            move = jax.vmap(move, (2 + axis, axis), 2 + axis)
    return move(x, delays)


def _moved(x: jax.Array, delay: jax.Array, longest: int, steps: int) -> jax.Array:
    return jax.lax.dynamic_slice_in_dim(x, longest - delay.reshape(()), steps)


def interpolated(x: jax.Array, delays: jax.Array, longest: int) -> jax.Array:
    """y[t] = (1 − f) x[t − n] + f x[t − n − 1], for d = n + f with n = ⌊d⌋; of d = K, n = K − 1 and f = 1.

    Args:
      x: [K + T, B, ...].
      delays: d in [0, K], of a shape that broadcasts to that of a sample.
      longest: K ≥ 1.
    """
    below, part = _parted(delays, longest)
    return (1 - part) * shifted(x, below, longest) + part * shifted(x, below + 1, longest)


def _parted(delays: jax.Array, longest: int) -> tuple[jax.Array, jax.Array]:
    below = jnp.clip(jnp.floor(jax.lax.stop_gradient(delays)), 0, longest - 1)
    return below.astype(jnp.int32), delays - below


def between_two(delays: jax.Array, longest: int) -> jax.Array:
    """w[k] of `interpolated`, [K + 1, *shape of d]."""
    below, part = _parted(delays, longest)
    steps = jnp.arange(longest + 1).reshape(-1, *(1,) * delays.ndim)
    return jnp.where(steps == below, 1 - part, 0) + jnp.where(steps == below + 1, part, 0)


def nearest(delays: jax.Array, longest: int) -> jax.Array:
    """w[k] = 1 where k is the whole number nearest to d, else 0, [K + 1, *shape of d]; without gradient."""
    steps = jnp.arange(longest + 1).reshape(-1, *(1,) * delays.ndim)
    return (steps == jnp.round(jax.lax.stop_gradient(delays))).astype(delays.dtype)


def gaussian(delays: jax.Array, width: jax.Array | float, longest: int) -> jax.Array:
    """w[k] ∝ exp(−(k − d)² / 2σ²), k = 0 ... K, of sum 1; [K + 1, *shape of d].

    The kernel of DCLS: Hammouamri, Khalfaoui-Hassani & Masquelier, "Learning delays in spiking neural networks using
    dilated convolutions with learnable spacings", ICLR 2024.

    Args:
      delays: d in [0, K].
      width: σ > 0.
      longest: K.
    """
    steps = jnp.arange(longest + 1, dtype=delays.dtype).reshape(-1, *(1,) * delays.ndim)
    return jax.nn.softmax(-0.5 * ((steps - delays) / jnp.asarray(width, delays.dtype)) ** 2, 0)


def weighed(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """y[t] = Σ_k w[k] x[t − k].

    Args:
      x: [K + T, B, ...].
      kernel: w[K + 1, ...], behind its first axis of a shape that broadcasts to that of a sample.
    """
    longest = len(kernel) - 1
    kernel = kernel.reshape(longest + 1, *(1,) * (x.ndim - kernel.ndim), *kernel.shape[1:])
    if len(x) == longest + 1:
        return jnp.sum(kernel[::-1] * x, 0, keepdims=True)
    return _summed(x, kernel, jnp.multiply)


def convolved(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """y_j[t] = Σ_k Σ_i w_ij[k] x_i[t − k].

    Args:
      x: [K + T, B, ..., in].
      kernel: w[K + 1, in, out].

    Returns:
      y[T, B, ..., out].
    """
    if len(x) == len(kernel):
        return jnp.einsum("k...i,kio->...o", x, kernel[::-1])[None]
    return _summed(x, kernel, lambda x, weight: x @ weight)


def _summed(x: jax.Array, kernel: jax.Array, product: Callable[[jax.Array, jax.Array], jax.Array]) -> jax.Array:
    """Σ_k product(x[t − k], w[k]) of all steps."""
    longest = len(kernel) - 1
    steps = len(x) - longest

    # What a term needs for its gradient is computed again, or x would be kept K + 1 times.
    @jax.checkpoint
    def add(total: jax.Array, term: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        weight, start = term
        return total + product(jax.lax.dynamic_slice_in_dim(x, start, steps), weight), None

    shape = jax.eval_shape(product, x[:steps], kernel[0])
    return jax.lax.scan(add, jnp.zeros(shape.shape, shape.dtype), (kernel, jnp.arange(longest, -1, -1)))[0]
