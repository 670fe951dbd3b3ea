"""A sequence without loss and gradient, several of its steps at once: one part of them after the other."""

from typing import Any

import jax
import jax.numpy as jnp

from safjax.loops import prepare
from safjax.precision import wide_dtype
from safjax.segments import joined
from safjax.tally import Tally
from safjax.task import At, Params, Run, Task


def simulate_in_parts(task: Task, params: Params, length: int) -> Run:
    """As `safjax.loops.simulate`, of a step that takes so many of the steps, time folded into its batch.

    Nothing as long as T is held but the outputs where all are kept: the input is read where it lies.

    Args:
      task: without lengths and targets, of which nothing is recorded.
      params: the parameters.
      length: the steps that `task.step` takes; `task.rest` takes what is left of them at the end.
    """
    whole, held = divmod(task.steps, length)
    parts = [(task.step, jnp.arange(whole) * length, length)]
    if held and task.rest is not None:
        parts.append((task.rest, jnp.array([whole * length]), held))
    state, found = (task.start(params), None), []
    for step, starts, size in parts:
        state, outputs = _in_order(task._replace(step=step), params, state, starts, size)
        found.append(outputs)
    carry, tally = state
    assert tally is not None
    return Run(tally.value, tally.outputs(joined(found), task.steps), {}, {}, carry)


def _in_order(task: Task, params: Params, state: tuple[Any, Tally | None], starts: jax.Array, size: int) -> Any:
    """(state, outputs [parts, size, B, ...] if all are kept) after the parts of this size that begin there."""

    def at(start: Any) -> At:
        if task.static:
            return At(None, [], None)
        read = (jax.lax.dynamic_slice_in_dim(x, start, size) for x in jax.tree.leaves(task.inputs))
        folded = [x.reshape(size * x.shape[1], *x.shape[2:]) for x in read]
        return At(jax.tree.unflatten(jax.tree.structure(task.inputs), folded), [], None)

    carry, tally = state
    prelude, tick = prepare(task, params, carry, jax.eval_shape(jax.vmap(at), starts))
    weights, fixed = prelude(params)
    if tally is None:
        tally = _empty(task, jax.eval_shape(tick, weights, fixed, carry, jax.eval_shape(at, starts[0]))[1])

    def body(state: Any, start: jax.Array) -> tuple[Any, Any]:
        carry, tally = state
        carry, outputs, _ = tick(weights, fixed, carry, at(start))
        return (carry, tally.add(jnp.zeros(()), _summed(task, outputs), {})), tally.to_stack(outputs)

    return jax.lax.scan(body, (carry, tally), starts)


def _empty(task: Task, outputs: Any) -> Tally:
    one = jax.tree.map(lambda o: jax.ShapeDtypeStruct(o.shape[1:], o.dtype), outputs)
    return Tally.empty(task.keep, jnp.zeros(()), one, {})


def _summed(task: Task, outputs: Any) -> Any:
    """What a tally is told of several steps."""
    return jax.tree.map(lambda o: jnp.sum(o, 0, wide_dtype(o)) if task.keep == "mean" else o[-1], outputs)
