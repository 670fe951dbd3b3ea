"""Spiking neurons as values: the constants of a neuron, and its transition of one time step.

    state, spikes = cell.step(state, current)

Constants are numbers, or arrays that broadcast to a sample; a gradient flows into those that are learned. States and
spikes are of float32 or wider, also where the currents are of bfloat16.
"""

import dataclasses
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from safjax.neurons.firing import Surrogate, fire
from safjax.precision import wide_zeros

Number = float | jax.Array


class Cell(Protocol):
    """One kind of neuron with its constants."""

    def start(self, current: jax.Array) -> Any:
        """The state before the first step, for currents like this one."""
        ...

    def step(self, state: Any, current: jax.Array, detach_reset: bool = False) -> tuple[Any, jax.Array]:
        """(state[t−1], I[t]) ↦ (state[t], s[t]); `detach_reset` makes the reset's spike a constant.

        A cell may also have a method records(state[t−1], I[t], state[t], s[t]) ↦ {name: [B, ...]}: what `simulate` can
        record of it by these names, and losses can be given, beside "spikes" and "current".
        """
        ...


@dataclasses.dataclass(frozen=True)
class LIFCell:
    """Leaky integrate-and-fire with subtractive reset.

        u[t] = λ m[t−1] + I[t],   s[t] = H(u[t] − θ),   m[t] = u[t] − ρθ s[t]

    Attributes:
      decay: λ ∈ [0, 1]; 1 is no leak.
      threshold: θ > 0.
      surrogate: the spike function x ↦ H(x).
      reset: ρ, what a spike subtracts in units of the threshold.
      floor: lower clamp of u; None for none. Where it holds, no gradient passes.
      max_spikes: the most spikes in a step, see `fire`; None for any number.
      scaled: whether spikes travel with the height ρθ instead of 1; s itself is counted in spikes.
    """

    decay: Number
    threshold: Number
    surrogate: Surrogate
    reset: Number = 1.0
    floor: float | None = None
    max_spikes: int | None = 1
    scaled: bool = False

    @property
    def drop(self) -> Number:
        """ρθ, what a spike takes from the membrane."""
        return self.reset * self.threshold

    def fire(self, potential: jax.Array) -> jax.Array:
        """s[t] from u[t]."""
        return fire(potential, self.threshold, self.surrogate, self.max_spikes)

    def clamped(self, potential: jax.Array) -> jax.Array:
        """The floor where u does not lie above it, u elsewhere, also where u is not a number."""
        # Not jnp.maximum, whose gradient at a tie is a half; a silent neuron may tie at every step.
        return potential if self.floor is None else jnp.where(potential <= self.floor, self.floor, potential)

    def start(self, current: jax.Array) -> jax.Array:
        """m[0] = 0."""
        return wide_zeros(current)

    def step(self, state: jax.Array, current: jax.Array, detach_reset: bool = False) -> tuple[jax.Array, jax.Array]:
        """(m[t−1], I[t]) ↦ (m[t], s[t])."""
        potential = self.clamped(self.decay * state + current)
        spikes = self.fire(potential)
        reset = jax.lax.stop_gradient(spikes) if detach_reset else spikes
        return potential - self.drop * reset, spikes

    def records(
        self, before: jax.Array, current: jax.Array, after: jax.Array, spikes: jax.Array
    ) -> dict[str, jax.Array]:
        """u[t] as "potential", m[t] as "membrane"."""
        del spikes
        return {"potential": self.clamped(self.decay * before + current), "membrane": after}


class CurrentState(NamedTuple):
    """Synaptic current and membrane."""

    current: jax.Array
    membrane: jax.Array


