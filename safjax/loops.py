"""The one loop over time that all step-wise schedules drive, and the gradient of one of its steps.

A step function

    step(params, constants, carry, x[t], going[t]) -> (carry, output[t], reports[t])

holds the net; the carry holds all neuron states. Everything that does not change with time leaves the loop first (see
`safjax.hoist`). Loops are `lax.scan`s: compile time does not grow with T. Nothing as long as T is kept but what the
`Tally` is asked for.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from safjax.hoist import hoist
from safjax.lengths import last_of_each, placed
from safjax.segments import again, division, in_segments, joined
from safjax.tally import Tally, of_all
from safjax.task import At, Carry, Params, Reports, Run, Task

Prelude = Callable[[Params], tuple[Any, Any]]
"""params ↦ (weights, fixed)."""

Tick = Callable[[Any, Any, Carry, At], tuple[Carry, Any, Reports]]
"""(weights, fixed, carry, at) ↦ (carry, output, reports)."""


def simulate(task: Task, params: Params) -> Run:
    """Runs the sequence without loss and gradient."""
    carry = task.start(params)
    prelude, tick = prepare(task, params, carry)
    weights, fixed = prelude(params)
    zero = jnp.zeros(())

    def body(state: tuple[Carry, Tally], at: At) -> tuple[tuple[Carry, Tally], tuple[Any, Any]]:
        carry, tally = state
        carry, output, reports = tick(weights, fixed, carry, at)
        tally = tally.add(zero, output, reports.rates, at.going)
        return (carry, tally), (tally.to_stack(output), task.recorded(reports))

    tally = tally_of(task, lambda at: (zero, *tick(weights, fixed, carry, at)[1:]))
    # A sequence of any length, as in a program that is exported, tells its length itself.
    length = task.steps if isinstance(task.steps, int) else None
    (carry, tally), stacked = jax.lax.scan(body, (carry, tally), task.over_time, length)
    return summed(task, tally, stacked, carry)


def summed(task: Task, tally: Tally, stacked: tuple[Any, Any], carry: Carry) -> Run:
    """The run of which a loop has stacked (outputs, records) and told the rest to a tally."""
    outputs, records = stacked
    value, rates = tally.value / task.divisor, tally.mean_rates(task.all_steps)
    return Run(value, tally.outputs(outputs, task.own_steps), rates, records, carry)


def at_once(task: Task, params: Params) -> tuple[Carry, Any, Reports]:
    """(carry, outputs, reports) of all steps, of a step that takes the whole sequence, time folded into its batch."""
    folded = task.inputs if task.static else jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), task.inputs)
    return task.step(params, task.constants, task.start(params), folded, task.over_time.going)


def in_parts(task: Task, params: Params, length: int, keep: bool) -> tuple[Carry, Any, Reports]:
    """As `at_once`, of a step that takes so many of the steps, time folded into its batch; see `again` for `keep`."""
    carry, found = task.start(params), []
    for at, count, held in division(task.over_time._replace(timed=[]), task.steps, length):
        at = at._replace(x=jax.tree.map(lambda x: x.reshape(len(x), -1, *x.shape[3:]), at.x))
        step = task.step if held == length or task.rest is None else task.rest
        prelude, tick = prepare(task._replace(step=step), params, carry, at)
        weights, fixed = prelude(params)

        def segment(
            carry: Carry, at: At, tick: Tick = tick, weights: Any = weights, fixed: Any = fixed
        ) -> tuple[Carry, tuple[Any, ...]]:
            carry, *told = tick(weights, fixed, carry, at)
            return carry, tuple(told)

        carry, told = again(segment, carry, at, count, keep)
        found.append(told)
    return carry, *joined(found)


def run_of_all(task: Task, value: jax.Array, carry: Carry, outputs: Any, reports: Reports) -> Run:
    """The run of which outputs and reports of all steps are at hand."""
    rates = jax.tree.map(lambda rate: rate.sum(0) / task.all_steps, reports.rates)
    return Run(value, of_all(task.keep, outputs, task.lengths), rates, task.recorded(reports), carry)


def prepare(task: Task, params: Params, carry: Carry, over: At | None = None) -> tuple[Prelude, Tick]:
    """Cuts the step into params ↦ (weights, fixed), once a sequence, and tick(weights, fixed, carry, at), T times.

    Args:
      over: what a loop over steps reads, or over several at once; None for the task's own.
    """
    fixed = task.constants, task.inputs if task.static else None
    first = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), task.over_time if over is None else over)

    def function(params: Params, fixed: tuple[Any, Any], varying: tuple[Any, Any, Any]) -> tuple[Carry, Any, Any]:
        (constants, image), (carry, x, members) = fixed, varying
        return task.step(params, constants, carry, image if task.static else x, members)

    prelude, body = hoist(function, params, fixed, (carry, first.x, first.going))

    def tick(weights: Any, fixed: Any, carry: Carry, at: At) -> tuple[Carry, Any, Reports]:
        return body(weights, fixed, (carry, at.x, at.going))

    return lambda params: prelude(params, fixed), tick


def tally_of(task: Task, step: Callable[[At], tuple[Any, Any, Reports]]) -> Tally:
    """An empty tally for a step, at ↦ (value, output, reports)."""
    first = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), task.over_time)
    value, output, reports = jax.eval_shape(step, first)
    return Tally.empty(task.keep, value, output, reports.rates)


def forward(
    task: Task, tick: Tick, weights: Any, fixed: Any, carry: Carry, segments: int | None = None
) -> tuple[Carry, Any, Reports]:
    """All steps: (carry, outputs, reports). Of so many segments only the carry at the beginning of each is kept."""

    def body(carry: Carry, at: At) -> tuple[Carry, tuple[Any, ...]]:
        carry, *out = tick(weights, fixed, carry, at)
        return carry, tuple(out)

    over_time = task.over_time._replace(timed=[])
    if segments is None:
        carry, (outputs, reports) = jax.lax.scan(body, carry, over_time, task.steps)
    else:
        carry, (outputs, reports) = in_segments(body, carry, over_time, task.steps, -(-task.steps // segments))
    return carry, outputs, reports


class Before(NamedTuple):
    """What the steps before the last one leave; `at` is what that reads."""

    weights: Any
    carry: Carry
    tally: Tally
    stacked: Any
    at: At


def all_but_last(task: Task, tick: Tick, weights: Any, fixed: Any, carry: Carry) -> Before:
    """All steps but the last without gradient; where members have lengths of their own, all but the last of each."""
    zero, over_time = jnp.zeros(()), task.over_time

    def at(t: int | jax.Array) -> At:
        """Read in place: a slice x[:-1] would be a copy of the whole sequence."""
        now = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, t, 0, False), over_time)
        return now if task.lengths is None else now._replace(going=t < task.lengths - 1)

    def body(state: tuple[Any, Carry, Tally], t: jax.Array) -> tuple[tuple[Any, Carry, Tally], tuple[Any, Any]]:
        weights, carry, tally = state
        now = at(t)
        carry, output, reports = tick(weights, fixed, carry, now)
        tally = tally.add(zero, output, reports.rates, now.going)
        # The last step is to read the weights that the loop has read. Of weights that do not pass through it the
        # compiler makes a second copy for the last step. The barrier hides from JAX that they stay the same.
        return (jax.lax.optimization_barrier(weights), carry, tally), (tally.to_stack(output), task.recorded(reports))

    tally = tally_of(task, lambda at: (zero, *tick(weights, fixed, carry, at)[1:]))
    (weights, carry, tally), stacked = jax.lax.scan(body, (weights, carry, tally), jnp.arange(task.steps - 1))
    if task.lengths is None:
        return Before(weights, carry, tally, stacked, at(task.steps - 1))
    x, timed = last_of_each((over_time.x, over_time.timed), task.lengths)
    return Before(weights, carry, tally, stacked, At(x, timed, task.lengths > 0))


def ended(task: Task, before: Before, value: jax.Array, carry: Carry, output: Any, reports: Reports) -> Run:
    """The run that ends with this last step."""
    tally = before.tally.add(value, output, reports.rates, before.at.going)
    last = tally.to_stack(output), task.recorded(reports)
    if task.lengths is None:
        outputs, records = jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), before.stacked, last)
    else:
        outputs, records = placed(before.stacked, last, task.lengths)
    return Run(value, tally.outputs(outputs, task.own_steps), tally.mean_rates(task.all_steps), records, carry)


def differentiate(tick: Tick, loss: Callable[[Any, dict[Any, Any], At], jax.Array]) -> Callable[..., Any]:
    """(weights, fixed, carry, at) ↦ ((value, (carry, output, reports)), gradient) of one step and its loss."""

    def objective(weights: Any, fixed: Any, carry: Carry, at: At) -> tuple[jax.Array, tuple[Carry, Any, Reports]]:
        carry, output, reports = tick(weights, fixed, carry, at)
        return loss(output, reports.records, at), (carry, output, reports)

    return jax.value_and_grad(objective, has_aux=True)
