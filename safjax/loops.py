"""The time loops: when along the sequence loss, gradient and update are taken.

All of them drive one step function,

    step(params, constants, carry, x[t]) -> (carry, output[t], rates[t]),

and differ only in what they differentiate. The carry holds all neuron states; a loop that takes gradients step by step
treats the carry it receives as a constant, and this is all that makes a rule online. Everything that does not change
with time leaves the loop first (see `safjax.hoist`). Loops are `lax.scan`s: compile time does not grow with T.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from safjax.hoist import hoist

Params = Any
Carry = Any
StepFn = Callable[[Params, Any, Carry, Any], tuple[Carry, Any, Any]]


class Task(NamedTuple):
    """One sequence to run through a net.

    Attributes:
      step: (params, constants, carry, x[t]) ↦ (carry, output[t], rates[t]).
      loss: output[t] ↦ scalar, the mean over the batch of one step's loss.
      constants: whatever the step needs that neither learns nor changes, any pytree.
      inputs: time-major x[T, B, ...], or one x[B, ...] presented at every step.
      steps: T.
      static: whether `inputs` is one x for all steps.
    """

    step: StepFn
    loss: Callable[[Any], jax.Array]
    constants: Any
    inputs: Any
    steps: int
    static: bool


class Run(NamedTuple):
    """What a pass over a sequence leaves: the loss, outputs and rates of every step [T, ...], and the last carry."""

    value: jax.Array
    outputs: Any
    rates: Any
    carry: Carry


class Schedule(Protocol):
    """When along the sequence loss, gradient and update are taken."""

    @property
    def draws(self) -> bool:
        """Whether `gradients` needs a random key."""
        ...

    def gradients(self, task: Task, params: Params, carry: Carry, key: jax.Array | None) -> tuple[Run, Params]:
        """Runs the sequence at the given parameters; returns the run and the gradient."""
        ...

    def train(
        self, task: Task, params: Params, carry: Carry, key: jax.Array | None, optimizer: Any, opt_state: Any
    ) -> tuple[Run, Params, Any]:
        """Runs the sequence and learns from it; returns the run, the new parameters and the optimizer's state."""
        ...


def simulate(task: Task, params: Params, carry: Carry) -> tuple[Carry, Any, Any]:
    """Runs the sequence without any gradient; returns (carry, outputs[T, ...], rates[T, ...])."""
    prelude, tick = _prepare(task, params, carry)
    return _forward(task, tick, *prelude(params), carry)


@dataclasses.dataclass(frozen=True)
class WholeSequence:
    """L = (1/T) Σ_t L[t], differentiated through all steps at once. Memory O(T)."""

    draws = False

    def gradients(self, task, params, carry, key):
        prelude, tick = _prepare(task, params, carry)

        def objective(params):
            last, outputs, rates = _forward(task, tick, *prelude(params), carry)
            value = jnp.mean(jax.vmap(task.loss)(outputs))
            return value, Run(value, outputs, rates, last)

        (_, run), grads = jax.value_and_grad(objective, has_aux=True)(params)
        return run, grads

    def train(self, task, params, carry, key, optimizer, opt_state):
        return _train_once(self, task, params, carry, key, optimizer, opt_state)


@dataclasses.dataclass(frozen=True)
class LastStep:
    """L = L[T]: T − 1 steps forward without any gradient, then one step differentiated. Memory O(1)."""

    draws = False

    def gradients(self, task, params, carry, key):
        prelude, tick = _prepare(task, params, carry)
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
        (value, (carry, *last)), grads = _differentiate(task, tick)(weights, fixed, carry, at(task.steps - 1))
        outputs, rates = jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), (outputs, rates), tuple(last))
        return Run(value, outputs, rates, carry), *pull_back(grads)

    def train(self, task, params, carry, key, optimizer, opt_state):
        return _train_once(self, task, params, carry, key, optimizer, opt_state)


@dataclasses.dataclass(frozen=True)
class EachStep:
    """The gradient of L[t] / T at each step, with the step before as a constant; summed over the steps. Memory O(1).

    Attributes:
      sampled: take the gradient at this many random steps only (SLTT-K) and average over them; None takes all.
    """

    sampled: int | None = None

    @property
    def draws(self) -> bool:
        return self.sampled is not None

    def gradients(self, task, params, carry, key):
        prelude, tick = _prepare(task, params, carry)
        weights, pull_back, fixed = jax.vjp(prelude, params, has_aux=True)
        differentiate = _differentiate(task, tick)

        def with_gradient(carry, total, x):
            (value, (carry, output, rates)), grads = differentiate(weights, fixed, carry, x)
            return (carry, jax.tree.map(jnp.add, total, grads)), (value, output, rates)

        def without_gradient(carry, total, x):
            carry, output, rates = tick(weights, fixed, (carry, x))
            return (carry, total), (task.loss(output), output, rates)

        def body(state, inputs):
            x, chosen = inputs
            if chosen is None:
                return with_gradient(*state, x)
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

    def train(self, task, params, carry, key, optimizer, opt_state):
        return _train_once(self, task, params, carry, key, optimizer, opt_state)


@dataclasses.dataclass(frozen=True)
class EachStepUpdated(EachStep):
    """As `EachStep`, but training applies the optimizer at every step, with the gradient of L[t] / T. Memory O(1)."""

    def train(self, task, params, carry, key, optimizer, opt_state):
        # The weights change with time now; only what depends on the input alone can leave the loop.
        step = task._replace(step=lambda _, constants, state, x: _params_in_carry(task.step, constants, state, x))
        prelude, tick = _prepare(step, (), (params, carry))
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


def _prepare(task: Task, params: Params, carry: Carry):
    """Cuts the step into params ↦ (weights, fixed), once a sequence, and tick(weights, fixed, (carry, x)), T times."""
    fixed = task.constants, task.inputs if task.static else None
    x = None if task.static else jax.eval_shape(lambda x: jax.tree.map(lambda a: a[0], x), task.inputs)

    def function(params, fixed, varying):
        (constants, image), (carry, x) = fixed, varying
        return task.step(params, constants, carry, image if task.static else x)

    prelude, tick = hoist(function, params, fixed, (carry, x))
    return lambda params: prelude(params, fixed), tick


def _forward(task, tick, weights, fixed, carry):
    def body(carry, x):
        carry, *out = tick(weights, fixed, (carry, x))
        return carry, tuple(out)

    carry, (outputs, rates) = jax.lax.scan(body, carry, None if task.static else task.inputs, task.steps)
    return carry, outputs, rates


def _differentiate(task, tick):
    def objective(weights, fixed, carry, x):
        carry, output, rates = tick(weights, fixed, (carry, x))
        return task.loss(output), (carry, output, rates)

    return jax.value_and_grad(objective, has_aux=True)


def _update(optimizer, grads, opt_state, params):
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return jax.tree.map(lambda p, u: (p + u).astype(p.dtype), params, updates), opt_state


def _train_once(schedule, task, params, carry, key, optimizer, opt_state):
    run, grads = schedule.gradients(task, params, carry, key)
    params, opt_state = _update(optimizer, grads, opt_state, params)
    return run, params, opt_state
