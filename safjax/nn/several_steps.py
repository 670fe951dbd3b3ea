"""Inference of several time steps at once, layer by layer, where that computes the same as one step after the other.

A net without feedback may be run layer by layer: a synapse of several steps is one product in place of several, whose
weights are read once. Few examples leave a processor waiting for weights most of the time. How many steps are taken at
once does not depend on T, so that neither does memory.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax.extend import core
from jax.interpreters import partial_eval

from safjax.nn.binding import tell
from safjax.nn.bound import Bound
from safjax.nn.delay import Delay
from safjax.nn.discovery import finished
from safjax.nn.graphs import Graph
from safjax.nn.module import SpikingModule
from safjax.nn.states import modules
from safjax.nn.task import make_task, one_step
from safjax.ops.blocks import has_placed_axes
from safjax.portable import is_portable
from safjax.rows import by_rows, largest_row, telling_numbers
from safjax.rules import Course, bptt
from safjax.same_program import same_program
from safjax.tally import Kept
from safjax.task import Task

LARGEST = 8 << 20
"""Bytes of the largest array of several steps; of one step it may have more."""


def in_parts(
    graph: Graph, params: Any, rest: Any, x: Any, steps: int | None, keep: Kept, stepwise: Bound
) -> tuple[Any, Task, int] | None:
    """(parameters, task, steps of a part) of running the net layer by layer; None where it is to go step by step.

    That is so where a later layer feeds an earlier one, where a step changes what is no neuron's state, where anything
    computes with several examples of a batch together or tells one from another, and where a single step is large.

    Args:
      graph, params, rest: the net, in evaluation.
      x, steps, keep: as of `safjax.predict`.
      stepwise: the net, bound to go step by step.
    """
    if stepwise.changing or stepwise.program is None:
        return None
    try:
        parts = _parts(graph, params, rest, x, steps, stepwise.course)
        if parts is None:
            return None
        options: dict[str, Any] = {"keep": keep, "rates": False, "training": False}
        rule = bptt(layerwise=True, segments=parts)
        bound, task = make_task(graph, params, rest, rule, lambda output: 0.0, (), x, steps, **options)
    except Exception:
        # Refused, or code of the net's own that cannot do with another batch: step by step it is as its author ran it.
        return None
    length = rule.schedule.part(task.steps)
    given = len(jax.tree.leaves((bound.params, x)))
    same = bound.program is not None and _results(bound, given, lambda a: a.shape[1:]) == _results(
        stepwise, given, lambda a: a.shape
    )
    return (bound.params, task, length) if same and length is not None else None


def _results(bound: Bound, given: int, shape: Callable[[Any], tuple[int, ...]]) -> list[Any]:
    """(shape, dtype) of a step's outputs and of what it reports, as `shape` has them.

    Args:
      bound: the net.
      given: how many arrays its parameters and its input are, which a step returns no others in place of.
      shape: of an array.
    """
    assert bound.program is not None
    first = len(bound.program.invars) - given
    results: list[Any] = [v.aval for v in bound.program.outvars[first:]]
    return [(shape(a), a.dtype) for a in results]


def _parts(graph: Graph, params: Any, rest: Any, x: Any, steps: int | None, course: Course) -> int | None:
    """In how many parts the steps are taken; None for step by step."""
    one = one_step(x, steps is not None)
    length = steps if steps is not None else jax.tree.leaves(x)[0].shape[0]
    batches = {leaf.shape[0] if leaf.ndim else None for leaf in jax.tree.leaves(one)}
    batch = next(iter(batches))
    if len(batches) > 1 or not isinstance(batch, int) or not isinstance(length, int) or length < 2:
        return None
    if is_portable() or has_placed_axes(*jax.tree.leaves(x)) or _one_by_one(graph.merge(params, rest)):
        return None
    size = _bytes_of_a_row(graph, params, rest, one, course)
    at_once = 0 if not size else LARGEST // (size * batch)
    return None if at_once < 2 else _divided(length, at_once)


def _one_by_one(net: nnx.Module) -> bool:
    """Whether a net certainly goes step by step, or computes all steps at once anyway."""
    return any(
        isinstance(module, Delay) or (isinstance(module, SpikingModule) and not module.stepwise)
        for _, module in modules(net)
    )


def _divided(steps: int, most: int) -> int:
    """The least number of parts of at most so many steps; if it is not much greater, one that leaves no rest."""
    least = -(-steps // most)
    return next((parts for parts in range(least, 2 * least + 1) if steps % parts == 0), least)


def _bytes_of_a_row(graph: Graph, params: Any, rest: Any, one: Any, course: Course) -> int | None:
    """Of the largest array that a step computes for an example; None where examples are not computed each by itself."""
    leaves = jax.tree.leaves((params, rest))
    rows = telling_numbers([*(leaf.shape for leaf in leaves), *(leaf.shape[1:] for leaf in jax.tree.leaves(one))])
    if len(rows) < 2:
        return None
    program, other = (_program(graph, params, rest, one, course, count) for count in rows)
    axes = [None] * len(leaves) + [0] * len(jax.tree.leaves(one))
    apart = by_rows(program, axes, rows[0]) and same_program(program, other, (rows[0], rows[1]))
    return largest_row(program.jaxpr, rows[0]) if apart else None


def _program(graph: Graph, params: Any, rest: Any, one: Any, course: Course, rows: int) -> core.ClosedJaxpr:
    """The first step of so many examples, (parameters, other variables, x) ↦ outputs [rows, ...], layer by layer.

    What a net's own code makes of arrays does not depend on the states of its neurons.
    """
    rule, course = bptt(layerwise=True), course._replace(steps=1, batch=rows, static=False, open=True)

    def run(params: Any, rest: Any, x: Any) -> list[jax.Array]:
        net = graph.merge(params, rest)
        tell(net, rule, course)
        outputs = jax.tree.leaves(finished(net(x), rule, course))
        return [o.reshape(rows, math.prod(o.shape[2:])) for o in outputs]

    many = jax.tree.map(lambda a: jax.ShapeDtypeStruct((rows, *a.shape[1:]), a.dtype), one)
    closed = jax.make_jaxpr(run)(params, rest, many)
    # Without what only firing rates need, which are of all examples.
    jaxpr, _ = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars), instantiate=True)
    return core.ClosedJaxpr(jaxpr, closed.consts)
