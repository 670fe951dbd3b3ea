"""The contract between a rule and the layers: what travels, and how synapses, neurons and readouts treat it.

Every method is a pure function. States are None before the first step; a method that meets None starts from zeros, so
nobody else needs to know shapes. f(w, x) is a synapse's function of its weights and its input.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

from safjax.neurons import Cell

SynapseFn = Callable[[Any, jax.Array], jax.Array]
State = Any
Message = Any


class Fired(NamedTuple):
    """What a neuron hands back: its new state, the message for the next layer, and its spikes s[t] for the record."""

    state: State
    message: Message
    spikes: jax.Array


class Propagation(Protocol):
    """What travels between layers under a rule, and how each kind of layer computes and differentiates it."""

    @property
    def accumulates(self) -> bool:
        """Whether messages are sums over time: then synapses must be affine and the net must have one decay."""
        ...

    def encode(self, state: State, x: jax.Array, decay: float, static: bool) -> tuple[State, Message]:
        """Turns a plain array, this step's input x[t], into a message; `static` says that x never changes."""
        ...

    def synapse(self, function: SynapseFn, weights: Any, message: Message) -> Message:
        """Applies f(w, ·) to a message."""
        ...

    def neuron(self, state: State, current: Message, cell: Cell) -> Fired:
        """One step of a spiking neuron."""
        ...

    def leaky_readout(self, state: State, current: Message, decay: float) -> tuple[State, jax.Array]:
        """o[t] = (Σ_{τ≤t} λ^{t−τ} I[τ]) / Λ[t]."""
        ...

    def instant_readout(self, state: State, current: Message, decay: float) -> tuple[State, jax.Array]:
        """o[t] = I[t]."""
        ...
