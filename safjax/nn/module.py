"""Spiking modules: Flax NNX modules whose computation a rule decides and whose state belongs to a sequence."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from safjax.messages import is_message
from safjax.rules.propagation import Propagation


class NeuronState(nnx.Variable):
    """State of a spiking module that changes from step to step and is zero before the first."""


class Observation(nnx.Variable):
    """What a neuron reports of one step: its firing rate, or its spikes."""


@dataclasses.dataclass(frozen=True)
class Binding:
    """What a spiking module is told when its net meets a rule.

    Attributes:
      rule: the rule's name, for messages to the user.
      propagation: how synapses, neurons and readouts compute under the rule.
      decay: the net's one decay λ; None where it has several.
      static: whether the input is one image for all steps.
      path: the module's own path in the net.
      observe: what a neuron reports of its spikes.
      discovering: true while shapes are being found out; what may not happen at all is refused then.
    """

    rule: str
    propagation: Propagation
    decay: float | None
    static: bool
    path: str
    observe: Callable[[jax.Array], jax.Array]
    discovering: bool


class SpikingModule(nnx.Module):
    """Base of all modules that act differently under different rules."""

    binding: Binding | None = None

    def bound(self) -> Binding:
        """This module's binding.

        Raises:
          RuntimeError: the module was called outside a rule.
        """
        if self.binding is None:
            raise RuntimeError(
                f"{type(self).__name__} was called by itself. What a spiking layer computes depends on the rule and on "
                "time, so a spiking net is run by safjax.predict(net, x, steps), safjax.value_and_grad(loss, rule, "
                "steps)(net, x, ...) or safjax.train_step(...)."
            )
        return self.binding

    def start_sequence(self) -> None:
        """Called once before the first step of every sequence; modules that draw at random do so here."""

    def message(self, x: Any) -> Any:
        """x as a message of the rule: a plain array is this step's input and is encoded."""
        binding = self.bound()
        if is_message(x) or not binding.propagation.accumulates:
            return x
        assert binding.decay is not None
        state, message = binding.propagation.encode(self.read("encoder"), x, binding.decay, binding.static)
        self.write("encoder", state)
        return message

    def read(self, name: str) -> Any:
        """The state `name`; None before the first step."""
        variable = getattr(self, name, None)
        if variable is not None and self.bound().discovering:
            raise ValueError(
                f"{type(self).__name__} at '{self.bound().path}' is called twice in one time step, but it has one "
                "state. Give each place in the net a module of its own."
            )
        return None if variable is None else variable.get_value()

    def write(self, name: str, value: Any) -> None:
        """Stores the state `name` for the next step; None stores nothing."""
        if value is None:
            return
        variable = getattr(self, name, None)
        if variable is None:
            setattr(self, name, NeuronState(value))
        else:
            variable.set_value(value)
