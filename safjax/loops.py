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
from safjax.lengths import going, last_of_each, placed
from safjax.losses import SequenceLoss, is_timed, timed_in
from safjax.tally import Kept, Tally, of_all

Params = Any
Carry = Any
StepFn = Callable[..., tuple[Carry, Any, Any]]


class At(NamedTuple):
    """What one step reads; with a leading axis of time, what a loop does.

    Attributes:
      x: the input; None where it is one for all steps.
      timed: the values of the `Timed` targets.
      going: which members are still on their way, [B]; None where all are.
    """

    x: Any
    timed: list
    going: jax.Array | None


class Task(NamedTuple):
    """One sequence to run through a net.

    Attributes:
      start: params ↦ the carry before the first step.
      step: (params, constants, carry, x[t], going[t]) ↦ (carry, output[t], reports[t]), where members that do not go on
        keep their state, and what is said of them is 0. Where the rule goes layer by layer it is called once, with time
        folded into the batch of x and in front of `going`, outputs and reports.
      loss: (output[t], *targets[t]) ↦ scalar, the mean over the batch of one step's loss; or a `SequenceLoss`.
      targets: what the loss is given; `Timed` ones change with time.
      constants: whatever the step needs that neither learns nor changes, any pytree.
      inputs: time-major x[T, B, ...], or one x[B, ...] presented at every step.
      steps: T.
      static: whether `inputs` is one x for all steps.
      over: the number of steps by which a sum of losses is divided; None for those of the call, or of each member.
      keep: what is kept of the outputs.
      lengths: how many steps each member has, [B]; None for all T.
    """

    start: Callable[[Params], Carry]
    step: StepFn
    loss: Callable[..., jax.Array]
    targets: tuple
    constants: Any
    inputs: Any
    steps: int
    static: bool
    over: int | None
    keep: Kept
    lengths: jax.Array | None = None

    @property
    def over_time(self) -> At:
        """What a loop over time reads."""
        members = None if self.lengths is None else going(self.lengths, self.steps)
        return At(None if self.static else self.inputs, [t.value for t in timed_in(self.targets)], members)

    @property
    def divisor(self) -> int:
        """By how much a sum of `step_loss` over the steps is divided."""
        return self.steps if self.over is None else self.over

    @property
    def own_steps(self) -> int | jax.Array:
        """How many steps each member has."""
        return self.steps if self.lengths is None else self.lengths

    @property
    def all_steps(self) -> int | jax.Array:
        """Over how many reports of rates their sum goes."""
        return self.steps if self.lengths is None else jnp.sum(self.lengths)

    def step_loss(self, output: Any, at: At) -> jax.Array:
        """The loss of one step, whose sum over the steps is to be divided by `divisor`."""
        if self.lengths is None:
            return self._loss(output, at.timed)
        # In the mean of a member's losses over its own steps each weighs as much more as there are fewer of them.
        weight = 1 if self.over is not None else self.steps / jnp.maximum(self.lengths, 1)
        return jnp.mean(weight * self._member_losses(output, at))

    def last_loss(self, output: Any, at: At) -> jax.Array:
        """The loss of the last step alone, of each member its own."""
        return self._loss(output, at.timed) if self.lengths is None else jnp.mean(self._member_losses(output, at))

    def sequence_loss(self, outputs: Any) -> jax.Array:
        """The loss of all steps: the sum of theirs over `divisor`, or a `SequenceLoss`."""
        at = self.over_time._replace(x=None)
        if isinstance(self.loss, SequenceLoss):
            return self._loss(outputs, at.timed)
        losses = jax.vmap(self.step_loss)(outputs, at)
        return jnp.mean(losses) if self.over is None else jnp.sum(losses) / self.over

    def _loss(self, output: Any, timed: list) -> jax.Array:
        return _scalar(self.loss(output, *self._targets(timed)))

    def _targets(self, timed: list) -> tuple:
        values = iter(timed)
        return jax.tree.map(lambda t: next(values) if is_timed(t) else t, self.targets, is_leaf=is_timed)

    def _member_losses(self, output: Any, at: At) -> jax.Array:
        """The loss of each member by itself, [B]; 0 of those that do not go on."""
        targets = self._targets(at.timed)
        axes = jax.tree.map(lambda t: 0 if jnp.ndim(t) else None, targets)

        def alone(output, targets):
            one = jax.tree.map(
                lambda t, axis: t if axis is None else t[None], targets, axes, is_leaf=lambda t: t is None
            )
            return _scalar(self.loss(jax.tree.map(lambda o: o[None], output), *one))

        losses = jax.vmap(alone, in_axes=(0, axes))(output, targets)
        assert at.going is not None
        return jnp.where(at.going, losses, 0)


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

    def body(state, at):
        carry, tally = state
        carry, output, reports = tick(weights, fixed, carry, at)
        tally = tally.add(zero, output, reports.rates, at.going)
        return (carry, tally), (tally.to_stack(output), reports.records)

    tally = tally_of(task, lambda at: (zero, *tick(weights, fixed, carry, at)[1:]))
    (carry, tally), stacked = jax.lax.scan(body, (carry, tally), task.over_time, task.steps)
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


