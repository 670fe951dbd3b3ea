"""Spiking modules: Flax NNX modules whose computation a rule decides and whose state belongs to a sequence."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import get_opaque_trace_state

from safjax.messages import is_message
from safjax.nn.refusing import Refusals
from safjax.nn.wrappers import Mark
from safjax.rules.propagation import Course, Propagation
from safjax.state import is_gain


class NeuronState(nnx.Variable[Any]):
    """State of a spiking module that changes from step to step; the net itself holds none.

    Its metadata `own` says of each part how many axes it has in the layer itself, since maps over layers put theirs in
    front, and which of them is that of the members of the batch, None for none.
    """

    def member_axes(self) -> tuple[int | None, ...]:
        """Where each part of the state has its axis of members; of a gain, where it would be."""
        parts = jax.tree.leaves(self.get_value(), is_leaf=is_gain)
        ranks = [jnp.ndim(part.value if is_gain(part) else part) for part in parts]
        return tuple(None if a is None else rank - own + a for rank, (own, a) in zip(ranks, self.own, strict=True))


class SequenceState(nnx.Variable[Any]):
    """State of a layer of one's own that lives as long as a sequence: every sequence begins with what the net holds.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import InstantReadout, SequenceState, Synapse
      >>> class Clock(nnx.Module):
      ...     def __init__(self):
      ...         self.count = SequenceState(jnp.zeros(()))
      ...     def __call__(self, x):
      ...         self.count[...] += 1
      ...         return 0 * x + self.count[...]
      >>> net = nnx.Sequential(Synapse(Clock()), InstantReadout())
      >>> safjax.predict(net, jnp.ones((1, 1)), steps=4).ravel().tolist()
      [1.0, 2.0, 3.0, 4.0]
    """


class Observation(nnx.Variable[Any]):
    """What a layer reports of one step, by name; of all steps under a layer-by-layer rule.

    "rate" is a firing rate, whose mean is kept; everything else is kept of every step. The metadata `own_axes` says how
    many axes each part has in the layer itself, in the order of a tree's leaves: maps over layers put theirs in front.
    """

    def is_stacked(self) -> bool:
        """Whether a map over layers has put an axis of its own in front."""
        parts = jax.tree.leaves(self.get_value())
        return any(jnp.ndim(part) > own for part, own in zip(parts, self.own_axes, strict=True))

    def over_time(self) -> dict[str, Any]:
        """The report of all steps, [T, ...], also of layers that `nnx.scan` ran one after the other."""
        parts, structure = jax.tree.flatten(self.get_value())
        moved = [jnp.moveaxis(part, part.ndim - own, 0) for part, own in zip(parts, self.own_axes, strict=True)]
        return jax.tree.unflatten(structure, moved)


ENTERS = "safjax: enters "
"""How, with its place among the inputs and the module's path behind, a program names an array that enters a spiking
module while the net is looked at."""
READ_OUT = "safjax: read out "
"""And how, with its path behind, it names what a readout returns."""


def present_trace() -> Any:
    """The trace that values are made in now, to compare with another one."""
    return get_opaque_trace_state(convention="nnx")


class Discovery:
    """What has happened so far while a net's shapes are being found out.

    Args:
      naming: let the net's program say by names where plain arrays enter spiking modules and leave readouts.
    """

    def __init__(self, naming: bool = False) -> None:
        self.naming = naming
        self.begin()

    def begin(self) -> None:
        """Before each run of the net."""
        self.read_out = False
        """Whether a readout has been called: plain arrays after it are results."""
        self.called: dict[tuple[str, str], None] = {}
        """The states that have been moved on by a step, by their modules' paths and their names, in that order."""
        self.told: dict[str, tuple[str, ...]] = {}
        """The names of all that neurons can record, by the neurons' paths; if anything is recorded."""
        self.stacked: tuple[str, ...] = ()
        """The paths of neurons that a map over layers has stacked."""

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """While a layer is looked at by itself: calls do not count."""
        called = dict(self.called)
        try:
            yield
        finally:
            self.called = called

    def named(self, x: Any, name: str) -> Any:
        """x, under its name."""
        return checkpoint_name(x, name) if self.naming else x


