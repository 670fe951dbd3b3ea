"""The one loop over time that all step-wise schedules drive, and the gradient of one of its steps.

A step function

    step(params, constants, carry, x[t]) -> (carry, output[t], rates[t])

holds the net; the carry holds all neuron states. Everything that does not change with time leaves the loop first (see
`safjax.hoist`). Loops are `lax.scan`s: compile time does not grow with T.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from safjax.hoist import hoist
from safjax.losses import SequenceLoss, is_timed, timed_in

Params = Any
Carry = Any
StepFn = Callable[[Params, Any, Carry, Any], tuple[Carry, Any, Any]]


class Task(NamedTuple):
    """One sequence to run through a net.

    Attributes:
      start: params ↦ the carry before the first step.
      step: (params, constants, carry, x[t]) ↦ (carry, output[t], rates[t]). Where the rule goes layer by layer it is
        called once, with time folded into the batch of x and in front of the outputs and rates.
      loss: (output[t], *targets[t]) ↦ scalar, the mean over the batch of one step's loss; or a `SequenceLoss`.
      targets: what the loss is given; `Timed` ones change with time.
      constants: whatever the step needs that neither learns nor changes, any pytree.
      inputs: time-major x[T, B, ...], or one x[B, ...] presented at every step.
      steps: T.
      static: whether `inputs` is one x for all steps.
    """

    start: Callable[[Params], Carry]
    step: StepFn
    loss: Callable[..., jax.Array]
    targets: tuple
    constants: Any
    inputs: Any
    steps: int
    static: bool

    @property
    def over_time(self) -> tuple[Any, list]:
        """What a loop over time reads: the inputs, None where static, and the values of the `Timed` targets."""
        return None if self.static else self.inputs, [t.value for t in timed_in(self.targets)]

    def step_loss(self, output: Any, timed: list) -> jax.Array:
        """The loss of one step, given this step's values of the `Timed` targets."""
        values = iter(timed)
        targets = jax.tree.map(lambda t: next(values) if is_timed(t) else t, self.targets, is_leaf=is_timed)
        return _scalar(self.loss(output, *targets))

    def sequence_loss(self, outputs: Any) -> jax.Array:
        """The loss of all steps: the mean of theirs, or a `SequenceLoss`."""
        timed = self.over_time[1]
        if isinstance(self.loss, SequenceLoss):
            return self.step_loss(outputs, timed)
        return jnp.mean(jax.vmap(self.step_loss)(outputs, timed))


def _scalar(value: Any) -> Any:
    real = isinstance(value, float | jax.Array) and jnp.issubdtype(jnp.result_type(value), jnp.floating)
    if real and jnp.ndim(value) == 0:
        return value
    given = f"{value.dtype}{list(value.shape)}" if isinstance(value, jax.Array) else type(value).__name__
    raise TypeError(
        f"The loss returned {given}, but expected is one real number, the mean over the batch: its gradient is what a "
        "rule learns by. Of a loss for each example write .mean(); other results can be computed from aux.outputs."
    )


class Run(NamedTuple):
    """What a pass over a sequence leaves: the loss, outputs and rates of every step [T, ...], and the last carry."""

    value: jax.Array
    outputs: Any
    rates: Any
    carry: Carry


def simulate(task: Task, params: Params) -> tuple[Carry, Any, Any]:
    """Runs the sequence without any gradient; returns (carry, outputs[T, ...], rates[T, ...])."""
    carry = task.start(params)
    prelude, tick = prepare(task, params, carry)
    weights, fixed = prelude(params)
    return forward(task, tick, weights, fixed, carry)


def at_once(task: Task, params: Params) -> tuple[Carry, Any, Any]:
    """As `simulate`, for a step that takes the whole sequence, time folded into its batch."""
    folded = task.inputs if task.static else jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), task.inputs)
    return task.step(params, task.constants, task.start(params), folded)


def prepare(task: Task, params: Params, carry: Carry):
    """Cuts the step into params ↦ (weights, fixed), once a sequence, and tick(weights, fixed, (carry, x)), T times."""
    fixed = task.constants, task.inputs if task.static else None
    x = None if task.static else jax.eval_shape(lambda x: jax.tree.map(lambda a: a[0], x), task.inputs)

    def function(params, fixed, varying):
        (constants, image), (carry, x) = fixed, varying
        return task.step(params, constants, carry, image if task.static else x)

    prelude, tick = hoist(function, params, fixed, (carry, x))
    return lambda params: prelude(params, fixed), tick


def forward(task, tick, weights, fixed, carry):
    def body(carry, x):
        carry, *out = tick(weights, fixed, (carry, x))
        return carry, tuple(out)

    carry, (outputs, rates) = jax.lax.scan(body, carry, task.over_time[0], task.steps)
    return carry, outputs, rates


def all_but_last(task, tick, weights, fixed, carry):
    """T − 1 steps without gradient, and what the last one reads.

    Returns: weights, (carry, outputs, rates), (x[T], targets[T]).
    """

    def at(t):
        """Read in place: a slice x[:-1] would be a copy of the whole sequence."""
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, t, 0, False), task.over_time)

    def body(state, t):
        weights, carry = state
        carry, *out = tick(weights, fixed, (carry, at(t)[0]))
        # The last step is to read the weights that the loop has read. Of weights that do not pass through it the
        # compiler makes a second copy for the last step. The barrier hides from JAX that they stay the same.
        return (jax.lax.optimization_barrier(weights), carry), tuple(out)

    (weights, carry), (outputs, rates) = jax.lax.scan(body, (weights, carry), jnp.arange(task.steps - 1))
    return weights, (carry, outputs, rates), at(task.steps - 1)


def differentiate(task, tick):
    def objective(weights, fixed, carry, over):
        x, timed = over
        carry, output, rates = tick(weights, fixed, (carry, x))
        return task.step_loss(output, timed), (carry, output, rates)

    return jax.value_and_grad(objective, has_aux=True)
