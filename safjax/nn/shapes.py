"""Mistakes about the axes of the input, told as what they are: a forgotten time, a swapped batch, missing channels."""

import contextlib
import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.losses import SequenceLoss, WithRecords
from safjax.nn.layer_inputs import Calls, Reached, convolution_ranks, recorded

BATCH_FIRST = "Is x batch-first, x[B, T, ...]? Make it time-major: jnp.swapaxes(x, 0, 1)."
NO_TIME = (
    "An axis of time is missing. A static image x[B, ...] is shown at every step: give steps=T. A sequence of a single "
    "example needs an axis of batch: x[:, None]."
)
NO_STEPS = "x looks like a time-major sequence x[T, B, ...], which takes no steps: leave steps out."


class Reading(NamedTuple):
    """How an input was understood.

    Attributes:
      shape: that of x.
      steps: T where x is one image for all steps, None where it is a sequence.
      stream: whether x is a single step of a stream.
    """

    shape: tuple[int, ...]
    steps: int | None
    stream: bool = False

    @property
    def static(self) -> bool:
        """Whether x has no axis of time."""
        return self.stream or self.steps is not None

    @property
    def step(self) -> tuple[int, ...]:
        """The shape of one step's input, [B, ...]."""
        return self.shape if self.static else self.shape[1:]

    def __str__(self) -> str:
        batch = f"B = {self.step[0]}" if self.step else "no axis of batch"
        if self.stream:
            return f"x of shape {list(self.shape)} was read as one time step x[B, ...], {batch}"
        if self.steps is not None:
            return (
                f"x of shape {list(self.shape)} with steps={self.steps} was read as a static image x[B, ...], {batch}, "
                f"shown at each of T = {self.steps} steps"
            )
        return (
            f"x of shape {list(self.shape)} without steps was read as a time-major sequence x[T, B, ...], T = "
            f"{self.shape[0]}, {batch}, one step of shape {list(self.step)}"
        )


def reading(x: Any, steps: int | None, stream: bool = False) -> Reading | None:
    """How x is understood; None where it is not a single array."""
    leaves = jax.tree.leaves(x)
    return Reading(leaves[0].shape, steps, stream) if len(leaves) == 1 else None


def bound_or_explained(bind: Callable[[nnx.Module], Any], make: Callable[[], nnx.Module], read: Reading | None) -> Any:
    """bind(make()); a net that does not fit its input is refused by what is wrong about the input's axes.

    Args:
      bind: runs a net on shapes alone.
      make: a fresh copy of the net.
      read: how the input was understood; None explains nothing.

    Raises:
      ValueError: the net's first layers do not fit the input. Where that explains nothing, what `bind` raised.
    """
    if read is None:
        return bind(make())
    net = make()
    ranks = convolution_ranks(net)
    suspicious = len(read.step) + 1 in {2, *ranks} or (_as_long_as_steps(read) and len(read.step) - 1 in ranks)
    try:
        bound = bind(net)
    except (TypeError, ValueError, IndexError) as error:
        explanation = _mismatch(read, _calls(bind, make(), read))
        if explanation is None:
            raise
        raise ValueError(explanation) from error
    if suspicious and (explanation := _misread(read, _calls(bind, make(), read))) is not None:
        raise ValueError(explanation)
    return bound


def _as_long_as_steps(read: Reading) -> bool:
    return read.steps is not None and read.steps > 1 and read.shape[:1] == (read.steps,)


def _calls(bind: Callable[[nnx.Module], Any], net: nnx.Module, read: Reading) -> Calls:
    """Which layers are called, of a net that `bind` has been seen to take or to refuse."""
    with recorded(net) as calls, contextlib.suppress(Exception):
        bind(net)
    if read.static:
        return calls
    # Layer by layer, time is folded into the first axis.
    folded = read.shape[0] * (read.step or (0,))[0]
    one_step = {
        call: call._replace(shape=read.step[:1] + call.shape[1:]) for call in calls.all if call.shape[:1] == (folded,)
    }
    return Calls(
        [one_step.get(call, call) for call in calls.all], calls.failed and one_step.get(calls.failed, calls.failed)
    )


