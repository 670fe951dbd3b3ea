"""What a synapse is called with and what its layer returns: a number of arrays of one batch, and one array."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.messages import is_message

_NO_ARRAYS = {"out_sharding", "use_running_average", "deterministic", "rngs"}
"""What stock layers take behind their input."""


def refuse_number(layer: nnx.Module, inputs: Sequence[Any], path: str) -> None:
    """Refuses, for the Synapse at `path`, inputs that are no arrays, and more or fewer of them than its layer takes.

    Raises:
      TypeError: there are.
    """
    for place, x in enumerate(inputs):
        if not is_message(x) and not hasattr(x, "shape"):
            raise TypeError(
                f"The Synapse at '{path}' was given a {type(x).__name__} as its input {place + 1}, but expected is "
                "what a layer returns, or an array [B, ...]. Numbers and the like belong into its function."
            )
    signature = _signature(layer)
    if signature is None:
        return
    try:
        signature.bind(*inputs)
    except TypeError as error:
        raise TypeError(
            f"The Synapse at '{path}' was given {len(inputs)} input{'s' * (len(inputs) > 1)}, but its layer takes "
            f"{signature}. A synapse is called with as many inputs as its layer, or its function, has arguments."
        ) from error


def _signature(layer: Callable[..., Any]) -> inspect.Signature | None:
    while isinstance(layer, nnx.Sequential) and layer.layers:
        layer = layer.layers[0]
    try:
        signature = inspect.signature(layer)
    except ValueError:
        # As of some functions that are written in C.
        return None
    return signature.replace(parameters=[p for name, p in signature.parameters.items() if name not in _NO_ARRAYS])


def refuse_batches(messages: Sequence[Any], path: str) -> None:
    """Refuses inputs of different batches, such as a constant.

    Raises:
      ValueError: there are.
    """
    shapes = [list(m.step_shape if is_message(m) else jnp.shape(m)) for m in messages]
    if any(shape[:1] != shapes[0][:1] or not shape for shape in shapes):
        raise ValueError(
            f"The Synapse at '{path}' was given inputs of the shapes {', '.join(map(str, shapes))} at a step, but "
            "expected are arrays [B, ...] of one batch. What all members have in common its function holds itself: a "
            "module with an nnx.Param or an nnx.Variable."
        )


def refuse_result(result: Any, xs: Sequence[jax.Array], path: str) -> None:
    """Refuses what is no array and, of several inputs, an array of another batch.

    Raises:
      TypeError, ValueError: it is.
    """
    if not hasattr(result, "shape"):
        raise TypeError(
            f"The layer in the Synapse at '{path}' returned a {type(result).__name__}, but expected is one array "
            "[B, ...]. What is to go several ways is returned by several synapses."
        )
    if len(xs) > 1 and result.shape[:1] != xs[0].shape[:1]:
        raise ValueError(
            f"The layer in the Synapse at '{path}' made an array of shape {list(result.shape)} of inputs of the shapes "
            f"{', '.join(str(list(x.shape)) for x in xs)}, but its first axis must be theirs, that of the batch."
        )