@dataclasses.dataclass(frozen=True)
class Binding:
    """What a spiking module is told when its net meets a rule.

    Attributes:
      rule: the rule's name, for messages to the user.
      propagation: how synapses, neurons and readouts compute under the rule.
      course: how the sequence runs.
      inputs: (place, how it runs) of the plain arrays among the module's inputs that run otherwise.
      path: the module's own path in the net.
      record: what neurons report of every step beside their rate.
      discovering: None, but while shapes are being found out; what may not happen at all is refused then.
      refusals: where it is refused.
      programs: of a synapse's layer, by the form of what it is given; see `traced_layers`.
    """

    rule: str
    propagation: Propagation
    course: Course
    path: str
    record: tuple[str, ...]
    discovering: Discovery | None
    refusals: Refusals
    inputs: tuple[tuple[int, Course], ...] = ()
    programs: dict[Any, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    @property
    def examined(self) -> bool:
        """Whether a layer is to look for what the rule cannot do: once, or wherever it would be gone on without."""
        return self.discovering is not None or self.refusals.collecting

    @property
    def decay(self) -> Any:
        """The net's one decay; 0 where the rule needs none, or has refused the net for having several."""
        return 0.0 if self.course.decay is None else self.course.decay

    def course_of(self, place: int) -> Course:
        """How the plain array at this place of the module's inputs runs, with the net's one decay."""
        return dict(self.inputs).get(place, self.course)._replace(decay=self.decay)

    def refuse(self, sentence: str) -> None:
        """Says that this layer is in the way of the rule.

        Raises:
          ValueError: reasons are not collected; else the layer goes on with something harmless of the right shape.
        """
        self.refusals.refuse(self.path, sentence)


def owned(state: Any, axes: tuple[int | None, ...] | None = None) -> tuple[tuple[int, int | None], ...]:
    """The metadata `own` of a `NeuronState`; without `axes`, members come first in all parts."""
    parts = jax.tree.leaves(state, is_leaf=is_gain)
    ranks = [jnp.ndim(part.value if is_gain(part) else part) for part in parts]
    return tuple(zip(ranks, (0,) * len(parts) if axes is None else axes, strict=True))


class Bindable(nnx.Module):
    """Base of all modules that are told of the rule and of time."""

    binding: Binding | None = None
    _nnx_tabulate_id = Mark()

    def bound(self) -> Binding:
        """This module's binding.

        Raises:
          RuntimeError: the module was called outside a rule.
        """
        if self.binding is None:
            raise RuntimeError(
                f"{type(self).__name__} was called by itself. What a spiking layer computes depends on the rule and on "
                "time, so a spiking net is run by safjax.predict(net, x, steps), safjax.value_and_grad(loss, rule, "
                "steps)(net, x, ...) or safjax.train_step(...). Such a net holds its layers as attributes, made in its "
                "__init__: one that is made in __call__ is not found."
            )
        return self.binding

    def once(self, name: str = "state") -> None:
        """To be called by a module whose state `name` allows one call in a time step.

        Raises:
          ValueError: this is the second one.
        """
        binding = self.bound()
        if binding.discovering is None:
            return
        if (binding.path, name) in binding.discovering.called:
            binding.refuse(
                f"{type(self).__name__} at '{binding.path}' is called twice in one time step, but it has one state. "
                "Give each place in the net a module of its own."
            )
        binding.discovering.called[binding.path, name] = None


class SpikingModule(Bindable):
    """Base of all modules that act differently under different rules."""

    stepwise: ClassVar[bool] = True
    """Whether it can go step by step; some need the whole sequence at once."""

    intervals: ClassVar[Mapping[str, tuple[float, float]]] = {}
    """Where the module's numbers must lie, learned ones too, by the names of their attributes."""
    carried: ClassVar[tuple[str, ...]] = ()
    """The names of its numbers that act on the state of the next step only."""

    def start_sequence(self) -> None:
        """Called once before the first step of every sequence; modules that draw at random do so here."""

    def message(self, x: Any, place: int = 0) -> Any:
        """x, at its place among the module's inputs, as a message: a plain array is this step's input and is encoded.

        The sum over time that it may have is the state "encoder", of later places "encoder1", "encoder2" ...
        """
        binding = self.bound()
        if is_message(x):
            x.check(binding.path, binding.course.steps, binding.course.batch)
            return x
        if binding.discovering is not None:
            x = binding.discovering.named(x, f"{ENTERS}{place} {binding.path}")
        name = f"encoder{place or ''}"
        state, message = binding.propagation.encode(self.read(name), x, binding.course_of(place))
        if state is not None:
            self.once(name)
        self.write(name, state)
        return message

    def read(self, name: str) -> Any:
        """The state `name`; None before the first step."""
        variable = getattr(self, name, None)
        return None if variable is None else variable.get_value()

    def write(self, name: str, value: Any, start: Any = None, axes: tuple[int | None, ...] | None = None) -> None:
        """Stores the state `name` for the next step; None stores nothing.

        The first time, which is while shapes are being found out, it stores what the sequence is to start from: `start`
        or zeros. Then `axes` says where the parts of the state have their axis of members; the default is in front.
        """
        if value is None:
            return
        variable = getattr(self, name, None)
        if variable is None:
            start = jax.tree.map(jnp.zeros_like, value) if start is None else self._as(value, start)
            setattr(self, name, NeuronState(start, own=owned(start, axes)))
        else:
            variable.set_value(value)

    def _as(self, after: Any, start: Any) -> Any:
        """The start of a sequence, in the number formats that the state has after a step.

        Raises:
          ValueError: it has another form.
        """

        def form(state: Any) -> tuple[Any, list[tuple[int, ...]]]:
            return jax.tree.structure(state), [jnp.shape(leaf) for leaf in jax.tree.leaves(state)]

        if form(start) != form(after):
            shapes = [form(state)[1] for state in (start, after)]
            raise ValueError(
                f"{type(self).__name__} at '{self.bound().path}' starts from a state of the shapes {shapes[0]}, but "
                f"its step returns one of {shapes[1]}. The cell's start(current) and step(state, current) must give "
                "states of one form."
            )
        return jax.tree.map(lambda a, s: jnp.asarray(s, a.dtype), after, start)