def _misread(read: Reading, calls: Calls) -> str | None:
    """What stock layers do not refuse: one example without an axis of batch, and further axes of batch."""
    first = calls.all[0] if calls.all else None
    if first is None or len(first.shape) != len(read.step):
        return None
    excess = len(first.shape) - (first.rank or max(2, len(first.shape)))
    if excess == -1:
        return _told(read, first, _axis_too_few(read, first))
    if excess == 1 and _as_long_as_steps(read):
        other = "If axis 0 is the batch after all, fold axis 1 into it: x.reshape(-1, *x.shape[2:])."
        return _told(read, first, f"{NO_STEPS} {other}")
    return None


def _mismatch(read: Reading, calls: Calls) -> str | None:
    if calls.failed is None:
        return _misread(read, calls)
    first, failed = calls.all[0], calls.failed
    if not first.fits:
        return _told(read, first, _of_first(read, first))
    return None if failed.fits else _told(read, failed, _of_flat(read, failed))


def _of_first(read: Reading, call: Reached) -> str | None:
    """What is wrong about the input that the first layer does not take."""
    excess = len(call.shape) - (call.rank or max(2, len(call.shape)))
    if len(call.shape) == len(read.step) and excess == -1:
        return _axis_too_few(read, call)
    if excess == 1 and call.shape[-1] == call.width and len(call.shape) == len(read.step):
        if read.stream:
            return "A stream takes one step at a time: give it x[t]."
        return NO_STEPS if read.steps else "One step of it has an axis too many."
    return _of_flat(read, call) or _other_axis(read, call)


def _axis_too_few(read: Reading, call: Reached) -> str:
    if call.shape[-1] != call.width:
        channels = "An axis is missing. Images have their channels last: of grey ones make x[..., None]."
        return channels if read.static else f"{channels} {NO_TIME}"
    return "The axis of batch is missing: x[None] is a batch of one." if read.static else NO_TIME


def _of_flat(read: Reading, call: Reached) -> str | None:
    """Of a dense layer after a flattening, by the number of features that it wants."""
    if call.rank is not None:
        return None
    if not read.static and len(read.shape) > 1 and math.prod(read.shape[1:]) == call.width:
        return NO_TIME
    if not read.stream and read.static and len(read.shape) > 2 and math.prod(read.shape[2:]) == call.width:
        return NO_STEPS
    if math.prod(read.step[1:]) == call.width and call.shape == read.step:
        return "Flatten each example before it: safjax.nn.Synapse(lambda x: x.reshape(x.shape[0], -1))."
    return None


def _other_axis(read: Reading, call: Reached) -> str | None:
    if call.width not in read.shape[:-1] or len(call.shape) != len(read.step):
        return None
    axis = read.shape.index(call.width)
    found = f"Its width {call.width} was found on axis {axis} of x, but features and channels come last"
    if read.static or axis != 1 or len(read.shape) != 3:
        return f"{found}: jnp.moveaxis(x, {axis}, -1)."
    return (
        f"{found}, and time first. Is x batch-first, x[B, {call.width}, T]? Then jnp.moveaxis(x, -1, 0) makes it "
        f"x[T, B, {call.width}]. Is it x[T, {call.width}, B]? Then write jnp.swapaxes(x, 1, 2)."
    )


def _told(read: Reading, call: Reached, cure: str | None) -> str:
    given = f"The {call.kind} at '{call.path}' wants {call.wanted}, but was given {list(call.shape)}"
    return f"{given}. {read}. {cure or ''}".rstrip()


def check_labels(targets: tuple[Any, ...], read: Reading | None) -> None:
    """Refuses labels of which there are as many as x has steps, not examples: its axes are not what they were read as.

    Raises:
      ValueError: the first target are whole numbers [B′], B′ is not the batch of x, but another one of its axes, or 1.
    """
    labels = targets[0] if targets else None
    if read is None or not read.step or not isinstance(labels, jax.Array) or labels.ndim != 1:
        return
    count, other = len(labels), _other_batch(read)
    if not jnp.issubdtype(labels.dtype, jnp.integer) or count == read.step[0]:
        return
    if count == 1:
        raise ValueError(
            f"There is one label for a batch of {read.step[0]} examples. {read}. A loss would take it for the label of "
            f"every example; if that is meant, write jnp.broadcast_to(labels, {read.step[0]})."
        )
    if (count,) != other:
        return
    axis = 0 if read.steps is None else 1
    raise ValueError(f"There are {count} labels, as many as axis {axis} of x is long. {read}. {_swapped(read)}")


