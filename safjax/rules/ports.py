"""Propagation of spikes whose errors come back on several ways: the base of online rules that are made of ports.

A current I[t] = f(w, s[t]) travels as one value with several ports (see `safjax.messages.Ported`). With e the error
that a neuron sends to a port,

    pass        hands fᵀ e to the same pass of what the current was made of; w gets nothing
    trace y     gives w the gradient of f(w, y) at the trace y of the input; the input gets nothing

So a rule is a choice of passes and of traces, of what neurons send to each, and of what readouts read. There is one
forward product for each synapse and step, one product back for each pass and one for each trace that somebody reads.
Additive weights count once, whatever the trace: db is the sum of the errors at the trace's port, and the trace of a
current has the bias once, as in the published codes.

Where f is applied to the result of another synapse, its error at the port y goes on, through f, to the weights of that.
"""

import abc
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from safjax.messages import Ported
from safjax.messages.ported import differentiated_as
from safjax.precision import widened
from safjax.rules.propagation import Course, SynapseFn
from safjax.rules.spikes import spiking_readout

Traces = tuple[jax.Array, ...]


class Remembered(NamedTuple):
    """A message in the hands of a `Delay`: its value and its traces."""

    value: jax.Array
    traces: Traces


class PortPropagation(abc.ABC):
    """What rules of ports have in common; messages are `Ported`.

    Attributes:
      passes: the names of the passes.
      traces: the names of the traces, in the order in which states hold them.
      leaky, instant: the ports that a leaky and an instantaneous readout read.
    """

    passes: ClassVar[tuple[str, ...]]
    traces: ClassVar[tuple[str, ...]]
    leaky: ClassVar[tuple[str, ...]]
    instant: ClassVar[tuple[str, ...]]
    accumulates = True
    affine = True
    per_weight = False
    recalls = True
    whole_sequence = False
    one_map: ClassVar[str | None] = None

    def message(self, value: jax.Array, traces: Traces, **passes: jax.Array) -> Ported:
        """What no weights have made yet: a value with its traces.

        Args:
          value: x[t].
          traces: of it, by order.
          **passes: x[t] as it is to be differentiated at single passes; at others it is `value`.
        """
        ports = {name: passes.get(name, value) for name in self.passes}
        ports.update(dict.fromkeys(self.traces, jax.lax.stop_gradient(value)))
        return Ported.of(ports, dict(zip(self.traces, jax.lax.stop_gradient(traces), strict=True)))

    def synapse(self, function: SynapseFn, weights: Any, *messages: Ported) -> Ported:
        fixed = jax.lax.stop_gradient(weights)
        value = function(fixed, *(message.value for message in messages))

        def through(name: str) -> jax.Array:
            return function(fixed, *(message.ports[name] for message in messages))

        ports = {name: differentiated_as(value, through(name)) for name in self.passes}
        for name in self.traces:
            learned = function(weights, *(message.traces[name] for message in messages))
            ports[name] = differentiated_as(value, learned + through(name))
        # Where no synapse follows before the next neuron these are unused, and the compiler drops their products.
        traces = {name: function(fixed, *(message.traces[name] for message in messages)) for name in self.traces}
        return Ported.of(ports, traces)

    def recall(self, state: Remembered, decay: float) -> Ported:
        del decay
        return self.message(*state)

    def keep(self, state: Any, message: Ported, decay: float) -> Remembered:
        del state, decay
        return Remembered(message.value, tuple(message.traces[name] for name in self.traces))

    def follows(self, course: Course) -> bool:
        # A trace is a constant of differentiation, whatever made it.
        del course
        return False

    def leaky_readout(self, state: Any, current: Ported, decay: float, course: Course) -> tuple[Any, jax.Array]:
        del course
        return spiking_readout(state, current.read(*self.leaky), decay)

    def instant_readout(self, state: Any, current: Ported, decay: float, course: Course) -> tuple[Any, jax.Array]:
        del decay, course
        return state, widened(current.read(*self.instant))


def slope(cell: Any, state: Any, current: jax.Array) -> jax.Array:
    """ds[t]/dI[t] of each neuron, its state before being what it is; a constant of differentiation."""

    def fired(current: jax.Array) -> jax.Array:
        return cell.step(state, current)[1]

    spikes, pull = jax.vjp(fired, widened(current))  # events may be whole numbers
    # Neurons do not see one another: ones give each its own derivative.
    return jax.lax.stop_gradient(pull(jnp.ones_like(spikes))[0])
