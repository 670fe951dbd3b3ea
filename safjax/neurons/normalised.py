"""LIF neurons that fire by their batch-normalised potential (MPBN)."""

import dataclasses

import jax
import jax.numpy as jnp

from safjax.neurons.cells import LIFCell
from safjax.neurons.resets import Number, after_spikes
from safjax.precision import widened


@dataclasses.dataclass(frozen=True)
class NormalisedCell:
    """The potential is normalised before it fires, and stays as it is beside that.

        u[t] = λ m[t−1] + I[t],   û[t] = γ (u[t] − μ) / √(σ² + ε) + β,   s[t] = H(û[t] − θ),   m[t] = u[t] − ρθ s[t]

    or as `LIFCell` has it otherwise, with its reset and its decayed input.

    Attributes:
      lif: λ, θ, the reset and the surrogate, which acts on û.
      scale, shift: γ, β [features], the last axis.
      epsilon: ε.
      running: (μ, σ²) [features]; None takes those of u[t], over all axes but the last.
    """

    lif: LIFCell
    scale: Number
    shift: Number
    epsilon: float
    running: tuple[jax.Array, jax.Array] | None

    @property
    def decay(self) -> Number:
        """λ."""
        return self.lif.decay

    def start(self, current: jax.Array) -> jax.Array:
        """m[0] = 0."""
        return self.lif.start(current)

    def step(self, state: jax.Array, current: jax.Array, detach_reset: bool = False) -> tuple[jax.Array, jax.Array]:
        """(m[t−1], I[t]) ↦ (m[t], s[t])."""
        potential = widened(self.lif.integrated(state, current))
        spikes = self.lif.fire(self._normalised(potential))
        reset = jax.lax.stop_gradient(spikes) if detach_reset else spikes
        return after_spikes(potential, reset, self.lif.release), spikes

    def records(
        self, before: jax.Array, current: jax.Array, after: jax.Array, spikes: jax.Array
    ) -> dict[str, jax.Array]:
        """u[t] as "potential", û[t] as "normalised", m[t] as "membrane"; in training μ and σ² too, [features]."""
        del spikes
        potential = widened(self.lif.integrated(before, current))
        own = {"potential": potential, "normalised": self._normalised(potential), "membrane": after}
        if self.running is not None:
            return own
        mean, var = self._statistics(potential)
        return {**own, "batch_mean": mean, "batch_var": var}

    def _statistics(self, potential: jax.Array) -> tuple[jax.Array, jax.Array]:
        axes = range(potential.ndim - 1)
        mean = jnp.mean(potential, axes)
        # Not E[u²] − E[u]², which loses what is small against the mean.
        return mean, jnp.mean(jnp.square(potential - mean), axes)

    def _normalised(self, potential: jax.Array) -> jax.Array:
        mean, var = self._statistics(potential) if self.running is None else self.running
        return (potential - mean) * (self.scale * jax.lax.rsqrt(var + self.epsilon)) + self.shift
