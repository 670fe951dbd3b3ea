"""Concatenation of what travels between layers."""

from typing import Any

import jax.numpy as jnp

from safjax.messages import Silence, is_message


def concatenate(*parts: Any, axis: int = -1) -> Any:
    """[B, ..., m] and [B, ..., n] ↦ [B, ..., m + n], of what spiking layers return or of plain arrays.

        safjax.nn.concatenate(encoded, upsampled)         # the skip of a U-Net

    Every rule trains it, since it is linear, a sum of paddings with zeros: spikes, traces and sums over time are put
    side by side alike. For a layer's result together with a plain array, such as the net's input, write
    `Synapse(lambda a, b: jnp.concatenate([a, b], -1))`, which takes both.

    Args:
      *parts: of one step, [B, ...] alike but for the size along `axis`.
      axis: of one step's [B, ...], whatever else the rule puts in front; not 0, the batch.

    Raises:
      TypeError: parts are given as a list, or none; layers' results together with plain arrays.
      ValueError: axis is that of the batch or none of theirs; their shapes do not go together.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, LeakyReadout, Synapse, concatenate
      >>> class Net(nnx.Module):
      ...     def __init__(self, rngs):
      ...         self.one, self.two = Synapse(nnx.Linear(3, 4, rngs=rngs)), Synapse(nnx.Linear(3, 5, rngs=rngs))
      ...         self.lif1, self.lif2, self.readout = LIF(), LIF(), LeakyReadout()
      ...     def __call__(self, x):
      ...         return self.readout(concatenate(self.lif1(self.one(x)), self.lif2(self.two(x))))
      >>> safjax.predict(Net(nnx.Rngs(0)), jnp.ones((2, 3)), steps=6).shape
      (6, 2, 9)
    """
    for part in parts:
        if isinstance(part, Silence):
            return part
    shapes, messages = [_shape(part) for part in parts], [part for part in parts if is_message(part)]
    if messages:
        messages[0].refuse_others("Concatenating", parts)
    behind = _behind(shapes, axis)
    if not messages:
        return jnp.concatenate(parts, behind)
    return messages[0].map_linear(lambda *arrays: jnp.concatenate(arrays, behind), *messages[1:])


def _shape(part: Any) -> tuple[int, ...]:
    if is_message(part):
        return part.step_shape
    if not hasattr(part, "shape"):
        raise TypeError(
            f"safjax.nn.concatenate was given a {type(part).__name__} as a part: write concatenate(first, second), or "
            "concatenate(*parts) of a list."
        )
    return tuple(part.shape)


def _behind(shapes: list[tuple[int, ...]], axis: int) -> int:
    """The axis counted from the end, behind which messages hold what they have in front."""
    if not shapes:
        raise TypeError("safjax.nn.concatenate was given no parts: write concatenate(first, second).")
    rank, listed = len(shapes[0]), ", ".join(str(list(shape)) for shape in shapes)
    if isinstance(axis, bool) or not isinstance(axis, int) or not -rank < axis < rank or axis == 0:
        raise ValueError(
            f"safjax.nn.concatenate(axis={axis!r}) of parts of the shapes {listed} at a step: expected is an axis from "
            f"1 to {rank - 1}, or from {1 - rank} to -1; the first is that of the batch, whose members stay apart."
        )
    behind = axis if axis < 0 else axis - rank
    if len({(*shape[: rank + behind], *shape[rank + behind + 1 :], len(shape)) for shape in shapes}) > 1:
        raise ValueError(
            f"safjax.nn.concatenate(axis={axis}) was given parts of the shapes {listed} at a step: expected are shapes "
            "that differ along this axis only."
        )
    return behind
