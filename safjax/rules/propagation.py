"""The contract between a rule and the layers: what travels, and how synapses, neurons and readouts treat it.

Every method is a pure function. A method that is given None for a state starts from zeros, except `neuron`, whose first
state is what `start` gives. So shapes are found by one call with None. A loop, whose carry keeps its form, is given
zeros of these shapes, and of neurons their start. f(w, *x) is a synapse's function of its weights and its inputs, one
or several.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from safjax.neurons.recording import Pick

SynapseFn = Callable[..., jax.Array]
State = Any
Message = Any


class Fired(NamedTuple):
    """What a neuron hands back: its new state, the message for the next layer, its spikes s[t], and its records."""

    state: State
    message: Message
    spikes: jax.Array
    records: Mapping[str, jax.Array] = MappingProxyType({})


class Course(NamedTuple):
    """How a sequence runs.

    Attributes:
      decay: the net's one decay λ; None where it has several.
      steps: T.
      batch: B.
      static: whether the input is one x[B, ...] for all steps, since the sequence began.
      open: whether the sequence goes on from call to call: it may have begun before this one, and its state is handed
        on.
      padded: whether members of the batch have lengths of their own.
      readout: the one decay of the net's leaky readouts, 0 where it has none; None where they differ or learn it.
      part_of: the steps of the call of which these are computed together; None where they are all of them.
    """

    decay: Any
    steps: int
    batch: int
    static: bool
    open: bool = False
    padded: bool = False
    readout: Any = None
    part_of: int | None = None

    @property
    def all_steps(self) -> int:
        """The steps of the call."""
        return self.steps if self.part_of is None else self.part_of


class Propagation(Protocol):
    """What travels between layers under a rule, and how each kind of layer computes and differentiates it."""

    @property
    def accumulates(self) -> bool:
        """Whether sums over time, constants of the gradient, stand for the steps before.

        Then a synapse must be the same map at every step.
        """
        ...

    @property
    def affine(self) -> bool:
        """Whether synapses must be affine. Where they need not be, one that is not has no weights, or `per_weight`."""
        ...

    @property
    def one_decay(self) -> bool:
        """Whether these sums are weighed by a decay, of which the net must have one then."""
        ...

    @property
    def per_weight(self) -> bool:
        """Whether these are derivatives by each weight, so that a weight must drive one neuron of each member."""
        ...

    @property
    def learns_neurons(self) -> bool:
        """Whether numbers that neurons hold, such as thresholds, have gradients too, and not only synapses' weights."""
        ...

    @property
    def recalls(self) -> bool:
        """Whether a message can be handed to the next step: `recall` and `keep`."""
        ...

    @property
    def whole_sequence(self) -> bool:
        """Whether messages hold all steps at once, so that the net is called once a sequence, time in the batch."""
        ...

    @property
    def one_map(self) -> str | None:
        """Of a rule of whole sequences whose synapses must be one affine map for all steps: what it does with those.

        The end of a sentence that begins with "the rule"; None where any function will do.
        """
        ...

    @property
    def inference(self) -> "Propagation":
        """That which runs the net step by step from the same states, whatever concerns gradients alone left out."""
        ...

    @property
    def refuses_as(self) -> "Propagation":
        """That which refuses the same nets in the same words: what concerns gradients alone is left out."""
        ...

    def longest(self, decay: Any, dtype: jnp.dtype) -> float | None:
        """The largest gain, in this format of its sums, up to which they are exact; None where they always are."""
        ...

    def refusal(self, cell: Any, current: Message, course: Course) -> str | None:
        """Why neurons of this kind cannot be trained on such currents, and by what they can; None if they can."""
        ...

    def follows(self, course: Course) -> bool:
        """Whether layers that made a plain array learn from what is accumulated of it; asked where that is done."""
        ...

    def encode(self, state: State, x: jax.Array, course: Course) -> tuple[State, Message]:
        """Turns a plain array, this step's input x[t], into a message."""
        ...

    def synapse(self, function: SynapseFn, weights: Any, *messages: Message) -> Message:
        """Applies f(w, ·) to the messages of one step, one or several."""
        ...

    def start(self, current: Message, cell: Any, course: Course) -> State:
        """The state of spiking neurons before the first step, for currents like this one."""
        ...

    def neuron(self, state: State, current: Message, cell: Any, pick: Pick | None = None) -> Fired:
        """One step of spiking neurons, a `safjax.neurons.Cell`; `state` is never None but where `start` gives None.

        Of all that they can tell of the step, `pick` takes what is recorded; None takes nothing.
        """
        ...

    def unlearned(self, record: str) -> str | None:
        """Why no loss of what is recorded by this name has a gradient under the rule; None if it has one."""
        ...

    def recall(self, state: State, decay: float) -> Message:
        """The message that `keep` stored in the step before, as a message of this step."""
        ...

    def keep(self, state: State, message: Message, decay: float) -> State:
        """Stores a message for the next step; `state` is what was stored before."""
        ...

    def leaky_readout(self, state: State, current: Message, decay: float, course: Course) -> tuple[State, jax.Array]:
        """o[t] = (Σ_{τ≤t} λ^{t−τ} I[τ]) / Λ[t]."""
        ...

    def instant_readout(self, state: State, current: Message, decay: float, course: Course) -> tuple[State, jax.Array]:
        """o[t] = I[t]."""
        ...
