"""The LIF neuron followed by its accumulated spikes instead of its membrane, and readouts.

`accumulation_step` follows only the running sum of the neuron's own spikes, a[t] = λ a[t−1] + s[t], and is fed with the
input's running sum instead of the input: spike accumulation forwarding (SAF, Saiin et al., arXiv 2310.02772). It fires
the spikes of `LIFCell`.
"""

import jax

from safjax.neurons.cells import LIFCell


def gain_step(gain: jax.Array, decay: float | jax.Array) -> jax.Array:
    """Λ[t] = λ Λ[t−1] + 1: the weighted number of steps so far, Σ λᵏ."""
    return decay * gain + 1


def accumulation_step(
    accumulation: jax.Array, gain: jax.Array, potential: jax.Array, cell: LIFCell
) -> tuple[jax.Array, jax.Array]:
    """The LIF neuron, driven by accumulated input (SAF, arXiv 2310.02772, Sec. 4.1).

        s[t] = H(Λ[t] v[t] − ρθ λ a[t−1] − θ),   a[t] = λ a[t−1] + s[t]

    Λ v − ρθ λ a[t−1] is the membrane potential u[t] of `LIFCell`, so both fire alike.

    Args:
      accumulation: a[t−1], the neuron's own weighted spike count.
      gain: Λ[t].
      potential: v[t] = (Σ_{τ≤t} λ^{t−τ} I[τ]) / Λ[t], the weighted mean current.
      cell: λ, θ, ρ and the spike function; without floor.

    Returns:
      (a[t], s[t]).
    """
    kept = cell.decay * jax.lax.stop_gradient(accumulation)
    spikes = cell.fire(gain * potential - cell.drop * kept)
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
