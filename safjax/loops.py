"""The one loop over time that all schedules drive, and the gradient of one of its steps.

A step function

    step(params, constants, carry, x[t]) -> (carry, output[t], rates[t])

holds the net; the carry holds all neuron states. Everything that does not change with time leaves the loop first (see
`safjax.hoist`). Loops are `lax.scan`s: compile time does not grow with T.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

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


def simulate(task: Task, params: Params, carry: Carry) -> tuple[Carry, Any, Any]:
    """Runs the sequence without any gradient; returns (carry, outputs[T, ...], rates[T, ...])."""
    prelude, tick = prepare(task, params, carry)
    weights, fixed = prelude(params)
    return forward(task, tick, weights, fixed, carry)


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

    carry, (outputs, rates) = jax.lax.scan(body, carry, None if task.static else task.inputs, task.steps)
    return carry, outputs, rates


def differentiate(task, tick):
    def objective(weights, fixed, carry, x):
        carry, output, rates = tick(weights, fixed, (carry, x))
        return task.loss(output), (carry, output, rates)

    return jax.value_and_grad(objective, has_aux=True)
