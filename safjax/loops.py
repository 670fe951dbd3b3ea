"""The one loop over time that all step-wise schedules drive, and the gradient of one of its steps.

A step function

    step(params, constants, carry, x[t]) -> (carry, output[t], reports[t])

holds the net; the carry holds all neuron states. Everything that does not change with time leaves the loop first (see
`safjax.hoist`). Loops are `lax.scan`s: compile time does not grow with T. Nothing as long as T is kept but what the
`Tally` is asked for.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from safjax.hoist import hoist
from safjax.losses import SequenceLoss, is_timed, timed_in
from safjax.tally import Kept, Tally, of_all

Params = Any
Carry = Any
StepFn = Callable[[Params, Any, Carry, Any], tuple[Carry, Any, Any]]


class Task(NamedTuple):
    """One sequence to run through a net.

    Attributes:
      start: params ↦ the carry before the first step.
      step: (params, constants, carry, x[t]) ↦ (carry, output[t], reports[t]). Where the rule goes layer by layer it is
        called once, with time folded into the batch of x and in front of the outputs and reports.
      loss: (output[t], *targets[t]) ↦ scalar, the mean over the batch of one step's loss; or a `SequenceLoss`.
      targets: what the loss is given; `Timed` ones change with time.
      constants: whatever the step needs that neither learns nor changes, any pytree.
      inputs: time-major x[T, B, ...], or one x[B, ...] presented at every step.
      steps: T.
      static: whether `inputs` is one x for all steps.
      over: the number of steps by which a sum of losses is divided.
      keep: what is kept of the outputs.
    """

    start: Callable[[Params], Carry]
    step: StepFn
    loss: Callable[..., jax.Array]
    targets: tuple
    constants: Any
    inputs: Any
    steps: int
    static: bool
    over: int
    keep: Kept

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
        """The loss of all steps: the sum of theirs over `over`, or a `SequenceLoss`."""
        timed = self.over_time[1]
        if isinstance(self.loss, SequenceLoss):
            return self.step_loss(outputs, timed)
        losses = jax.vmap(self.step_loss)(outputs, timed)
        return jnp.mean(losses) if self.over == self.steps else jnp.sum(losses) / self.over


def _scalar(value: Any) -> Any:
    real = isinstance(value, float | jax.Array) and jnp.issubdtype(jnp.result_type(value), jnp.floating)
    if real and jnp.ndim(value) == 0:
        return value
    given = f"{value.dtype}{list(value.shape)}" if isinstance(value, jax.Array) else type(value).__name__
    raise TypeError(
        f"The loss returned {given}, but expected is one real number, the mean over the batch: its gradient is what a "
        "rule learns by. Of a loss for each example write .mean(); other results can be computed from the outputs."
    )


class Reports(NamedTuple):
    """What the net's layers say of one step beside its output.

    Attributes:
      rates: firing rates, by the paths of their layers; their means over the steps are kept.
      records: whatever else was asked for, by name and path; kept of every step.
    """

    rates: dict
    records: dict


class Run(NamedTuple):
    """What a pass over a sequence leaves.

    Attributes:
      value: the loss.
      outputs: the net's, as they are kept.
      rates: mean rates.
      records: of every step, [T, ...].
      carry: the last one.
    """

    value: jax.Array
    outputs: Any
    rates: Any
    records: Any
    carry: Carry


def simulate(task: Task, params: Params) -> Run:
    """Runs the sequence without loss and gradient."""
    carry = task.start(params)
    prelude, tick = prepare(task, params, carry)
    weights, fixed = prelude(params)
    zero = jnp.zeros(())

    def body(state, x):
        carry, tally = state
        carry, output, reports = tick(weights, fixed, (carry, x))
        return (carry, tally.add(zero, output, reports.rates)), (tally.to_stack(output), reports.records)

    tally = tally_of(task, lambda x: (zero, *tick(weights, fixed, (carry, x[0]))[1:]))
    (carry, tally), (outputs, records) = jax.lax.scan(body, (carry, tally), task.over_time[0], task.steps)
    return Run(zero, tally.outputs(outputs, task.steps), tally.mean_rates(task.steps), records, carry)


def at_once(task: Task, params: Params) -> tuple[Carry, Any, Reports]:
    """(carry, outputs, reports) of all steps, of a step that takes the whole sequence, time folded into its batch."""
    folded = task.inputs if task.static else jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), task.inputs)
    return task.step(params, task.constants, task.start(params), folded)


def run_of_all(task: Task, value: jax.Array, carry: Carry, outputs: Any, reports: Reports) -> Run:
    """The run of which outputs and reports of all steps are at hand."""
    rates = jax.tree.map(lambda rate: rate.mean(0), reports.rates)
    return Run(value, of_all(task.keep, outputs), rates, reports.records, carry)


def prepare(task: Task, params: Params, carry: Carry):
    """Cuts the step into params ↦ (weights, fixed), once a sequence, and tick(weights, fixed, (carry, x)), T times."""
    fixed = task.constants, task.inputs if task.static else None
    x = None if task.static else jax.eval_shape(lambda x: jax.tree.map(lambda a: a[0], x), task.inputs)

    def function(params, fixed, varying):
        (constants, image), (carry, x) = fixed, varying
        return task.step(params, constants, carry, image if task.static else x)

    prelude, tick = hoist(function, params, fixed, (carry, x))
    return lambda params: prelude(params, fixed), tick


def tally_of(task: Task, step: Callable[[Any], tuple[Any, Any, Reports]]) -> Tally:
    """An empty tally for a step, (x[t], targets[t]) ↦ (value, output, reports)."""
    first = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), task.over_time)
    value, output, reports = jax.eval_shape(step, first)
    return Tally.empty(task.keep, value, output, reports.rates)


def forward(task, tick, weights, fixed, carry):
    """All steps: (carry, outputs, reports)."""

    def body(carry, x):
        carry, *out = tick(weights, fixed, (carry, x))
        return carry, tuple(out)

    carry, (outputs, reports) = jax.lax.scan(body, carry, task.over_time[0], task.steps)
    return carry, outputs, reports


class Before(NamedTuple):
    """What the steps before the last one leave."""

    weights: Any
    carry: Carry
    tally: Tally
    stacked: Any
    over: Any


def all_but_last(task, tick, weights, fixed, carry) -> Before:
    """T − 1 steps without gradient; `over` is what the last one reads, (x[T], targets[T])."""
    zero = jnp.zeros(())

    def at(t):
        """Read in place: a slice x[:-1] would be a copy of the whole sequence."""
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, t, 0, False), task.over_time)

    def body(state, t):
        weights, carry, tally = state
        carry, output, reports = tick(weights, fixed, (carry, at(t)[0]))
        tally = tally.add(zero, output, reports.rates)
        # The last step is to read the weights that the loop has read. Of weights that do not pass through it the
        # compiler makes a second copy for the last step. The barrier hides from JAX that they stay the same.
        return (jax.lax.optimization_barrier(weights), carry, tally), (tally.to_stack(output), reports.records)

    tally = tally_of(task, lambda over: (zero, *tick(weights, fixed, (carry, over[0]))[1:]))
    (weights, carry, tally), stacked = jax.lax.scan(body, (weights, carry, tally), jnp.arange(task.steps - 1))
    return Before(weights, carry, tally, stacked, at(task.steps - 1))


def ended(task: Task, before: Before, value: jax.Array, carry: Carry, output: Any, reports: Reports) -> Run:
    """The run that ends with this last step."""
    tally = before.tally.add(value, output, reports.rates)
    last = tally.to_stack(output), reports.records
    outputs, records = jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), before.stacked, last)
    return Run(value, tally.outputs(outputs, task.steps), tally.mean_rates(task.steps), records, carry)


def differentiate(task, tick):
    def objective(weights, fixed, carry, over):
        x, timed = over
        carry, output, reports = tick(weights, fixed, (carry, x))
        return task.step_loss(output, timed), (carry, output, reports)

    return jax.value_and_grad(objective, has_aux=True)
