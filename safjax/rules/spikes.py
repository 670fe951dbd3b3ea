"""Propagation of spikes: messages are the spikes of this step, neurons follow their membrane.

Differentiated over the whole sequence this is back-propagation through time; differentiated step by step, with the
state of the step before as a constant, it is spatial learning through time (SLTT).
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from safjax.neurons import Cell, gain_step, leaky_readout_step, lif_step
from safjax.rules.propagation import Fired, SynapseFn


class ReadoutState(NamedTuple):
    """Membrane m and gain Λ of a leaky readout."""

    membrane: jax.Array
    gain: jax.Array


def spiking_readout(state: ReadoutState | None, current: jax.Array, decay: float) -> tuple[ReadoutState, jax.Array]:
    """`leaky_readout_step` together with its gain."""
    if state is None:
        state = ReadoutState(jnp.zeros_like(current), jnp.zeros((), current.dtype))
    gain = gain_step(state.gain, decay)
    membrane, output = leaky_readout_step(state.membrane, gain, current, decay)
    return ReadoutState(membrane, gain), output


@dataclasses.dataclass(frozen=True)
class SpikePropagation:
    """Spikes travel as plain arrays; a synapse is an ordinary function of them."""

    detach_reset: bool = False
    accumulates = False

    def encode(self, state: Any, x: jax.Array, decay: float, static: bool) -> tuple[Any, jax.Array]:
        del decay, static
        return state, x

    def synapse(self, function: SynapseFn, weights: Any, message: jax.Array) -> jax.Array:
        return function(weights, message)

    def neuron(self, state: jax.Array | None, current: jax.Array, cell: Cell) -> Fired:
        membrane = jnp.zeros_like(current) if state is None else state
        membrane, spikes = lif_step(membrane, current, cell, self.detach_reset)
        return Fired(membrane, spikes, spikes)

    def leaky_readout(self, state: Any, current: jax.Array, decay: float) -> tuple[Any, jax.Array]:
        return spiking_readout(state, current, decay)

    def instant_readout(self, state: Any, current: jax.Array, decay: float) -> tuple[Any, jax.Array]:
        del decay
        return state, current
