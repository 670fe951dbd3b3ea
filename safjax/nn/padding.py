"""Checks of padded batches: lengths that fit them, losses and rules that know what to do with them."""

from typing import Any

import jax
import jax.numpy as jnp

from safjax.losses import is_of_sequence, is_timed
from safjax.rules import Rule
from safjax.state import State


def check_lengths(lengths: Any, steps: int, batch: int, goes_on: bool) -> None:
    """Refuses lengths that are none of this batch.

    Args:
      lengths: how many steps of the batch each member has, [B].
      steps: T.
      batch: B.
      goes_on: whether the call was given a state; then a member may have no step in it.

    Raises:
      TypeError: they are no whole numbers.
      ValueError: there are more or fewer of them than members, or one lies outside 1 ... T.
    """
    if not hasattr(lengths, "dtype"):
        raise TypeError(
            f"lengths must be an array of whole numbers [B], how many steps of x each member has, but was a "
            f"{type(lengths).__name__}: write lengths=jnp.array(...)."
        )
    if not isinstance(lengths, jax.core.Tracer):
        # On the host: within a compiled function even the least of known numbers is one that cannot be looked at.
        lengths = jax.device_get(lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(
            f"lengths must be whole numbers [B], how many steps of x each member has, but was of {lengths.dtype}. Of a "
            "mask [T, B] that is True on a member's own steps write lengths = mask.sum(0)."
        )
    if lengths.shape != (batch,):
        raise ValueError(
            f"lengths has the shape {list(lengths.shape)}, but x has B = {batch} members, of T = {steps} steps: "
            f"expected one whole number for each, [{batch}]."
        )
    if isinstance(lengths, jax.core.Tracer):
        return
    least = 0 if goes_on else 1
    if int(lengths.min()) < least or int(lengths.max()) > steps:
        raise ValueError(
            f"lengths lie between {int(lengths.min())} and {int(lengths.max())}, but x has T = {steps} steps: expected "
            f"numbers from {least} to {steps}."
            + ("" if goes_on else " A member without any step has no loss; leave it out of the batch.")
        )


def check_padded(rule: Rule, loss: Any, targets: tuple[Any, ...], x: Any, state: State | None) -> None:
    """Refuses what cannot be told member by member.

    Args:
      rule, loss, targets: of the call.
      x: the shapes of one step's input, [B, ...].
      state: with which the sequence goes on.

    Raises:
      ValueError: a loss of the whole sequence; a target that is not [B, ...]; a state under a rule that goes layer by
        layer.
    """
    if is_of_sequence(loss):
        raise ValueError(
            "The loss is a SequenceLoss, which sees the outputs of all steps, those beyond a member's length too. With "
            "lengths, give a loss of one step, (output[B, ...], *targets), of which each member's mean goes over its "
            "own steps; a target that changes in time is safjax.losses.Timed."
        )
    if state is not None and rule.propagation.whole_sequence:
        raise ValueError(
            f"The rule '{rule.name}' computes each layer over all steps at once and hands on the state after the last, "
            "but with lengths members end before. Give it either lengths or a state, or take a rule that goes step by "
            "step."
        )
    batch = jax.tree.leaves(x)[0].shape[0]
    for target in jax.tree.leaves(targets, is_leaf=is_timed):
        shapes = [leaf.shape[is_timed(target) :] for leaf in jax.tree.leaves(target)]
        for shape in shapes:
            if (is_timed(target) or shape) and shape[:1] != (batch,):
                raise ValueError(
                    f"With lengths the loss is taken of each member by itself, so a target is [B, ...], a Timed one "
                    f"[T, B, ...], here with B = {batch}, or a single number; but one has the shape {list(shape)} at a "
                    "step. What belongs to no member, such as weights of classes, is better held by the loss."
                )
