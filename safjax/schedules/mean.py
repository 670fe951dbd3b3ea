"""Schedules whose loss is that of the mean output."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from safjax.lengths import by_member
from safjax.loops import Tick, all_but_last, at_once, ended, prepare, run_of_all
from safjax.precision import wide_dtype, widened
from safjax.schedules.schedule import Schedule
from safjax.standing_in import with_gradient_of
from safjax.task import At, Carry, Params, Reports, Run, Task


@dataclasses.dataclass(frozen=True)
class MeanOutput(Schedule):
    """L = L[(1/T) Σ_t o[t]]: T steps forward without any gradient but for the last one's, which is the mean's.

    For propagations of means, where what is differentiated at the last step is the mean over all. Memory O(1).
    """

    @property
    def of_mean_output(self) -> bool:
        return True

    def gradients(self, task: Task, params: Params, key: jax.Array | None) -> tuple[Run, Params]:
        carry = task.start(params)
        prelude, tick = prepare(task, params, carry)
        weights, pull_back, fixed = jax.vjp(prelude, params, has_aux=True)
        before = all_but_last(task, _summing(tick), weights, fixed, (carry, _zeros(task, tick, weights, fixed, carry)))
        carry, total = before.carry

        def objective(weights: Any) -> tuple[jax.Array, tuple[Carry, Any, Reports]]:
            after, output, reports = tick(weights, fixed, carry, before.at)
            mean = jax.tree.map(lambda o, s: _mean(o, s, task.own_steps), output, total)
            return task.last_loss(mean, reports.records, before.at), (after, output, reports)

        (value, last), grads = jax.value_and_grad(objective, has_aux=True)(before.weights)
        return ended(task, before, value, *last), *pull_back(grads)


@dataclasses.dataclass(frozen=True)
class MeanOutputLayerByLayer(Schedule):
    """As `MeanOutput`, the net being called once with time folded into the batch. Memory O(T), of spikes alone."""

    @property
    def of_mean_output(self) -> bool:
        return True

    def gradients(self, task: Task, params: Params, key: jax.Array | None) -> tuple[Run, Params]:
        last = jax.tree.map(lambda a: a[-1], task.over_time._replace(x=None))

        def objective(params: Params) -> tuple[jax.Array, Run]:
            carry, outputs, reports = at_once(task, params)
            mean = jax.tree.map(lambda o: jnp.mean(o, 0, wide_dtype(o)), outputs)
            value = task.last_loss(mean, {}, last)
            return value, run_of_all(task, value, carry, outputs, reports)

        (_, run), grads = jax.value_and_grad(objective, has_aux=True)(params)
        return run, grads


def _summing(tick: Tick) -> Tick:
    """The step that also carries the sum of the outputs."""

    def summing(weights: Any, fixed: Any, state: tuple[Carry, Any], at: At) -> tuple[Carry, Any, Reports]:
        carry, total = state
        carry, output, reports = tick(weights, fixed, carry, at)
        return (carry, jax.tree.map(jnp.add, total, output)), output, reports

    return summing


def _zeros(task: Task, tick: Tick, weights: Any, fixed: Any, carry: Carry) -> Any:
    first = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), task.over_time)
    output = jax.eval_shape(tick, weights, fixed, carry, first)[1]
    return jax.tree.map(lambda o: jnp.zeros(o.shape, wide_dtype(o)), output)


def _mean(last: jax.Array, before: jax.Array, steps: int | jax.Array) -> jax.Array:
    """The mean of all outputs, with the derivatives of the last one."""
    total = before + last
    mean = total / (steps if isinstance(steps, int) else by_member(jnp.maximum(steps, 1), total))
    return with_gradient_of(mean, widened(last))