def _other_batch(read: Reading) -> tuple[int, ...]:
    """How many examples x has if it was not meant as it was read; of numbers x[B, n] with steps that cannot be."""
    return read.shape[:1] if read.steps is None else read.shape[1:2] if len(read.shape) > 2 else ()


def _swapped(read: Reading) -> str:
    """The cure where there are as many targets as x has steps, or with steps given, as its axis 1 is long."""
    if read.steps is not None:
        return NO_STEPS
    return NO_TIME if len(read.shape) == 2 else f"{BATCH_FIRST} A static image x[B, ...] is given steps=T."


def explained_loss(loss: Callable[..., Any], read: Reading | None, told: int = 0) -> Callable[..., Any]:
    """The loss; where it fails on outputs and targets that do not go together, it says which and why."""
    if isinstance(loss, WithRecords):
        return dataclasses.replace(loss, function=explained_loss(loss.function, read, told=1))
    if isinstance(loss, SequenceLoss):
        return dataclasses.replace(loss, function=_explained(loss.function, read, 1, told))
    return _explained(loss, read, 0, told)


def _explained(function: Callable[..., Any], read: Reading | None, axes_of_time: int, told: int) -> Callable[..., Any]:
    def call(outputs: Any, *others: Any) -> Any:
        try:
            return function(outputs, *others)
        except (TypeError, ValueError, IndexError) as error:
            targets = others[told:]
            shapes = [leaf.shape for leaf in jax.tree.leaves(outputs)]
            explanation = None
            if len(shapes) == 1 and targets and read is not None:
                explanation = _of_loss(shapes[0][axes_of_time:], targets[0], read)
            if explanation is None:
                _noted(error, (outputs, *others))
                raise
            raise ValueError(f"{explanation} The loss itself said: {error}") from error

    return call


def _noted(error: Exception, arguments: tuple[Any, ...]) -> None:
    """Adds to an error of the loss what it was called with, the output first."""
    given = [
        f"{leaf.dtype}{list(leaf.shape)}" if isinstance(leaf, jax.Array) else type(leaf).__name__
        for leaf in jax.tree.leaves(arguments)
    ]
    note = f"This happened in the loss, which is called with a step's output and the targets: {', '.join(given)}."
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)


def _of_labels(output: tuple[int, ...], target: jax.Array) -> str | None:
    """The cure where targets fit the batch, but are not the labels [B] that a loss of whole numbers takes."""
    if target.shape == (*output[:-1], 1) != output:
        return "Labels have no axis of their own: write labels[..., 0]."
    if target.shape == output:
        return (
            "A target for each output, one-hot or probabilities, goes with optax.softmax_cross_entropy; "
            "optax.softmax_cross_entropy_with_integer_labels takes labels.argmax(-1)."
        )
    if target.shape == output[:-1] and jnp.issubdtype(target.dtype, jnp.floating):
        return "Labels of classes are whole numbers: write labels.astype(int)."
    return None


def _of_loss(output: tuple[int, ...], target: Any, read: Reading) -> str | None:
    """What is wrong about a step's output and the first target, where it is their axes."""
    if isinstance(target, list) and not any(map(jnp.ndim, jax.tree.leaves(target))):
        return "The first target is a list of numbers: make it an array, jnp.asarray(target)."
    if not isinstance(target, jax.Array):
        return None
    shape = target.shape
    if len(output) > 1 and shape[:1] == output[:1] == read.step[:1] and len(shape) <= len(output) <= len(shape) + 1:
        cure = _of_labels(output, target)
        given = f"a step's output of shape {list(output)} and the target {target.dtype}{list(shape)}"
        return cure and f"The loss was given {given}. {cure}"
    told = f"The loss was given a step's output of shape {list(output)} and a target of shape {list(shape)}. {read}."
    return f"{told} {_cure_by_target(shape, read, len(output))}".rstrip()


def _cure_by_target(shape: tuple[int, ...], read: Reading, rank: int) -> str:
    if read.steps is None and len(shape) > 1 and shape[:2] == read.shape[:2]:
        return "A target that changes in time, y[T, B, ...], is written safjax.losses.Timed(y)."
    if read.steps is not None and rank == 3 == len(read.shape) and shape == read.step[:1]:
        return "If axis 1 of x is time, x is a sequence, which takes no steps: leave them out, jnp.swapaxes(x, 0, 1)."
    return _swapped(read) if shape[:1] == _other_batch(read) != read.step[:1] else ""
