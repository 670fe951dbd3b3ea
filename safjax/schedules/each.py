"""Schedules that take a gradient at each step, with the step before as a constant."""

import dataclasses

import jax
import jax.numpy as jnp

from safjax.loops import Run, differentiate, prepare
from safjax.schedules.schedule import Schedule, for_optimizers, update


@dataclasses.dataclass(frozen=True)
class EachStep(Schedule):
    """The gradient of L[t] / T at each step, with the step before as a constant; summed over the steps. Memory O(1).

    Attributes:
      sampled: take the gradient at this many random steps only (SLTT-K) and average over them; None takes all.
    """

    sampled: int | None = None

    @property
    def draws(self) -> bool:
        return self.sampled is not None

    def gradients(self, task, params, key):
        carry = task.start(params)
        prelude, tick = prepare(task, params, carry)
        weights, pull_back, fixed = jax.vjp(prelude, params, has_aux=True)
        differentiated = differentiate(task, tick)

        def with_gradient(carry, total, over):
            (value, (carry, output, rates)), grads = differentiated(weights, fixed, carry, over)
            return (carry, jax.tree.map(jnp.add, total, grads)), (value, output, rates)

        def without_gradient(carry, total, over):
            x, timed = over
            carry, output, rates = tick(weights, fixed, (carry, x))
            return (carry, total), (task.step_loss(output, timed), output, rates)

        def body(state, inputs):
            over, chosen = inputs
            if chosen is None:
                return with_gradient(state[0], state[1], over)
            return jax.lax.cond(chosen, with_gradient, without_gradient, *state, over)

        start = carry, jax.tree.map(jnp.zeros_like, weights)
        over = task.over_time, self._chosen(key, task.steps)
        (carry, total), (values, outputs, rates) = jax.lax.scan(body, start, over, task.steps)
        count = task.steps if self.sampled is None else self.sampled
        (grads,) = pull_back(jax.tree.map(lambda g: g / count, total))
        return Run(jnp.mean(values), outputs, rates, carry), grads

    def _chosen(self, key: jax.Array | None, steps: int) -> jax.Array | None:
        if self.sampled is None:
            return None
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

    def gradients(self, task, params, key):
        return EachStep().gradients(task, params, key)

    def train(self, task, params, key, optimizer, opt_state):
        carry = task.start(params)
        # The weights change with time now; only what depends on the input alone can leave the loop.
        step = task._replace(step=lambda _, constants, state, x: _params_in_carry(task.step, constants, state, x))
        prelude, tick = prepare(step, (), (params, carry))
        fixed = prelude(())[1]

        def objective(params, carry, over):
            x, timed = over
            (_, carry), output, rates = tick((), fixed, ((params, carry), x))
            return task.step_loss(output, timed), (carry, output, rates)

        def body(state, over):
            params, before, opt_state = state
            (value, (carry, *out)), grads = jax.value_and_grad(objective, has_aux=True)(params, before, over)
            grads = jax.tree.map(lambda g: g / task.steps, grads)
            extra = for_optimizers(value / task.steps, grads, lambda p: objective(p, before, over)[0] / task.steps)
            params, opt_state = update(optimizer, grads, opt_state, params, **extra)
            return (params, carry, opt_state), (value, *out)

        start = params, carry, opt_state
        (params, carry, opt_state), (values, outputs, rates) = jax.lax.scan(body, start, task.over_time, task.steps)
        return Run(jnp.mean(values), outputs, rates, carry), params, opt_state


def _params_in_carry(step, constants, state, x):
    params, carry = state
    carry, output, rates = step(params, constants, carry, x)
    return (params, carry), output, rates
