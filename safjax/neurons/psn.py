"""Parallel spiking neurons: learned weights over time in place of a membrane, no reset, all steps at once.

Fang et al., "Parallel spiking neurons with high efficiency and ability to learn long-term dependencies", 2023 (arXiv
2304.12760). In full (`psn`), masked (`psn` of a `masked_weight`) and sliding (`sliding_psn`, or step by step
`sliding_psn_step`). The firing threshold is the bias: H(W x + b) with b = −1 is a neuron of threshold 1.
"""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from safjax.neurons.firing import Surrogate
from safjax.neurons.over_time import matrix_over_time, window_over_time


@dataclasses.dataclass(frozen=True)
class PSNCell:
    """`psn` with its constants: a neuron that needs the whole sequence at once.

    Attributes:
      weight, bias, surrogate: as for `psn`.
    """

    weight: jax.Array
    bias: jax.Array
    surrogate: Surrogate

    def fire_sequence(self, currents: jax.Array) -> jax.Array:
        """s[T, B, ...] of I[T, B, ...]."""
        return psn(currents, self.weight, self.bias, self.surrogate)

    def sequence_records(self, currents: jax.Array, spikes: jax.Array) -> dict[str, jax.Array]:
        """h[T, B, ...] as "potential"."""
        del spikes
        return {"potential": _psn_potential(currents, self.weight, self.bias)}


@dataclasses.dataclass(frozen=True)
class SlidingPSNCell:
    """`sliding_psn` with its constants; goes step by step too.

    Attributes:
      weight, bias, surrogate: as for `sliding_psn`.
    """

    weight: jax.Array
    bias: jax.Array
    surrogate: Surrogate

    def start(self, current: jax.Array) -> jax.Array:
        """The k − 1 currents before the first step, zeros."""
        return jnp.zeros((len(self.weight) - 1, *current.shape), current.dtype)

    def step(self, state: jax.Array, current: jax.Array, detach_reset: bool = False) -> tuple[jax.Array, jax.Array]:
        """(queue, I[t]) ↦ (queue, s[t]); there is no reset."""
        del detach_reset
        return sliding_psn_step(state, current, self.weight, self.bias, self.surrogate)

    def fire_sequence(self, currents: jax.Array) -> jax.Array:
        """s[T, B, ...] of I[T, B, ...]."""
        return sliding_psn(currents, self.weight, self.bias, self.surrogate)

    def records(
        self, before: jax.Array, current: jax.Array, after: jax.Array, spikes: jax.Array
    ) -> dict[str, jax.Array]:
        """h[t] as "potential"."""
        del after, spikes
        window = jnp.concatenate([before, current[None]])
        return {"potential": jnp.tensordot(self.weight, window, 1) + self.bias}

    def sequence_records(self, currents: jax.Array, spikes: jax.Array) -> dict[str, jax.Array]:
        """h[T, B, ...] as "potential"."""
        del spikes
        return {"potential": window_over_time(*_alike(self.weight, currents)) + self.bias}


def psn(currents: jax.Array, weight: jax.Array, bias: jax.Array, surrogate: Surrogate) -> jax.Array:
    """Parallel spiking neuron (arXiv 2304.12760): every step sees every step, later ones too.

        h[t] = Σ_j W[t, j] x[j] + b[t],   s[t] = H(h[t])

    Args:
      currents: x[T, B, ...].
      weight: W[T, T], shared by all neurons.
      bias: b[T].
      surrogate: the spike function x ↦ s, such as `safjax.surrogate.Arctan()`.

    Returns:
      s[T, B, ...].

    Raises:
      ValueError: weight or bias do not fit the number of steps.
    """
    steps = len(currents)
    if jnp.shape(weight) != (steps, steps) or jnp.shape(bias) != (steps,):
        raise ValueError(
            f"psn(weight{_shape(weight)}, bias{_shape(bias)}): currents{_shape(currents)} have {steps} steps "
            f"(first axis), so expected weight[{steps}, {steps}] and bias[{steps}]. A PSN is made for one length of "
            "sequence; for any length take sliding_psn, and for batch-major currents jnp.moveaxis(currents, 1, 0)."
        )
    return surrogate(_psn_potential(currents, weight, bias))


