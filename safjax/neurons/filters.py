"""Leaky integration of a whole sequence without a loop."""

import jax
import jax.numpy as jnp

from safjax.precision import widened

_Pair = tuple[jax.Array, jax.Array]


def leaky_filter(currents: jax.Array, decay: jax.Array | float) -> jax.Array:
    """Leaky integration of a whole sequence in O(log T) parallel steps.

        y[t] = λ y[t−1] + x[t] = Σ_{j≤t} λ^{t−j} x[j]

    By `jax.lax.associative_scan` of (a, x) ∘ (b, y) = (a b, b x + y). Unlike a convolution by FFT with too little
    padding, it never wraps around. On CPU it is slower than a `lax.scan` of the recurrence.

    Args:
      currents: x[T, B, ...].
      decay: λ ∈ [0, 1], a number or an array that broadcasts to [B, ...], for instance one decay a channel.

    Returns:
      y[T, B, ...], of float32 or wider.

    Raises:
      ValueError: decay is a Python number outside [0, 1], or an array that does not broadcast to [B, ...].
    """
    steps, currents = len(currents), widened(currents)
    if isinstance(decay, int | float) and not 0 <= decay <= 1:
        raise ValueError(
            f"leaky_filter(decay={decay!r}): decay is the fraction kept from one step to the next and must lie in "
            "[0, 1]; 1 means no leak. From a time constant τ in steps, decay = exp(−1/τ)."
        )
    shape = jnp.shape(decay)
    if not _broadcasts(shape, currents.shape[1:]):
        raise ValueError(
            f"leaky_filter(decay{list(shape)}): expected a number or an array that broadcasts to one step of the "
            f"currents, {list(currents.shape[1:])}."
        )
    dtype = jnp.result_type(currents, decay)
    # Size 1 where the decay is shared: its powers are computed once, not for every neuron.
    decays = jnp.broadcast_to(
        jnp.asarray(decay, dtype).reshape((1,) * (currents.ndim - len(shape)) + shape),
        (steps, *(1,) * (currents.ndim - 1 - len(shape)), *shape),
    )
    return jax.lax.associative_scan(_follow, (decays, currents.astype(dtype)))[1]


def _follow(earlier: _Pair, later: _Pair) -> _Pair:
    (a, x), (b, y) = earlier, later
    return a * b, b * x + y


def _broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    return len(shape) <= len(target) and all(
        a in (1, b) for a, b in zip(reversed(shape), reversed(target), strict=False)
    )
