"""Which rules train a net: each is asked on shapes alone, and refusals advise only those that do."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.differentiable import surely_differentiable
from safjax.nn.batch_norm import needs_all_steps
from safjax.nn.binding import bind
from safjax.nn.bound import Bound
from safjax.nn.carrying import begun
from safjax.nn.refusing import Reason, Refusals
from safjax.nn.shapes import Reading, bound_or_explained
from safjax.nn.states import join, modules
from safjax.rules import RULES, Rule, bptt, eventprop, rate_backprop
from safjax.task import Task

ASKED: dict[str, Rule] = {
    **{name: make() for name, make in RULES.items()},
    "bptt(layerwise=True)": bptt(layerwise=True),
    "rate_backprop(layerwise=True)": rate_backprop(layerwise=True),
    "eventprop": eventprop(),
}
"""The rules that are asked, by the names that users read."""


_ANY = "\0rule\0"
"""Stands for the name of a rule in what several rules would say."""


class Trial(NamedTuple):
    """A net and inputs of one shape, which rules are tried on.

    Attributes:
      make: a fresh copy of the net.
      x: one step's input, arrays or shapes.
      steps: T.
      static: whether all inputs are one.
      going_on: whether the sequence goes on from call to call.
      padded: whether members have lengths of their own.
    """

    make: Callable[[], nnx.Module]
    x: Any
    steps: int
    static: bool
    going_on: bool = False
    padded: bool = False

    def bound(self, rule: Rule, refusals: Refusals, net: nnx.Module, record: tuple[str, ...] = ()) -> Bound:
        """`net`, a copy that is made for it, bound to the rule."""
        return bind(net, rule, self.x, self.steps, self.static, record, self.going_on, self.padded, refusals)

    def tried(self, rule: Rule, collecting: bool, gradient: bool = True) -> tuple[Bound | None, tuple[Reason, ...]]:
        """(the net bound to the rule if it can be, why the rule does not train the net; none if it does).

        Args:
          collecting: find all reasons; else one of them, which is quicker.
          gradient: go through the gradient, too.
        """
        refusals, bound = Refusals(collecting), None
        try:
            bound = self.bound(rule, refusals, self.make())
            if gradient and not refusals.reasons:
                self._differentiate(bound, rule)
        except Exception as error:
            # Not ours, as those of JAX: whatever it is, a call for training would end in it.
            if error is not refusals.raised:
                # Behind a refusal it may be due to what stands in for the layer that was refused.
                behind = "Behind what else is refused here the net was not looked at any further: it ended with "
                refusals.note(join(()), (behind if refusals.reasons else "") + _told(error))
        return bound, refusals.reasons

    def _differentiate(self, bound: Bound, rule: Rule) -> None:
        """Goes through the rule's gradient of a loss, on shapes alone."""

        def gradient(params: Any, x: Any, lengths: Any) -> Any:
            task = Task(
                start=lambda params: begun(bound, params, None)[0],
                step=bound.step,
                rest=bound.rest,
                loss=_some_loss,
                targets=(),
                constants=begun(bound, params, None)[1],
                inputs=x,
                steps=self.steps,
                static=self.static,
                over=self.steps,
                keep="last",
                lengths=lengths,
            )
            return rule.schedule.gradients(task, params, jax.random.key(0) if rule.schedule.draws else None)[1]

        before = () if self.static else (self.steps,)
        x = jax.tree.map(lambda a: jax.ShapeDtypeStruct((*before, *a.shape), a.dtype), self.x)
        lengths = jax.ShapeDtypeStruct((bound.course.batch,), jnp.int32) if self.padded else None
        jax.eval_shape(gradient, bound.params, x, lengths)


