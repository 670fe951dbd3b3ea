"""Weighted sums over time in which a NaN or an infinity reaches no step but those that see it.

As a matrix product a sum multiplies what a step does not see, later steps among it, by a zero of the matrix, and
0 · NaN is NaN. Such products are fast, and right where all is finite; so the sums that are not are taken once more,
term by term.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

# Timed on CPU with windows of k = 3 and k = 8: blocks of 8 steps were as fast as any longer ones.
_SHORTEST_BLOCK = 8


@jax.custom_jvp
def matrix_over_time(weight: jax.Array, currents: jax.Array) -> jax.Array:
    """h[t] = Σ_j W[t, j] x[j], over those j where W[t, j] is not 0.

    Args:
      weight: W[T, T].
      currents: x[T, B, ...].

    Returns:
      h[T, B, ...].
    """
    sums = jnp.tensordot(weight, currents, 1)

    def add(j, total):
        column = jnp.reshape(weight[:, j], (-1,) + (1,) * (currents.ndim - 1))
        return total + jnp.where(column == 0, 0, column * currents[j])

    return _where_finite(sums, lambda: jax.lax.fori_loop(0, len(currents), add, jnp.zeros_like(sums)))


@matrix_over_time.defjvp
def _matrix_jvp(primals, tangents):
    (weight, currents), (to_weight, to_currents) = primals, tangents
    change = jnp.tensordot(to_weight, currents, 1) + jnp.tensordot(weight, to_currents, 1)
    return matrix_over_time(weight, currents), change


@jax.custom_jvp
def window_over_time(weight: jax.Array, currents: jax.Array) -> jax.Array:
    """h[t] = Σ_{i<k} w[i] x[t − k + 1 + i], x being 0 before the start.

    Args:
      weight: w[k].
      currents: x[T, B, ...].

    Returns:
      h[T, B, ...].
    """
    sums, order = _in_blocks(weight, currents), len(weight)
    padded = jnp.pad(currents, [(order - 1, 0), *[(0, 0)] * (currents.ndim - 1)])

    def add(i, total):
        return total + weight[i] * jax.lax.dynamic_slice_in_dim(padded, i, len(currents))

    return _where_finite(sums, lambda: jax.lax.fori_loop(0, order, add, jnp.zeros_like(sums)))


@window_over_time.defjvp
def _window_jvp(primals, tangents):
    (weight, currents), (to_weight, to_currents) = primals, tangents
    change = _in_blocks(to_weight, currents) + _in_blocks(weight, to_currents)
    return window_over_time(weight, currents), change


def _in_blocks(weight, currents):
    """Blocks of c ≥ k steps are multiplied side by side, each together with its forerunner, by one matrix [c, 2c]."""
    steps = len(currents)
    weight = weight[-steps:]  # Earlier entries only meet zeros.
    block = max(len(weight), min(steps, _SHORTEST_BLOCK))
    count = -(-steps // block)
    padding = [(block, count * block - steps), *[(0, 0)] * (currents.ndim - 1)]
    blocks = jnp.pad(currents, padding).reshape(count + 1, block, -1)
    pairs = jnp.concatenate([blocks[:-1], blocks[1:]], 1)
    # One copy of the matrix for each block: a batched product runs without transposing the currents.
    band = jnp.broadcast_to(_band(weight, block), (count, block, 2 * block))
    return (band @ pairs).reshape(count * block, *currents.shape[1:])[:steps]


def _band(weight, block):
    """[c, 2c]: row t holds w[k] in columns c + t − k + 1 ... c + t, so that the last weight meets the present step."""
    entry = jnp.arange(2 * block) - jnp.arange(block)[:, None] - (block - len(weight) + 1)
    inside = (entry >= 0) & (entry < len(weight))
    return jnp.where(inside, weight[jnp.clip(entry, 0, len(weight) - 1)], 0)


def _where_finite(sums: jax.Array, term_by_term: Callable[[], jax.Array]) -> jax.Array:
    """`sums`, and where they are not finite those of `term_by_term`, which is called only then."""
    rows = sums.reshape(len(sums), -1)
    # A product with ones is the fastest way to look at every number: a reduction to one number runs on one core.
    finite = jnp.isfinite(jnp.ones((1, len(rows)), rows.dtype) @ rows).all()

    def again(state):
        done, sums = state
        return ~done, jnp.where(jnp.isfinite(sums), sums, term_by_term())

    # Not `lax.cond`, whose result would be a copy.
    return jax.lax.while_loop(lambda state: ~state[0], again, (finite, sums))[1]
