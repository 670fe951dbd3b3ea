"""One sequence to run through a net, as data: what a step reads, what it says, and what a loss makes of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from safjax.lengths import going
from safjax.losses import is_of_sequence, is_timed, records_for, timed_in
from safjax.tally import Kept

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
    timed: list[Any]
    going: jax.Array | None


class Task(NamedTuple):
    """One sequence to run through a net.

    Attributes:
      start: params ↦ the carry before the first step, in the form in which `step` returns it: it goes through a
        `lax.scan`, so that no part of it is None where the step returns an array.
      step: (params, constants, carry, x[t], going[t]) ↦ (carry, output[t], reports[t]), where members that do not go on
        keep their state, and what is said of them is 0. Where the rule goes layer by layer it is called once, with time
        folded into the batch of x and in front of `going`, outputs and reports.
      loss: (output[t], *targets[t]) ↦ scalar, the mean over the batch of one step's loss; or a `SequenceLoss`; or one
        `WithRecords`.
      targets: what the loss is given; `Timed` ones change with time.
      constants: whatever the step needs that neither learns nor changes, any pytree.
      inputs: time-major x[T, B, ...], or one x[B, ...] presented at every step.
      steps: T.
      static: whether `inputs` is one x for all steps.
      over: the number of steps by which a sum of losses is divided; None for those of the call, or of each member.
      keep: what is kept of the outputs.
      lengths: how many steps each member has, [B]; None for all T.
      record: the names of the records that the user is given.
      rates: whether the user is given firing rates; if not, no step reports any.
      rest: of a rule that calls the net for a part of the steps at once, the step of a last part that is shorter.
    """

    start: Callable[[Params], Carry]
    step: StepFn
    loss: Callable[..., jax.Array]
    targets: tuple[Any, ...]
    constants: Any
    inputs: Any
    steps: int
    static: bool
    over: int | None
    keep: Kept
    lengths: jax.Array | None = None
    record: tuple[str, ...] = ()
    rates: bool = True
    rest: StepFn | None = None

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

    def recorded(self, reports: "Reports") -> dict[Any, Any]:
        """Of the reports what is kept of every step: all but what only the loss is given."""
        lent = set(records_for(self.loss) or ()) - set(self.record)
        return {name: record for name, record in reports.records.items() if name not in lent}

    def step_loss(self, output: Any, records: dict[Any, Any], at: At) -> jax.Array:
        """The loss of one step, whose sum over the steps is to be divided by `divisor`."""
        if self.lengths is None:
            return self._loss(output, records, at.timed)
        # In the mean of a member's losses over its own steps each weighs as much more as there are fewer of them.
        weight = 1 if self.over is not None else self.steps / jnp.maximum(self.lengths, 1)
        return jnp.mean(weight * self._member_losses(output, records, at))

    def last_loss(self, output: Any, records: dict[Any, Any], at: At) -> jax.Array:
        """The loss of the last step alone, of each member its own."""
        if self.lengths is None:
            return self._loss(output, records, at.timed)
        return jnp.mean(self._member_losses(output, records, at))

    def sequence_loss(self, outputs: Any, records: dict[Any, Any]) -> jax.Array:
        """The loss of all steps: the sum of theirs over `divisor`, or a `SequenceLoss`."""
        at = self.over_time._replace(x=None)
        if is_of_sequence(self.loss):
            return self._loss(outputs, records, at.timed)
        losses = jax.vmap(self.step_loss)(outputs, records, at)
        return jnp.mean(losses) if self.over is None else jnp.sum(losses) / self.over

    def _loss(self, output: Any, records: dict[Any, Any], timed: list[Any]) -> jax.Array:
        return _scalar(self.loss(output, *self._told(records), *self._targets(timed)))

    def _told(self, records: dict[Any, Any]) -> tuple[Any, ...]:
        names = records_for(self.loss)
        return () if names is None else ({name: records[name] for name in names},)

    def _targets(self, timed: list[Any]) -> tuple[Any, ...]:
        values = iter(timed)
        return jax.tree.map(lambda t: next(values) if is_timed(t) else t, self.targets, is_leaf=is_timed)

    def _member_losses(self, output: Any, records: dict[Any, Any], at: At) -> jax.Array:
        """The loss of each member by itself, [B]; 0 of those that do not go on."""
        targets = self._targets(at.timed)
        axes = jax.tree.map(lambda t: 0 if jnp.ndim(t) else None, targets)

        def alone(output: Any, told: tuple[Any, ...], targets: tuple[Any, ...]) -> jax.Array:
            one = jax.tree.map(
                lambda t, axis: t if axis is None else t[None], targets, axes, is_leaf=lambda t: t is None
            )
            output, told = jax.tree.map(lambda o: o[None], (output, told))
            return _scalar(self.loss(output, *told, *one))

        losses = jax.vmap(alone, in_axes=(0, 0, axes))(output, self._told(records), targets)
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

    rates: dict[Any, Any]
    records: dict[Any, Any]


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
