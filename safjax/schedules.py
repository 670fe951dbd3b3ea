"""When along the sequence loss, gradient and update are taken.

All schedules drive one step function and differ only in what they differentiate. One that takes gradients step by step
treats the carry it receives as a constant, and this is all that makes a rule online.
"""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from safjax.loops import Carry, Params, Run, Task, differentiate, forward, prepare


class Schedule(abc.ABC):
    """When along the sequence loss, gradient and update are taken."""

    @property
    def draws(self) -> bool:
        """Whether `gradients` needs a random key."""
        return False

    @property
    def last_step_only(self) -> bool:
        """Whether the loss is that of the last step; then that step's output is the net's answer."""
        return False

    def updates(self, steps: int) -> int:
        """How often `train` applies the optimizer in a sequence of so many steps: what an optax schedule counts."""
        del steps
        return 1

    @abc.abstractmethod
    def gradients(self, task: Task, params: Params, carry: Carry, key: jax.Array | None) -> tuple[Run, Params]:
        """Runs the sequence at the given parameters; returns the run and the gradient."""

    def train(
        self, task: Task, params: Params, carry: Carry, key: jax.Array | None, optimizer: Any, opt_state: Any
    ) -> tuple[Run, Params, Any]:
        """Runs the sequence and learns from it: one update of the optax optimizer by default.

        Returns the run, the new parameters and the optimizer's new state.
        """
        run, grads = self.gradients(task, params, carry, key)
        params, opt_state = _update(optimizer, grads, opt_state, params)
        return run, params, opt_state


@dataclasses.dataclass(frozen=True)
class WholeSequence(Schedule):
    """L = (1/T) Σ_t L[t], differentiated through all steps at once. Memory O(T)."""

    def gradients(self, task, params, carry, key):
        prelude, tick = prepare(task, params, carry)

        def objective(params):
            weights, fixed = prelude(params)
            last, outputs, rates = forward(task, tick, weights, fixed, carry)
            value = jnp.mean(jax.vmap(task.loss)(outputs))
            return value, Run(value, outputs, rates, last)

        (_, run), grads = jax.value_and_grad(objective, has_aux=True)(params)
        return run, grads


@dataclasses.dataclass(frozen=True)
class LastStep(Schedule):
    """L = L[T]: T − 1 steps forward without any gradient, then one step differentiated. Memory O(1)."""

    @property
    def last_step_only(self) -> bool:
        return True

    def gradients(self, task, params, carry, key):
        prelude, tick = prepare(task, params, carry)
        weights, pull_back, fixed = jax.vjp(prelude, params, has_aux=True)

        def at(t):
            """x[t], read in place: a slice x[:-1] would be a copy of the whole sequence."""
            return (
                None
                if task.static
                else jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, t, 0, False), task.inputs)
            )

        def body(carry, t):
            carry, *out = tick(weights, fixed, (carry, at(t)))
            return carry, tuple(out)

        carry, (outputs, rates) = jax.lax.scan(body, carry, jnp.arange(task.steps - 1))
        (value, (carry, *last)), grads = differentiate(task, tick)(weights, fixed, carry, at(task.steps - 1))
        outputs, rates = jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), (outputs, rates), tuple(last))
        return Run(value, outputs, rates, carry), *pull_back(grads)


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

    def gradients(self, task, params, carry, key):
        prelude, tick = prepare(task, params, carry)
        weights, pull_back, fixed = jax.vjp(prelude, params, has_aux=True)
        differentiated = differentiate(task, tick)

        def with_gradient(carry, total, x):
            (value, (carry, output, rates)), grads = differentiated(weights, fixed, carry, x)
            return (carry, jax.tree.map(jnp.add, total, grads)), (value, output, rates)

        def without_gradient(carry, total, x):
            carry, output, rates = tick(weights, fixed, (carry, x))
            return (carry, total), (task.loss(output), output, rates)

        def body(state, inputs):
            x, chosen = inputs
            if chosen is None:
                return with_gradient(state[0], state[1], x)
            return jax.lax.cond(chosen, with_gradient, without_gradient, *state, x)

        start = carry, jax.tree.map(jnp.zeros_like, weights)
        over = None if task.static else task.inputs, self._chosen(key, task.steps)
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
    """As `EachStep`, but training applies the optimizer at every step, with the gradient of L[t] / T. Memory O(1)."""

    def updates(self, steps: int) -> int:
        return steps

    def gradients(self, task, params, carry, key):
        return EachStep().gradients(task, params, carry, key)

    def train(self, task, params, carry, key, optimizer, opt_state):
        # The weights change with time now; only what depends on the input alone can leave the loop.
        step = task._replace(step=lambda _, constants, state, x: _params_in_carry(task.step, constants, state, x))
        prelude, tick = prepare(step, (), (params, carry))
        fixed = prelude(())[1]

        def objective(params, carry, x):
            (_, carry), output, rates = tick((), fixed, ((params, carry), x))
            return task.loss(output), (carry, output, rates)

        def body(state, x):
            params, carry, opt_state = state
            (value, (carry, *out)), grads = jax.value_and_grad(objective, has_aux=True)(params, carry, x)
            grads = jax.tree.map(lambda g: g / task.steps, grads)
            params, opt_state = _update(optimizer, grads, opt_state, params)
            return (params, carry, opt_state), (value, *out)

        over = None if task.static else task.inputs
        start = params, carry, opt_state
        (params, carry, opt_state), (values, outputs, rates) = jax.lax.scan(body, start, over, task.steps)
        return Run(jnp.mean(values), outputs, rates, carry), params, opt_state


def _params_in_carry(step, constants, state, x):
    params, carry = state
    carry, output, rates = step(params, constants, carry, x)
    return (params, carry), output, rates


def _update(optimizer, grads, opt_state, params):
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return jax.tree.map(lambda p, u: (p + u).astype(p.dtype), params, updates), opt_state