class Enquiry:
    """Asks rules of a trial; what they have in common is found out once.

    Rules that refuse the same nets are bound once, under no name. A gradient is gone through only where the operations
    of a step do not tell already that there is one.

    Args:
      trial: the net and its input.
      collecting: find all reasons; else one of them, which is quicker.
    """

    def __init__(self, trial: Trial, collecting: bool = True):
        self._trial, self._collecting = trial, collecting
        # Parameters that change from step to step matter to such layers alone.
        self._moving = any(needs_all_steps(module) for _, module in modules(trial.make()))
        self._found: dict[Any, tuple[Bound | None, tuple[Reason, ...]]] = {}

    def like(self, rule: Rule) -> Rule:
        """The rule that is bound for it, under no name."""
        return dataclasses.replace(rule, name=_ANY, propagation=rule.propagation.refuses_as)

    def know(self, rule: Rule, bound: Bound, reasons: tuple[Reason, ...]) -> None:
        """Takes note of how the net was bound to `like(rule)`."""
        self._found[self._kind(rule)] = bound, reasons

    def reasons(self, rule: Rule) -> tuple[Reason, ...]:
        """Why the rule does not train the net; none if it does."""
        kind = self._kind(rule)
        if kind not in self._found:
            self._found[kind] = self._trial.tried(self.like(rule), self._collecting, gradient=False)
        bound, reasons = self._found[kind]
        if reasons:
            return tuple(Reason(path, sentence.replace(_ANY, rule.name)) for path, sentence in reasons)
        if bound is not None and not self._trial.padded and _surely_differentiable(bound):
            return ()
        return self._trial.tried(rule, self._collecting)[1]

    def trained_by(self) -> list[str]:
        """The names of the rules that train the net."""
        # With lengths and a state, see `check_padded`.
        only_stepwise = self._trial.padded and self._trial.going_on
        asked = {n: r for n, r in ASKED.items() if not (only_stepwise and r.propagation.whole_sequence)}
        return [name for name, rule in asked.items() if not self.reasons(rule)]

    def _kind(self, rule: Rule) -> Any:
        moving = self._moving and rule.schedule.updates(self._trial.steps) > 1
        part = rule.schedule.part(self._trial.steps)
        return rule.propagation.refuses_as, rule.schedule.sees_all_steps, moving, part


def _surely_differentiable(bound: Bound) -> bool:
    real = all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(bound.params))
    return real and bound.program is not None and surely_differentiable(bound.program)


def _some_loss(output: Any) -> jax.Array:
    real = [jnp.real(leaf) for leaf in jax.tree.leaves(output) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return sum((jnp.mean(leaf.astype(jnp.float32)) for leaf in real), jnp.zeros(()))


def _told(error: Exception) -> str:
    """An error in one line, with where it happened."""
    told = " ".join(f"{type(error).__name__}: {error}".split())
    return " ".join([told, *getattr(error, "__notes__", ())])


def bound_to(
    trial: Trial, rule: Rule, read: Reading | None, record: tuple[str, ...] = (), refusals: Refusals | None = None
) -> Bound:
    """The net bound to the rule, with errors that explain the axes of its input.

    Args:
      trial: the net and its input.
      rule: which is to run it.
      read: how the input was understood; None explains nothing about its axes.
      record: as of `bind`.
      refusals: as of `bind`.

    Raises:
      ValueError: the rule cannot train the net, or the net does not fit the input.
    """
    refused = Refusals() if refusals is None else refusals
    return bound_or_explained(lambda net: trial.bound(rule, refused, net, record), trial.make, read)


def bound_or_advised(trial: Trial, rule: Rule, read: Reading | None, record: tuple[str, ...] = ()) -> Bound:
    """As `bound_to`; where the rule refuses the net, the error names those that train it."""
    refusals = Refusals()
    try:
        return bound_to(trial, rule, read, record, refusals)
    except ValueError as error:
        if error is refusals.raised:
            error.args = (f"{error} {_advice(trial)}",)
        raise


def _advice(trial: Trial) -> str:
    names = Enquiry(trial, collecting=False).trained_by()
    going_on = " on a sequence that goes on from call to call" * trial.going_on + " with lengths" * trial.padded
    if names:
        return f"Rules that train this net as it is{going_on}: {', '.join(names)}."
    told = "tells of sequences that begin at rest and are of one length" if going_on else "lists all that is in the way"
    return f"No rule trains this net as it is{going_on}: safjax.check(net, x) {told}."