def run_of_all(task: Task, value: jax.Array, carry: Carry, outputs: Any, reports: Reports) -> Run:
    """The run of which outputs and reports of all steps are at hand."""
    rates = jax.tree.map(lambda rate: rate.sum(0) / task.all_steps, reports.rates)
    return Run(value, of_all(task.keep, outputs, task.lengths), rates, reports.records, carry)


def prepare(task: Task, params: Params, carry: Carry):
    """Cuts the step into params ↦ (weights, fixed), once a sequence, and tick(weights, fixed, carry, at), T times."""
    fixed = task.constants, task.inputs if task.static else None
    first = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), task.over_time)

    def function(params, fixed, varying):
        (constants, image), (carry, x, members) = fixed, varying
        return task.step(params, constants, carry, image if task.static else x, members)

    prelude, body = hoist(function, params, fixed, (carry, first.x, first.going))

    def tick(weights, fixed, carry, at):
        return body(weights, fixed, (carry, at.x, at.going))

    return lambda params: prelude(params, fixed), tick


def tally_of(task: Task, step: Callable[[At], tuple[Any, Any, Reports]]) -> Tally:
    """An empty tally for a step, at ↦ (value, output, reports)."""
    first = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), task.over_time)
    value, output, reports = jax.eval_shape(step, first)
    return Tally.empty(task.keep, value, output, reports.rates)


def forward(task, tick, weights, fixed, carry):
    """All steps: (carry, outputs, reports)."""

    def body(carry, at):
        carry, *out = tick(weights, fixed, carry, at)
        return carry, tuple(out)

    carry, (outputs, reports) = jax.lax.scan(body, carry, task.over_time._replace(timed=[]), task.steps)
    return carry, outputs, reports


class Before(NamedTuple):
    """What the steps before the last one leave; `at` is what that reads."""

    weights: Any
    carry: Carry
    tally: Tally
    stacked: Any
    at: At


def all_but_last(task, tick, weights, fixed, carry) -> Before:
    """All steps but the last without gradient; where members have lengths of their own, all but the last of each."""
    zero, over_time = jnp.zeros(()), task.over_time

    def at(t):
        """Read in place: a slice x[:-1] would be a copy of the whole sequence."""
        now = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, t, 0, False), over_time)
        return now if task.lengths is None else now._replace(going=t < task.lengths - 1)

    def body(state, t):
        weights, carry, tally = state
        now = at(t)
        carry, output, reports = tick(weights, fixed, carry, now)
        tally = tally.add(zero, output, reports.rates, now.going)
        # The last step is to read the weights that the loop has read. Of weights that do not pass through it the
        # compiler makes a second copy for the last step. The barrier hides from JAX that they stay the same.
        return (jax.lax.optimization_barrier(weights), carry, tally), (tally.to_stack(output), reports.records)

    tally = tally_of(task, lambda at: (zero, *tick(weights, fixed, carry, at)[1:]))
    (weights, carry, tally), stacked = jax.lax.scan(body, (weights, carry, tally), jnp.arange(task.steps - 1))
    if task.lengths is None:
        return Before(weights, carry, tally, stacked, at(task.steps - 1))
    x, timed = last_of_each((over_time.x, over_time.timed), task.lengths)
    return Before(weights, carry, tally, stacked, At(x, timed, task.lengths > 0))


def ended(task: Task, before: Before, value: jax.Array, carry: Carry, output: Any, reports: Reports) -> Run:
    """The run that ends with this last step."""
    tally = before.tally.add(value, output, reports.rates, before.at.going)
    last = tally.to_stack(output), reports.records
    if task.lengths is None:
        outputs, records = jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), before.stacked, last)
    else:
        outputs, records = placed(before.stacked, last, task.lengths)
    return Run(value, tally.outputs(outputs, task.own_steps), tally.mean_rates(task.all_steps), records, carry)


def differentiate(task, tick, loss):
    """(weights, fixed, carry, at) ↦ ((value, (carry, output, reports)), gradient) of one step and its loss."""

    def objective(weights, fixed, carry, at):
        carry, output, reports = tick(weights, fixed, carry, at)
        return loss(output, at), (carry, output, reports)

    return jax.value_and_grad(objective, has_aux=True)
