"""Stochastic parallelizable spiking neurons: leaky integration without reset, and random spikes; all steps at once.

Yarga & Wood, "Accelerating SNN training with stochastic parallelizable spiking neurons", 2023 (arXiv 2306.12666).
"""

import dataclasses

import jax

from safjax.neurons.filters import leaky_filter


@dataclasses.dataclass(frozen=True)
class SPSNCell:
    """`spsn` with its constants: a neuron that needs the whole sequence at once.

    Attributes:
      key, synaptic_decay, membrane_decay: as for `spsn`.
    """

    key: jax.Array
    synaptic_decay: float | jax.Array
    membrane_decay: float | jax.Array

    def fire_sequence(self, currents: jax.Array) -> jax.Array:
        """z[T, B, ...] of I[T, B, ...]."""
        return spsn(self.key, currents, self.synaptic_decay, self.membrane_decay)

    def sequence_records(self, currents: jax.Array, spikes: jax.Array) -> dict[str, jax.Array]:
        """v[T, B, ...] as "potential"."""
        del spikes
        return {"potential": spsn_potential(currents, self.synaptic_decay, self.membrane_decay)}


def spsn_potential(
    currents: jax.Array, synaptic_decay: jax.Array | float, membrane_decay: jax.Array | float
) -> jax.Array:
    """The membrane potential of an SPSN (arXiv 2306.12666); by itself, its readout that does not fire.

        i[t] = α i[t−1] + x[t],   v[t] = β v[t−1] + (1 − β) i[t]

    Args:
      currents: x[T, B, ...].
      synaptic_decay, membrane_decay: α, β ∈ [0, 1], as the decay of `leaky_filter`; exp(−Δt/τ) for a time constant τ.

    Returns:
      v[T, B, ...].

    Raises:
      ValueError: as `leaky_filter`.
    """
    return (1 - membrane_decay) * leaky_filter(leaky_filter(currents, synaptic_decay), membrane_decay)


def spsn(
    key: jax.Array,
    currents: jax.Array,
    synaptic_decay: jax.Array | float,
    membrane_decay: jax.Array | float,
    *,
    published_gradient: bool = False,
) -> jax.Array:
    """Stochastic parallelizable spiking neuron with sigmoid-Bernoulli spikes (arXiv 2306.12666).

        p[t] = σ(v[t]),   z[t] ~ Bernoulli(p[t]),   v of `spsn_potential`

    The gradient is straight-through, dz/dp := 1, so dz/dv = p (1 − p), that of E[z]. The authors' public code has
    dz/dp := p instead, so dz/dv = p² (1 − p).

    Args:
      key: the random key of this sequence; every step and neuron draws independently.
      currents, synaptic_decay, membrane_decay: as for `spsn_potential`.
      published_gradient: dz/dp := p, to reproduce the authors' code.

    Returns:
      z[T, B, ...] in {0, 1}.

    Raises:
      ValueError: as `leaky_filter`.
    """
    p = jax.nn.sigmoid(spsn_potential(currents, synaptic_decay, membrane_decay))
    constant = jax.lax.stop_gradient(p)
    spikes = jax.random.bernoulli(key, constant).astype(p.dtype)
    # p − p is exactly zero: the value is the spike, the gradient that of p.
    return spikes + (constant if published_gradient else 1) * (p - constant)