def _psn_potential(currents: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    drive = matrix_over_time(*_alike(weight, currents))
    return drive + jnp.reshape(bias, (len(currents),) + (1,) * (drive.ndim - 1))


def masked_weight(weight: jax.Array, order: int, strength: jax.Array | float) -> jax.Array:
    """The weight of a masked PSN (arXiv 2304.12760): a band of the last k steps, blended in during training.

        W ∘ (ρ M + (1 − ρ) 1),   M[i, j] = 1 if i − k + 1 ≤ j ≤ i, else 0

    Args:
      weight: W[T, T].
      order: k ≥ 1, how many steps a neuron sees, the present one included.
      strength: ρ ∈ [0, 1]. 0: the full PSN. 1: causal, fit for step-by-step use. Training raises it from 0 to 1.

    Returns:
      The weight [T, T] for `psn`.

    Raises:
      ValueError: weight not square, order not an integer ≥ 1, or strength a Python number outside [0, 1].
    """
    shape = jnp.shape(weight)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"masked_weight(weight{_shape(weight)}): expected a square weight[T, T] over the time steps.")
    if not isinstance(order, int) or order < 1:
        raise ValueError(
            f"masked_weight(order={order!r}): expected an integer of at least 1, the number of steps that a neuron "
            "sees; 1 is the present step alone."
        )
    if isinstance(strength, int | float) and not 0 <= strength <= 1:
        raise ValueError(
            f"masked_weight(strength={strength!r}): expected a number in [0, 1], from 0 (no mask) to 1 (fully masked)."
        )
    band = jnp.tri(shape[0], dtype=weight.dtype) - jnp.tri(shape[0], k=-order, dtype=weight.dtype)
    return weight * (strength * band + (1 - strength))


def sliding_psn(currents: jax.Array, weight: jax.Array, bias: jax.Array | float, surrogate: Surrogate) -> jax.Array:
    """Sliding PSN (arXiv 2304.12760): the same k weights at every step, on the last k currents.

        h[t] = Σ_{i<k} w[i] x[t − k + 1 + i] + b,   x[t] = 0 before the start,   s[t] = H(h[t])

    Linear in T, without a loop, and the same affine map as `psn` with a Toeplitz matrix.

    Args:
      currents: x[T, B, ...], any T.
      weight: w[k]; the last entry weighs the present step.
      bias: b, a number.
      surrogate: the spike function x ↦ s.

    Returns:
      s[T, B, ...].

    Raises:
      ValueError: weight is not w[k] with k ≥ 1, or bias is not a single number.
    """
    _require_window("sliding_psn", weight, bias)
    return surrogate(window_over_time(*_alike(weight, currents)) + bias)


def sliding_psn_step(
    queue: jax.Array, current: jax.Array, weight: jax.Array, bias: jax.Array | float, surrogate: Surrogate
) -> tuple[jax.Array, jax.Array]:
    """One step of `sliding_psn`.

    Args:
      queue: the last k − 1 currents [k − 1, B, ...], the latest last; zeros before the first step.
      current: x[t], [B, ...].
      weight, bias, surrogate: as for `sliding_psn`.

    Returns:
      (queue with x[t] in the place of its oldest entry, s[t]).

    Raises:
      ValueError: weight is not w[k] with k ≥ 1, bias is not a number, or the queue does not fit weight and current.
    """
    _require_window("sliding_psn_step", weight, bias)
    expected = (len(weight) - 1, *current.shape)
    if queue.shape != expected:
        raise ValueError(
            f"sliding_psn_step(queue{_shape(queue)}): with weight{_shape(weight)} and "
            f"current{_shape(current)} it holds the last k − 1 = {expected[0]} currents, so expected the shape "
            f"{list(expected)}. Start from jnp.zeros({expected})."
        )
    window = jnp.concatenate([queue, current[None]])
    return window[1:], surrogate(jnp.tensordot(weight, window, 1) + bias)


def _alike(*arrays: jax.Array) -> Iterator[jax.Array]:
    return (jnp.asarray(array, jnp.result_type(*arrays)) for array in arrays)


def _require_window(name: str, weight: jax.Array, bias: ArrayLike) -> None:
    if jnp.ndim(weight) != 1 or len(weight) < 1:
        raise ValueError(
            f"{name}(weight{_shape(weight)}): expected weight[k] with k ≥ 1, one entry for each of the last k steps."
        )
    if jnp.ndim(bias) != 0:
        raise ValueError(f"{name}(bias{_shape(bias)}): expected one number for all steps; −1.0 is a threshold of 1.")


def _shape(array: ArrayLike) -> list[int]:
    """As messages write it: [3, 4]."""
    return list(jnp.shape(array))
