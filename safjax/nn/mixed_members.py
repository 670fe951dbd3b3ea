"""Functions in a synapse that mix the members of a batch: refused where it holds more than the members of one step."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import nnx

from safjax.messages import Kept
from safjax.messages import Sequence as AllSteps
from safjax.mixing import mixing_operation
from safjax.nn.layout import layout_of
from safjax.nn.module import Binding
from safjax.nn.states import split
from safjax.nn.statistics import is_unnamed


def refuse_mixing(binding: Binding, layer: nnx.Module, called: Callable[..., Any], messages: Sequence[Any]) -> None:
    """Refuses the layer of the Synapse so bound if it mixes time steps, or members that end with others that go on.

    Args:
      binding: of the synapse, while shapes are being found out.
      layer: what it holds.
      called: (a copy of the layer, *arrays) ↦ its result.
      messages: what it is given.
    """
    steps = layout_of(*messages).held
    alone = steps == 1 and not binding.course.padded and not binding.propagation.per_weight
    if binding.discovering is None or alone:
        return
    graphdef, params, rest = split(layer, nnx.Param)

    def function(variables: tuple[Any, ...], xs: list[Any]) -> tuple[Any, ...]:
        copied = nnx.merge(graphdef, *variables, copy=True)
        return called(copied, *xs), split(copied, is_unnamed)[1]

    xs = [_given(message, steps) for message in messages]
    with binding.discovering.aside():
        closed = jax.make_jaxpr(function)((params, rest), xs)
    held = len(closed.jaxpr.invars) - len(xs)
    variables, statistics = closed.jaxpr.invars[:held], closed.jaxpr.outvars[1:]
    if any(all(after is not before for before in variables) for after in statistics):
        # These are refused by their own name.
        return
    operation = mixing_operation(closed, [False] * held + [True] * len(xs))
    if operation is not None:
        binding.refuse(_told(binding, operation))


def _given(message: Any, steps: int) -> jax.ShapeDtypeStruct:
    """The array that the layer is given of a message, where `steps` lie in its batch."""
    x = jax.tree.leaves(message)[0]
    over_time = isinstance(message, Kept) or (isinstance(message, AllSteps) and not message.still)
    step = x.shape[1:] if over_time else x.shape
    return jax.ShapeDtypeStruct((math.prod((steps, *step[:1])), *step[1:]), x.dtype)


def _told(binding: Binding, operation: str) -> str:
    told = f"The function in the Synapse at '{binding.path}' mixes the members of its batch, by {operation}. "
    if binding.course.padded:
        return (
            f"{told}With lengths some members have ended where others go on, so that what stands beyond a member's end "
            "would reach the others. Keep the members apart, or give the net sequences of one length, without lengths."
        )
    if binding.propagation.per_weight:
        return (
            f"{told}The rule '{binding.rule}' keeps the derivatives of each member by itself. Keep the members apart, "
            "or train with bptt() or sltt()."
        )
    return (
        f"{told}Under the rule '{binding.rule}' all time steps lie in that batch, one after the other, so that steps "
        "would be mixed as well. For statistics of a batch write safjax.nn.BatchNorm(features, over='step'), which "
        "knows of time; everything else of the kind is trained by bptt() and sltt(), step by step."
    )