@dataclasses.dataclass(frozen=True)
class CurrentCell:
    """Current-based LIF: a synaptic filter before the membrane.

        i[t] = α i[t−1] + I[t],   then `LIFCell` on i[t]

    Attributes:
      lif: the membrane.
      synaptic_decay: α ∈ [0, 1].
    """

    lif: LIFCell
    synaptic_decay: Number

    def start(self, current: jax.Array) -> CurrentState:
        """i[0] = m[0] = 0."""
        return CurrentState(wide_zeros(current), self.lif.start(current))

    def step(
        self, state: CurrentState, current: jax.Array, detach_reset: bool = False
    ) -> tuple[CurrentState, jax.Array]:
        """((i, m)[t−1], I[t]) ↦ ((i, m)[t], s[t])."""
        filtered = self.synaptic_decay * state.current + current
        membrane, spikes = self.lif.step(state.membrane, filtered, detach_reset)
        return CurrentState(filtered, membrane), spikes

    def records(
        self, before: CurrentState, current: jax.Array, after: CurrentState, spikes: jax.Array
    ) -> dict[str, jax.Array]:
        """i[t] as "synaptic_current", and those of the membrane."""
        del current
        own = self.lif.records(before.membrane, after.current, after.membrane, spikes)
        return {"synaptic_current": after.current, **own}


class AdaptiveState(NamedTuple):
    """Membrane and adaptation."""

    membrane: jax.Array
    adaptation: jax.Array


@dataclasses.dataclass(frozen=True)
class AdaptiveCell:
    """LIF whose threshold rises with its own firing.

        b[t] = κ b[t−1] + s[t−1],   u[t] = λ m[t−1] + I[t],   s[t] = H(u[t] − θ − β b[t]),   m[t] = u[t] − θ s[t]

    Bellec et al., "A solution to the learning dilemma for recurrent networks of spiking neurons", 2020, Eq. (8)–(10).

    Attributes:
      decay: λ ∈ [0, 1].
      threshold: θ > 0, at rest.
      adaptation_decay: κ ∈ [0, 1].
      strength: β ≥ 0.
      surrogate: the spike function.
    """

    decay: Number
    threshold: Number
    adaptation_decay: Number
    strength: Number
    surrogate: Surrogate

    def start(self, current: jax.Array) -> AdaptiveState:
        """m[0] = b[1] = 0."""
        return AdaptiveState(wide_zeros(current), wide_zeros(current))

    def step(
        self, state: AdaptiveState, current: jax.Array, detach_reset: bool = False
    ) -> tuple[AdaptiveState, jax.Array]:
        """(m[t−1], b[t]; I[t]) ↦ (m[t], b[t+1]; s[t])."""
        potential = self.decay * state.membrane + current
        spikes = self.surrogate(potential - self.threshold - self.strength * state.adaptation)
        reset = jax.lax.stop_gradient(spikes) if detach_reset else spikes
        adaptation = self.adaptation_decay * state.adaptation + spikes
        return AdaptiveState(potential - self.threshold * reset, adaptation), spikes

    def records(
        self, before: AdaptiveState, current: jax.Array, after: AdaptiveState, spikes: jax.Array
    ) -> dict[str, jax.Array]:
        """u[t] as "potential", m[t] as "membrane", b[t] as "adaptation"."""
        del spikes
        potential = self.decay * before.membrane + current
        return {"potential": potential, "membrane": after.membrane, "adaptation": before.adaptation}


def run_cell(
    cell: Cell, currents: jax.Array, steps: int | None = None, detach_reset: bool = False, state: Any = None
) -> tuple[Any, jax.Array]:
    """A neuron over a whole sequence; differentiated by autodiff.

    Args:
      cell: the neuron.
      currents: I[T, B, ...], or one I[B, ...] for all steps.
      steps: T in the latter case, None in the former.
      detach_reset: as of `Cell.step`.
      state: before the first step, which an earlier call returned; None is that of `Cell.start`.

    Returns:
      (the last state, s[T, B, ...]).
    """

    def body(state, current):
        return cell.step(state, currents if steps is not None else current, detach_reset)

    if state is None:
        state = cell.start(currents if steps is not None else currents[0])
    return jax.lax.scan(body, state, None if steps is not None else currents, steps)
