"""Delays of whole and of real-valued numbers of steps, of all steps of a sequence at once.

Every function takes x[K + T, B, ...], the K steps before the sequence in front of its T steps, and gives y[T, B, ...]:

    y[t] = Σ_{k ≤ K} w[k] x[t − k],   K the longest delay

with one w for each entry of a sample that delays d of broadcasting shape tell apart. A single step is a sequence of
T = 1. No step sees a later one, NaN or not.
"""

import functools
from collections.abc import Callable

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
    move: Callable = functools.partial(_moved, longest=longest, steps=steps)
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


def gaussian(delays: jax.Array, width: jax.Array | float, longest: int) -> jax.Array:
    """w[k] ∝ exp(−(k − d)² / 2σ²), k = 0 ... K, of sum 1; [K + 1, *shape of d].

    The kernel of DCLS: Hammouamri, Khalfaoui-Hassani & Masquelier, "Learning delays in spiking neural networks using
    dilated convolutions with learnable spacings", ICLR 2024, Eq. (8), there divided by its sum plus 1e-7.

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
    steps = len(x) - longest
    kernel = kernel.reshape(longest + 1, *(1,) * (x.ndim - kernel.ndim), *kernel.shape[1:])
    if steps == 1:
        return jnp.sum(kernel[::-1] * x, 0, keepdims=True)

    # What a term needs for its gradient is computed again, or x would be kept K + 1 times.
    @jax.checkpoint
    def add(total, term):
        weight, start = term
        return total + weight * jax.lax.dynamic_slice_in_dim(x, start, steps), None

    zeros = jnp.zeros((steps, *x.shape[1:]), jnp.result_type(kernel, x))
    return jax.lax.scan(add, zeros, (kernel, jnp.arange(longest, -1, -1)))[0]
