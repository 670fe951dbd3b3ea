"""A net under a rule, as data and functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

from flax import nnx
from jax.extend import core

from safjax.rules import Course, Propagation


class Bound(NamedTuple):
    """A net under a rule, as pure data and one pure function.

    Attributes:
      step: (params, constants, carry, x[t]) ↦ (carry, output[t], observations[t]); under a rule that goes layer by
        layer, of all steps at once, see `safjax.task.Task`. The carry is (neuron states, other variables that a step
        changes).
      params: the learned parameters.
      constants: other variables that a step reads and leaves unchanged.
      changing: other variables that a step changes, with their values before the first step.
      at_rest: params ↦ the neuron states before the first step of a sequence.
      own: the paths of variables, changed or not, that belong to a sequence and not to the net.
      axes: where the neuron states have their axis of members, by path.
      zeros: whether they start from zeros, by path.
      course: how the sequence runs.
      kind: the propagation that the neuron states are of.
      stacked: the paths of neurons that a map over layers has stacked.
      order: the paths of neurons and readouts, in the order in which a step calls them.
      program: what the step was traced to, (other variables and states, parameters, x) ↦ (the former after the step,
        output, observations); None where no loop could carry what it returns.
      rest: where a part of the steps is computed at once, the step of a last part that is shorter; else None.
    """

    step: Callable[..., Any]
    params: nnx.State[Any, Any]
    constants: dict[Any, Any]
    changing: dict[Any, Any]
    at_rest: Callable[[Any], nnx.State[Any, Any]]
    own: tuple[Any, ...]
    axes: dict[Any, Any]
    zeros: dict[Any, Any]
    course: Course
    kind: Propagation
    stacked: tuple[str, ...]
    order: tuple[str, ...]
    program: core.Jaxpr | None
    rest: Callable[..., Any] | None = None
