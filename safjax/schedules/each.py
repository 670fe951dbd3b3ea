"""Schedules that take a gradient at each step, with the step before as a constant."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from safjax.loops import differentiate, prepare, summed, tally_of
from safjax.schedules.schedule import Schedule, for_optimizers, update
from safjax.tally import Tally
from safjax.task import At, Carry, Params, Reports, Run, StepFn, Task

Told = tuple[jax.Array, Any, Reports]
"""(value, output, reports) of one step."""


@dataclasses.dataclass(frozen=True)
class EachStep(Schedule):
    """The gradient of L[t] / T at each step, with the step before as a constant; summed over the steps. Memory O(1).

    Where the mean of the loss goes over another number of steps than those of a call, that takes the place of T.

    Attributes:
      sampled: take the gradient at this many random steps only (SLTT-K) and average over them; None takes all.
      first: the first step, counted from 0, at which a gradient is taken; those before have none.
    """

    sampled: int | None = None
    first: int = 0

    @property
    def draws(self) -> bool:
        return self.sampled is not None

    @property
    def counts(self) -> bool:
        return self.first > 0

    def gradients(self, task: Task, params: Params, key: jax.Array | None) -> tuple[Run, Params]:
        carry = task.start(params)
        prelude, tick = prepare(task, params, carry)
        weights, pull_back, fixed = jax.vjp(prelude, params, has_aux=True)
        differentiated = differentiate(tick, task.step_loss)

        def with_gradient(carry: Carry, total: Any, at: At) -> tuple[tuple[Carry, Any], Told]:
            (value, (carry, output, reports)), grads = differentiated(weights, fixed, carry, at)
            return (carry, jax.tree.map(jnp.add, total, grads)), (value, output, reports)

        def without_gradient(carry: Carry, total: Any, at: At) -> tuple[tuple[Carry, Any], Told]:
            carry, output, reports = tick(weights, fixed, carry, at)
            return (carry, total), (task.step_loss(output, reports.records, at), output, reports)

        def body(state: tuple[Carry, Any, Tally], inputs: tuple[At, jax.Array | None]) -> tuple[Any, tuple[Any, Any]]:
            (carry, total, tally), (at, chosen) = state, inputs
            if chosen is None:
                (carry, total), (value, output, reports) = with_gradient(carry, total, at)
            else:
                branches = with_gradient, without_gradient
                (carry, total), (value, output, reports) = jax.lax.cond(chosen, *branches, carry, total, at)
            tally = tally.add(value, output, reports.rates, at.going)
            return (carry, total, tally), (tally.to_stack(output), task.recorded(reports))

        total = jax.tree.map(jnp.zeros_like, weights)
        tally = tally_of(task, lambda at: without_gradient(carry, total, at)[1])
        over = task.over_time, self._chosen(key, task.steps)
        (carry, total, tally), stacked = jax.lax.scan(body, (carry, total, tally), over, task.steps)
        # Of K sampled steps each stands for T / K.
        share = 1 if self.sampled is None else task.steps / self.sampled
        (grads,) = pull_back(jax.tree.map(lambda g: g * (share / task.divisor), total))
        return summed(task, tally, stacked, carry), grads

    def _chosen(self, key: jax.Array | None, steps: int) -> jax.Array | None:
        if self.first >= steps:
            raise ValueError(
                f"The rule learns from step {self.first} on, counted from 0, but the sequence has only {steps} steps: "
                f"it would learn nothing. Give it a first step below {steps}."
            )
        if self.sampled is None:
            return jnp.arange(steps) >= self.first if self.first else None
        if self.sampled > steps:
            raise ValueError(
                f"The rule takes its gradient at {self.sampled} random steps, but the sequence has only {steps}. "
                f"Give it at most {steps}, or None for all."
            )
        assert key is not None
        return jax.random.permutation(key, jnp.arange(steps) < self.sampled)


@dataclasses.dataclass(frozen=True)
class EachStepUpdated(Schedule):
    """As `EachStep`, but training applies the optimizer at every step, with the gradient of L[t] / T. Memory O(1).

    An optimizer that asks for the value of the loss is given L[t] / T, of which that is the gradient.
    """

    def updates(self, steps: int) -> int:
        return steps

    def gradients(self, task: Task, params: Params, key: jax.Array | None) -> tuple[Run, Params]:
        return EachStep().gradients(task, params, key)

    def train(
        self, task: Task, params: Params, key: jax.Array | None, optimizer: Any, opt_state: Any
    ) -> tuple[Run, Params, Any]:
        carry = task.start(params)
        # The weights change with time now; only what depends on the input alone can leave the loop.
        step = task._replace(step=lambda _, *rest: _params_in_carry(task.step, *rest))
        prelude, tick = prepare(step, (), (params, carry))
        fixed = prelude(())[1]

        def objective(params: Params, carry: Carry, at: At) -> tuple[jax.Array, tuple[Carry, Any, Reports]]:
            (_, carry), output, reports = tick((), fixed, (params, carry), at)
            return task.step_loss(output, reports.records, at), (carry, output, reports)

        def body(state: tuple[Params, Carry, Any, Tally], at: At) -> tuple[Any, tuple[Any, Any]]:
            params, before, opt_state, tally = state
            (value, (carry, output, reports)), grads = jax.value_and_grad(objective, has_aux=True)(params, before, at)
            grads = jax.tree.map(lambda g: g / task.divisor, grads)
            extra = for_optimizers(value / task.divisor, grads, lambda p: objective(p, before, at)[0] / task.divisor)
            params, opt_state = update(optimizer, grads, opt_state, params, **extra)
            tally = tally.add(value, output, reports.rates, at.going)
            return (params, carry, opt_state, tally), (tally.to_stack(output), task.recorded(reports))

        tally = tally_of(task, lambda at: _results(objective(params, carry, at)))
        start = params, carry, opt_state, tally
        (params, carry, opt_state, tally), stacked = jax.lax.scan(body, start, task.over_time, task.steps)
        return summed(task, tally, stacked, carry), params, opt_state


def _results(step: tuple[jax.Array, tuple[Carry, Any, Reports]]) -> Told:
    value, (_, output, reports) = step
    return value, output, reports


def _params_in_carry(
    step: StepFn, constants: Any, state: tuple[Params, Carry], x: Any, going: jax.Array | None
) -> tuple[tuple[Params, Carry], Any, Any]:
    params, carry = state
    carry, output, reports = step(params, constants, carry, x, going)
    return (params, carry), output, reports
