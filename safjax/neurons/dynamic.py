"""LIF neurons whose threshold follows the distribution of their potentials (OSR)."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from safjax.neurons.cells import LIFCell
from safjax.neurons.firing import Surrogate
from safjax.neurons.resets import after_spikes, released
from safjax.precision import wide_zeros, widened


class LevelledState(NamedTuple):
    """Membrane, and z: where the threshold lies among potentials, in standard deviations; infinite before it is set."""

    membrane: jax.Array
    level: jax.Array


@dataclasses.dataclass(frozen=True)
class DynamicThresholdCell:
    """The threshold of each step is as far above the mean potential as that of the first, in standard deviations.

        u[t] = λ m[t−1] + I[t],   θ[t] = mean u[t] + z std u[t],   z = (θ − mean u[1]) / std u[1]
        s[t] = H(u[t] − θ[t]),    m[t] = u[t] − ρθ[t] s[t]

    or as `LIFCell` has it otherwise, with its floor, its reset to a value and its decayed input. Mean and standard
    deviation, that of a sample, n − 1, are over the whole layer; θ[t] is a constant of the gradient. As long as all
    potentials are alike, the threshold is θ, and z is that of the first step where they are not.

    Attributes:
      lif: λ, θ, ρ and the surrogate; of one spike a step.
      over: "batch", over all members as well, or "sample", each member by itself.
    """

    lif: LIFCell
    over: str

    @property
    def decay(self) -> float | jax.Array:
        """λ."""
        return self.lif.decay

    @property
    def surrogate(self) -> Surrogate:
        """The spike function."""
        return self.lif.surrogate

    def start(self, current: jax.Array) -> LevelledState:
        """m[0] = 0, and no level yet."""
        membrane = wide_zeros(current)
        return LevelledState(membrane, jnp.full(self._shape(membrane), jnp.inf, membrane.dtype))

    def step(
        self, state: LevelledState, current: jax.Array, detach_reset: bool = False
    ) -> tuple[LevelledState, jax.Array]:
        """((m, z)[t−1], I[t]) ↦ ((m, z)[t], s[t])."""
        potential = self._potential(state, current)
        threshold, level = self._threshold(state, potential)
        spikes = self.lif.surrogate(potential - threshold)
        reset = jax.lax.stop_gradient(spikes) if detach_reset else spikes
        release = released(self.lif.reset, threshold, self.lif.decay)
        return LevelledState(after_spikes(potential, reset, release), level), spikes

    def records(
        self, before: LevelledState, current: jax.Array, after: LevelledState, spikes: jax.Array
    ) -> dict[str, jax.Array]:
        """u[t] as "potential", m[t] as "membrane", θ[t] as "threshold", [B]."""
        del spikes
        potential = self._potential(before, current)
        threshold = jnp.broadcast_to(self._threshold(before, potential)[0].ravel(), len(potential))
        return {"potential": potential, "membrane": after.membrane, "threshold": threshold}

    def _potential(self, state: LevelledState, current: jax.Array) -> jax.Array:
        return widened(self.lif.integrated(state.membrane, current))

    def _shape(self, potential: jax.Array) -> tuple[int, ...]:
        return (len(potential), *(1,) * (potential.ndim - 1)) if self.over == "sample" else ()

    def _threshold(self, state: LevelledState, potential: jax.Array) -> tuple[jax.Array, jax.Array]:
        """θ[t] and z."""
        constant, shape = jax.lax.stop_gradient(potential), self._shape(potential)
        rows = constant.reshape(*shape[:1], -1)
        mean = jnp.mean(rows, -1)
        var = jnp.sum(jnp.square(rows - mean[..., None]), -1) / (rows.shape[-1] - 1)
        mean, deviation = mean.reshape(shape), jnp.sqrt(var).reshape(shape)
        threshold = jax.lax.stop_gradient(jnp.asarray(self.lif.threshold, constant.dtype))
        unset, alike = jnp.isinf(state.level), deviation == 0
        first = jnp.where(alike, jnp.inf, (threshold - mean) / jnp.where(alike, 1, deviation))
        level = jnp.where(unset, first, state.level)
        later = mean + jnp.where(unset, 0, state.level) * deviation
        return jnp.where(unset, threshold, later), level
