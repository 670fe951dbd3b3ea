"""LIF neurons whose threshold rises with their own firing."""

import dataclasses
from typing import Any, NamedTuple

import jax

from safjax.neurons.firing import Surrogate
from safjax.neurons.resets import (
    Number,
    Reset,
    ResetTo,
    after_spikes,
    check_decay_input,
    check_reset,
    released,
)
from safjax.precision import wide_zeros, widened


class AdaptiveState(NamedTuple):
    """Membrane and adaptation."""

    membrane: jax.Array
    adaptation: jax.Array


@dataclasses.dataclass(frozen=True)
class AdaptiveCell:
    """LIF whose threshold rises with its own firing.

        b[t] = κ b[t−1] + s[t−1],   u[t] = λ m[t−1] + I[t],   s[t] = H(u[t] − θ − β b[t]),   m[t] = u[t] − ρθ s[t]

    or, with a raised reset, m[t] = u[t] − ρ (θ + β b[t]) s[t].

    Bellec et al., "A solution to the learning dilemma for recurrent networks of spiking neurons", 2020, Eq. (8)–(10).

    Attributes:
      decay: λ ∈ [0, 1].
      threshold: θ > 0, at rest.
      adaptation_decay: κ ∈ [0, 1].
      strength: β ≥ 0.
      surrogate: the spike function.
      reset, decay_input: as of `LIFCell`; ρ in units of the threshold at rest.
      raised_reset: ρ in units of the raised threshold.

    Raises:
      ValueError: decayed input without leak; a raised reset that subtracts nothing.
    """

    decay: Number
    threshold: Number
    adaptation_decay: Number
    strength: Number
    surrogate: Surrogate
    reset: Reset = 1.0
    decay_input: bool = False
    raised_reset: bool = False

    def __post_init__(self) -> None:
        check_reset(type(self).__name__, self.reset, self.threshold, self.decay)
        check_raised_reset(type(self).__name__, self.reset, self.raised_reset)
        check_decay_input(type(self).__name__, self.decay, self.decay_input)

    def release(self, adaptation: jax.Array) -> Any:
        """What a spike does to the membrane where the adaptation is b[t], for `after_spikes`."""
        level = self.threshold + self.strength * adaptation if self.raised_reset else self.threshold
        return released(self.reset, level, self.decay)

    def integrated(self, membrane: jax.Array, current: jax.Array) -> jax.Array:
        """u[t] from m[t−1] and I[t]."""
        return self.decay * membrane + ((1 - self.decay) * widened(current) if self.decay_input else current)

    def start(self, current: jax.Array) -> AdaptiveState:
        """m[0] = b[1] = 0."""
        return AdaptiveState(wide_zeros(current), wide_zeros(current))

    def step(
        self, state: AdaptiveState, current: jax.Array, detach_reset: bool = False
    ) -> tuple[AdaptiveState, jax.Array]:
        """(m[t−1], b[t]; I[t]) ↦ (m[t], b[t+1]; s[t])."""
        potential = self.integrated(state.membrane, current)
        spikes = self.surrogate(potential - self.threshold - self.strength * state.adaptation)
        reset = jax.lax.stop_gradient(spikes) if detach_reset else spikes
        membrane = after_spikes(potential, reset, self.release(state.adaptation))
        return AdaptiveState(membrane, self.adaptation_decay * state.adaptation + spikes), spikes

    def silent(self, state: AdaptiveState, current: jax.Array, held: bool) -> AdaptiveState:
        """As of `LIFCell`; the adaptation decays in any case."""
        membrane = state.membrane if held else self.integrated(state.membrane, current)
        return AdaptiveState(membrane, self.adaptation_decay * state.adaptation)

    def records(
        self, before: AdaptiveState, current: jax.Array, after: AdaptiveState, spikes: jax.Array
    ) -> dict[str, jax.Array]:
        """u[t] as "potential", m[t] as "membrane", b[t] as "adaptation"."""
        del spikes
        potential = self.integrated(before.membrane, current)
        return {"potential": potential, "membrane": after.membrane, "adaptation": before.adaptation}


def check_raised_reset(owner: str, reset: Any, raised_reset: bool) -> None:
    """Refuses a raised reset that subtracts no number of thresholds.

    Raises:
      ValueError: no reset, or one to a value.
    """
    if raised_reset and (reset is None or isinstance(reset, ResetTo)):
        raise ValueError(
            f"{owner}(reset={reset}, raised_reset=True): a raised reset subtracts the threshold as high as it stands, "
            "but this reset subtracts no threshold. Write reset=1.0, or raised_reset=False."
        )
