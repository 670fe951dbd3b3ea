"""Weighted sums over time in which a NaN or an infinity reaches no step but those that see it.

As a matrix product a sum multiplies what a step does not see, later steps among it, by a zero of the matrix, and
0 · NaN is NaN. Such products are fast, and right where all is finite; so the sums that are not are taken once more,
term by term.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from safjax.standing_in import with_gradient_of

# Timed on CPU with windows of k = 3 and k = 8: blocks of 8 steps were as fast as any longer ones.
_SHORTEST_BLOCK = 8


def matrix_over_time(weight: jax.Array, currents: jax.Array) -> jax.Array:
    """h[t] = Σ_j W[t, j] x[j], over those j where W[t, j] is not 0.

    Args:
      weight: W[T, T].
      currents: x[T, B, ...].

    Returns:
      h[T, B, ...].
    """
    rows = _rows(currents)
    constants = jax.lax.stop_gradient((weight, rows))

    def term(j: jax.Array) -> jax.Array:
        weight, rows = constants
        return jnp.where(weight[:, j, None] == 0, 0, weight[:, j, None] * rows[j])

    return _corrected(weight @ rows, term, len(rows)).reshape(currents.shape)


def _rows(currents: jax.Array) -> jax.Array:
    return currents.reshape(len(currents), math.prod(currents.shape[1:]))


def window_over_time(weight: jax.Array, currents: jax.Array) -> jax.Array:
    """h[t] = Σ_{i<k} w[i] x[t − k + 1 + i], x being 0 before the start.

    Args:
      weight: w[k].
      currents: x[T, B, ...].

    Returns:
      h[T, B, ...].
    """
    weight, pairs = weight[-len(currents) :], _pairs(currents, len(weight))
    block, constants = pairs.shape[1] // 2, jax.lax.stop_gradient((weight, pairs))

    def term(i: jax.Array) -> jax.Array:
        weight, pairs = constants
        return weight[i] * jax.lax.dynamic_slice_in_dim(pairs, block - len(weight) + 1 + i, block, 1)

    return _in_order(_corrected(_banded(weight, pairs), term, len(weight)), currents)


def _pairs(currents: jax.Array, order: int) -> jax.Array:
    """[blocks, 2c, n]: the steps in blocks of c ≥ k, each together with its forerunner."""
    steps = len(currents)
    block = max(1, min(max(order, _SHORTEST_BLOCK), steps))
    count = -(-steps // block)
    padding = [(block, count * block - steps), *[(0, 0)] * (currents.ndim - 1)]
    blocks = jnp.pad(currents, padding).reshape(count + 1, block, math.prod(currents.shape[1:]))
    return jnp.concatenate([blocks[:-1], blocks[1:]], 1)


def _banded(weight: jax.Array, pairs: jax.Array) -> jax.Array:
    """h[t] of all blocks side by side, [blocks, c, n]."""
    count, double, _ = pairs.shape
    # One copy of the matrix for each block: a batched product runs without transposing the currents.
    return jnp.broadcast_to(_band(weight, double // 2), (count, double // 2, double)) @ pairs


def _in_order(sums: jax.Array, currents: jax.Array) -> jax.Array:
    return sums.reshape(sums.shape[0] * sums.shape[1], *currents.shape[1:])[: len(currents)]


def _band(weight: jax.Array, block: int) -> jax.Array:
    """[c, 2c]: row t holds w[k] in columns c + t − k + 1 ... c + t, so that the last weight meets the present step."""
    entry = jnp.arange(2 * block) - jnp.arange(block)[:, None] - (block - len(weight) + 1)
    inside = (entry >= 0) & (entry < len(weight))
    return jnp.where(inside, weight[jnp.clip(entry, 0, len(weight) - 1)], 0)


def _corrected(sums: jax.Array, term: Callable[[jax.Array], jax.Array], count: int) -> jax.Array:
    """`sums` where they are finite, elsewhere Σ_{i<count} term(i); without a term computed if all are finite.

    Its derivatives are those of `sums`.
    """
    if not sums.size:
        return sums
    # A product with ones is the fastest way to look at every number: a reduction to one number runs on one core.
    ones = jnp.ones((*sums.shape[:-2], 1, sums.shape[-2]), sums.dtype)
    kept = jax.lax.stop_gradient(sums)
    finite = jnp.isfinite(ones @ kept).all()

    def correct(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        done, sums = state
        wrong = ~jnp.isfinite(sums)
        # What does not depend on `sums` the compiler would compute before the loop, whether it runs or not.
        start = jnp.where(wrong, 0, sums)
        return ~done, jax.lax.fori_loop(0, count, lambda i, s: s + jnp.where(wrong, term(i), 0), start)

    # A loop of one iteration or none works in place; the result of `lax.cond` would be a copy.
    corrected = jax.lax.while_loop(lambda state: ~state[0], correct, (finite, kept))[1]
    return with_gradient_of(corrected, sums)
