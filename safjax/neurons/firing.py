"""The spike function of a neuron that may fire once or several times in a step."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

Surrogate = Callable[[jax.Array], jax.Array]


def taken_apart(surrogate: Surrogate) -> tuple[list[jax.Array], tuple[Any, tuple[Any, ...]]]:
    """The real-valued arrays that a spike function holds as a pytree, which may be learned, and all else of it."""
    leaves, structure = jax.tree.flatten(surrogate)
    learned = [isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves]
    kept = tuple(None if at else leaf for leaf, at in zip(leaves, learned, strict=True))
    return [leaf for leaf, at in zip(leaves, learned, strict=True) if at], (structure, kept)


def put_together(arrays: Sequence[jax.Array], rest: tuple[Any, tuple[Any, ...]]) -> Surrogate:
    """The spike function that `taken_apart` took apart, with these arrays."""
    (structure, kept), values = rest, iter(arrays)
    return jax.tree.unflatten(structure, [next(values) if leaf is None else leaf for leaf in kept])


def fire(
    potential: jax.Array, threshold: float | jax.Array, surrogate: Surrogate, max_spikes: int | None = 1
) -> jax.Array:
    """s = H(u − θ); with several spikes a step, s = min(⌊u/θ⌋, n) where u ≥ θ, else 0. NaN where u is NaN.

    The pseudo-derivative is the surrogate's at the distance to the nearest level kθ, k = 1 … n:
    ds/du = σ(u − kθ), ds/dθ = −k σ(u − kθ). For n = 1 this is the ordinary one.

    Args:
      potential: u, any shape.
      threshold: θ > 0, a number or an array that broadcasts to u.
      surrogate: x ↦ H(x) with its slope σ.
      max_spikes: n; None for any number.

    Example:
      >>> import jax.numpy as jnp
      >>> from safjax.neurons import fire
      >>> from safjax.surrogate import Exponential
      >>> fire(jnp.array([-3.0, 0.9, 1.0, 2.6, 7.0]), 1.0, Exponential(), max_spikes=3).tolist()
      [0.0, 0.0, 1.0, 2.0, 3.0]
    """
    if max_spikes == 1:
        return surrogate(potential - threshold)
    level = jax.lax.stop_gradient(jnp.clip(jnp.round(potential / threshold), 1, max_spikes))
    return level - 1 + surrogate(potential - level * threshold)
