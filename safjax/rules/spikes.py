"""Propagation of spikes: messages are the spikes of this step, neurons follow their membrane.

Differentiated over the whole sequence this is back-propagation through time; differentiated step by step, with the
state of the step before as a constant, it is spatial learning through time (SLTT).
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from safjax.gains import Gain
from safjax.narrow import slopes_kept_in
from safjax.neurons import Cell, leaky_readout_step
from safjax.neurons.recording import Pick, recorded
from safjax.precision import wide_zeros, widened
from safjax.rules.propagation import Course, Fired, SynapseFn


class ReadoutState(NamedTuple):
    """Mean current o of a leaky readout, what rounding has added to it, and gain Λ."""

    mean: jax.Array
    lost: jax.Array
    gain: Gain

    @classmethod
    def start(cls, current: jax.Array, decay: float) -> "ReadoutState":
        """Before the first of such currents."""
        return cls(wide_zeros(current), wide_zeros(current), Gain.start(current, decay))


def spiking_readout(state: ReadoutState | None, current: jax.Array, decay: float) -> tuple[ReadoutState, jax.Array]:
    """`leaky_readout_step` together with its gain."""
    if state is None:
        state = ReadoutState.start(current, decay)
    gain = state.gain.step(decay)
    mean, lost = leaky_readout_step(state.mean, state.lost, gain.of(current), current)
    return ReadoutState(mean, lost, gain), mean


def height(cell: Any) -> Any:
    """The height of a neuron's spikes where they travel with another one than 1, else None."""
    return cell.drop if getattr(cell, "scaled", False) else None


@dataclasses.dataclass(frozen=True)
class SpikePropagation:
    """Spikes travel as plain arrays; a synapse is an ordinary function of them.

    Attributes:
      detach_reset: leave the reset's spike out of the gradient.
      slopes: the number format in which slopes are kept for the backward pass; None for their own.
    """

    detach_reset: bool = False
    slopes: jnp.dtype | None = None
    accumulates = False
    affine = False
    one_decay = False
    per_weight = False
    learns_neurons = True
    recalls = True
    whole_sequence = False
    one_map: ClassVar[str | None] = None

    @property
    def inference(self) -> "SpikePropagation":
        return SpikePropagation()

    @property
    def refuses_as(self) -> "SpikePropagation":
        return SpikePropagation()

    def longest(self, decay: Any, dtype: jnp.dtype) -> None:
        del decay, dtype

    def refusal(self, cell: Any, current: jax.Array, course: Course) -> str | None:
        del current, course
        if hasattr(cell, "step"):
            return None
        return (
            "takes one step after the other, but these neurons look at all steps at once; they are trained by rules "
            "that go layer by layer"
        )

    def follows(self, course: Course) -> bool:
        del course
        return True

    def encode(self, state: Any, x: jax.Array, course: Course) -> tuple[Any, jax.Array]:
        del course
        return state, x

    def synapse(self, function: SynapseFn, weights: Any, *messages: jax.Array) -> jax.Array:
        return function(weights, *messages)

    def start(self, current: jax.Array, cell: Cell, course: Course) -> Any:
        del course
        return cell.start(current)

    def neuron(self, state: Any, current: jax.Array, cell: Cell, pick: Pick | None = None) -> Fired:
        with slopes_kept_in(self.slopes):
            after, spikes = cell.step(state, current, self.detach_reset)
        drop = height(cell)
        records = recorded(pick, cell, state, current, after, spikes)
        return Fired(after, spikes if drop is None else drop * spikes, spikes, records)

    def unlearned(self, record: str) -> str | None:
        del record
        return None

    def recall(self, state: jax.Array, decay: float) -> jax.Array:
        del decay
        return state

    def keep(self, state: Any, message: jax.Array, decay: float) -> jax.Array:
        del state, decay
        return message

    def leaky_readout(self, state: Any, current: jax.Array, decay: float, course: Course) -> tuple[Any, jax.Array]:
        del course
        return spiking_readout(state, current, decay)

    def instant_readout(self, state: Any, current: jax.Array, decay: float, course: Course) -> tuple[Any, jax.Array]:
        del decay, course
        return state, widened(current)
