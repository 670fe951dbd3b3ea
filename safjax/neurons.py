"""Neurons and readouts as pure state transitions, one time step each.

Notation of the whole library: u membrane potential before the reset, m = u − θ s membrane after it, s spikes in {0, 1},
I input current, λ decay, θ threshold, all arrays of one shape [B, ...]. The state before the first step is zero.

Two forms of one neuron are here. `lif_step` follows the membrane. `accumulation_step` follows only the running sum of
the neuron's own spikes, a[t] = λ a[t−1] + s[t], and is fed with the input's running sum instead of the input: spike
accumulation forwarding (SAF, Saiin et al., arXiv 2310.02772). Both fire the same spikes.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax


class Cell(NamedTuple):
    """The constants of a neuron: decay λ ∈ [0, 1] (1: no leak), threshold θ > 0, spike function x ↦ s."""

    decay: float
    threshold: float
    surrogate: Callable[[jax.Array], jax.Array]


def lif_step(
    membrane: jax.Array, current: jax.Array, cell: Cell, detach_reset: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Leaky integrate-and-fire with subtractive reset.

        u[t] = λ m[t−1] + I[t],   s[t] = H(u[t] − θ),   m[t] = u[t] − θ s[t]

    Args:
      membrane: m[t−1].
      current: I[t].
      cell: λ, θ and the spike function.
      detach_reset: treat s[t] in the reset as a constant of differentiation.

    Returns:
      (m[t], s[t]).
    """
    potential = cell.decay * membrane + current
    spikes = cell.surrogate(potential - cell.threshold)
    reset = jax.lax.stop_gradient(spikes) if detach_reset else spikes
    return potential - cell.threshold * reset, spikes


def gain_step(gain: jax.Array, decay: float) -> jax.Array:
    """Λ[t] = λ Λ[t−1] + 1: the weighted number of steps so far, Σ λᵏ."""
    return decay * gain + 1


def accumulation_step(
    accumulation: jax.Array, gain: jax.Array, potential: jax.Array, cell: Cell
) -> tuple[jax.Array, jax.Array]:
    """The same neuron, driven by accumulated input (SAF, arXiv 2310.02772, Sec. 4.1).

        s[t] = H(Λ[t] v[t] − θ (1 + λ a[t−1])),   a[t] = λ a[t−1] + s[t]

    Λ v − θ λ a[t−1] is the membrane potential u[t] of `lif_step`, so both fire alike.

    Args:
      accumulation: a[t−1], the neuron's own weighted spike count.
      gain: Λ[t].
      potential: v[t] = (Σ_{τ≤t} λ^{t−τ} I[τ]) / Λ[t], the weighted mean current.
      cell: λ, θ and the spike function.

    Returns:
      (a[t], s[t]).
    """
    kept = cell.decay * jax.lax.stop_gradient(accumulation)
    spikes = cell.surrogate(gain * potential - cell.threshold * (1 + kept))
    return kept + spikes, spikes


def leaky_readout_step(
    membrane: jax.Array, gain: jax.Array, current: jax.Array, decay: float
) -> tuple[jax.Array, jax.Array]:
    """A membrane that never fires, read as a weighted mean.

        m[t] = λ m[t−1] + I[t],   o[t] = m[t] / Λ[t]

    `gain` is Λ[t]. Returns (m[t], o[t]).
    """
    membrane = decay * membrane + current
    return membrane, membrane / gain
