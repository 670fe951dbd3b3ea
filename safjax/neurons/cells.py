"""Spiking neurons as values: the constants of a neuron, and its transition of one time step.

    state, spikes = cell.step(state, current)

Constants are numbers, or arrays that broadcast to a sample; a gradient flows into those that are learned. States and
spikes are of float32 or wider, also where the currents are of bfloat16.
"""

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from safjax.neurons.firing import Surrogate, fire
from safjax.neurons.resets import Number, Reset, ResetTo, after_spikes, check_decay_input, check_reset, released
from safjax.precision import wide_zeros, widened


class Cell(Protocol):
    """One kind of neuron with its constants."""

    def start(self, current: jax.Array) -> Any:
        """The state before the first step, for currents like this one."""
        ...

    def step(self, state: Any, current: jax.Array, detach_reset: bool = False) -> tuple[Any, jax.Array]:
        """(state[t−1], I[t]) ↦ (state[t], s[t]); `detach_reset` makes the reset's spike a constant.

        A cell may also have a method records(state[t−1], I[t], state[t], s[t]) ↦ {name: [B, ...]}: what `simulate` can
        record of it by these names, and losses can be given, beside "spikes" and "current". And a method
        silent(state[t−1], I[t], held) ↦ state[t] of a step in which it may not fire, for `RefractoryCell`.
        """
        ...


@dataclasses.dataclass(frozen=True)
class LIFCell:
    """Leaky integrate-and-fire.

        u[t] = λ m[t−1] + I[t],   s[t] = H(u[t] − θ),   m[t] = u[t] − ρθ s[t]

    or, reset to a value v, m[t] = (1 − s[t]) u[t] + s[t] v; and, with decayed input, u[t] = λ m[t−1] + (1 − λ) I[t].

    Attributes:
      decay: λ ∈ [0, 1]; 1 is no leak.
      threshold: θ > 0.
      surrogate: the spike function x ↦ H(x).
      reset: ρ, what a spike subtracts in units of the threshold; `AfterDecay(ρ)`; `ResetTo(v)`; or None, no reset.
      floor: lower clamp of u; None for none. Where it holds, no gradient passes.
      max_spikes: the most spikes in a step, see `fire`; None for any number.
      scaled: whether spikes travel with the height ρθ instead of 1; s itself is counted in spikes.
      decay_input: whether the current is multiplied by 1 − λ.

    Raises:
      ValueError: a reset to a value together with several spikes a step, or with scaled ones; decayed input without
        leak.
    """

    decay: Number
    threshold: Number
    surrogate: Surrogate
    reset: Reset = 1.0
    floor: float | None = None
    max_spikes: int | None = 1
    scaled: bool = False
    decay_input: bool = False

    def __post_init__(self) -> None:
        check_reset(type(self).__name__, self.reset, self.threshold, self.decay, self.max_spikes, self.scaled)
        check_decay_input(type(self).__name__, self.decay, self.decay_input)

    @property
    def release(self) -> Any:
        """What a spike does to the membrane, for `after_spikes`."""
        return released(self.reset, self.threshold, self.decay)

    @property
    def drop(self) -> Number:
        """What a spike takes from a membrane that is not reset to a value: ρθ, or ρθ / λ if after its decay."""
        assert not isinstance(self.reset, ResetTo)
        return self.release

    def fire(self, potential: jax.Array) -> jax.Array:
        """s[t] from u[t]."""
        return fire(potential, self.threshold, self.surrogate, self.max_spikes)

    def clamped(self, potential: jax.Array) -> jax.Array:
        """The floor where u does not lie above it, u elsewhere, also where u is not a number."""
        # Not jnp.maximum, whose gradient at a tie is a half; a silent neuron may tie at every step.
        return potential if self.floor is None else jnp.where(potential <= self.floor, self.floor, potential)

    def driven(self, current: jax.Array) -> jax.Array:
        """What a current adds to the membrane: I, or (1 − λ) I."""
        return (1 - self.decay) * widened(current) if self.decay_input else current

    def integrated(self, membrane: jax.Array, current: jax.Array) -> jax.Array:
        """u[t] from m[t−1] and I[t]."""
        return self.clamped(self.decay * membrane + self.driven(current))

    def start(self, current: jax.Array) -> jax.Array:
        """m[0] = 0."""
        return wide_zeros(current)

    def step(self, state: jax.Array, current: jax.Array, detach_reset: bool = False) -> tuple[jax.Array, jax.Array]:
        """(m[t−1], I[t]) ↦ (m[t], s[t])."""
        potential = self.integrated(state, current)
        spikes = self.fire(potential)
        reset = jax.lax.stop_gradient(spikes) if detach_reset else spikes
        return after_spikes(potential, reset, self.release), spikes

    def silent(self, state: jax.Array, current: jax.Array, held: bool) -> jax.Array:
        """m[t] of a step in which it may not fire: m[t−1] where it is held, else u[t]."""
        return state if held else self.integrated(state, current)

    def records(
        self, before: jax.Array, current: jax.Array, after: jax.Array, spikes: jax.Array
    ) -> dict[str, jax.Array]:
        """u[t] as "potential", m[t] as "membrane"."""
        del spikes
        return {"potential": self.integrated(before, current), "membrane": after}


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

    def body(state: Any, current: Any) -> tuple[Any, jax.Array]:
        return cell.step(state, currents if steps is not None else current, detach_reset)

    if state is None:
        state = cell.start(currents if steps is not None else currents[0])
    return jax.lax.scan(body, state, None if steps is not None else currents, steps)
