"""How the time steps lie in an array that a layer is called with: the layer itself sees a batch only."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax

from safjax.messages import Kept, Sequence
from safjax.nn.module import Binding, present_trace


class Layout(NamedTuple):
    """The steps of an array [held · B, ...].

    Attributes:
      held: how many steps lie in its leading axis, one after the other: T where time is folded into the batch, else 1.
      meant: how many steps it is the input of: T also for an image that is the same at all of them.
    """

    held: int
    meant: int


def rows_of_steps(binding: Binding, layout: Layout, x: jax.Array, name: str) -> jax.Array:
    """x[held · B, ...] as [held, B, ...].

    Raises:
      ValueError: its leading axis is another one.
    """
    steps, batch = binding.course.steps, binding.course.batch
    if x.shape[0] != layout.held * batch:
        raise ValueError(
            f"{name} at '{binding.path}' was given an array of shape {list(x.shape)}, but its leading axis must be the "
            f"batch, {batch}" + f", times T = {steps} under this rule" * (layout.held > 1) + ": in another order it "
            "could not tell the steps apart. Reshape behind it."
        )
    return x.reshape(layout.held, batch, *x.shape[1:])


_IN_SYNAPSE: ContextVar[Layout | None] = ContextVar("_IN_SYNAPSE", default=None)
_ENTERED: ContextVar[tuple[list[Any], Any] | None] = ContextVar("_ENTERED", default=None)


def layout_of(*messages: Any) -> Layout:
    """The layout of the arrays that a synapse makes of messages for its layer."""
    if not isinstance(messages[0], Sequence | Kept):
        return Layout(1, 1)
    still = all(isinstance(message, Sequence) and message.still for message in messages)
    first = messages[0]
    steps = first.steps if isinstance(first, Sequence) else len(first.kept)
    return Layout(1 if still else steps, steps)


@contextlib.contextmanager
def laid_out(layout: Layout) -> Iterator[None]:
    """While a synapse calls its layer."""
    token = _IN_SYNAPSE.set(layout)
    try:
        yield
    finally:
        _IN_SYNAPSE.reset(token)


def layout_in_synapse() -> Layout | None:
    """The layout of the array that the present synapse gave its layer; None outside of synapses."""
    return _IN_SYNAPSE.get()


@contextlib.contextmanager
def entries() -> Iterator[list[tuple[str, jax.Array]]]:
    """Collects what `enter` is given meanwhile."""
    found: list[tuple[str, jax.Array]] = []
    token = _ENTERED.set((found, present_trace()))
    try:
        yield found
    finally:
        _ENTERED.reset(token)


def enter(binding: Binding, x: jax.Array) -> None:
    """The layer so bound, which is given one step of its input, needs them all.

    It is refused where x is out of reach, so that nobody can tell whether it is the same at every step.
    """
    entered = _ENTERED.get()
    if entered is None:
        return
    found, trace = entered
    if present_trace() != trace:
        binding.refuse(
            f"The layer at '{binding.path}' needs all time steps of its input, but is called inside a loop or a "
            "transformation (nnx.scan, nnx.remat, nnx.jit) under a rule that goes step by step. Call it outside of "
            "that, or write over='step'."
        )
    else:
        found.append((binding.path, x))
