"""Weights that drive several neurons: refused where a derivative is kept for each weight, neuron and member."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jax

from safjax.nn.module import Binding
from safjax.owners import owner_axes
from safjax.precision import wide_dtype


def refuse_shared_weights(
    binding: Binding, function: Callable[..., Any], weights: list[Any], messages: Sequence[Any]
) -> None:
    """Refuses the Synapse so bound if its weights drive several neurons, or its input is a current itself.

    Args:
      binding: of the synapse, while shapes are being found out.
      function: (weights, *arrays) ↦ its result.
      weights: what it learns, a list of arrays.
      messages: what it is given.
    """
    if any(message.sources for message in messages):
        binding.refuse(
            f"The Synapse at '{binding.path}' is given what another Synapse returned, but the rule '{binding.rule}' "
            "keeps the derivatives of neurons by the weights that drive them, and not through a second map. Put "
            "neurons between the two; currents may be added and scaled by a Python number."
        )
        return
    inputs = [message.value for message in messages]
    if None not in owner_axes(function, weights, inputs):
        return
    shape = jax.eval_shape(function, weights, *inputs).shape
    binding.refuse(
        f"The rule '{binding.rule}' keeps a derivative for each weight, neuron that it drives, and example. "
        f"In the Synapse at '{binding.path}' a weight drives several neurons, so that these would take at least "
        f"{_bytes(weights, shape):,} bytes. In a dense layer, nnx.Linear, a weight drives one neuron; everything "
        "larger is trained by ottt_a() or sltt(), which keep one number for each neuron or none."
    )


def refuse_batched_weights(binding: Binding) -> NoReturn:
    """Refuses the Synapse so bound, which makes of its weights something else for batches of other sizes.

    Raises:
      ValueError: always.
    """
    binding.refusals.stop(
        binding.path,
        f"The Synapse at '{binding.path}' copies its weights for each member of its batch, but the rule "
        f"'{binding.rule}' keeps derivatives by the weights that members have in common. Let the product with the "
        "input do it: x @ w, or jnp.einsum('bi,io->bo', x, w).",
    )


def _bytes(weights: list[Any], shape: tuple[int, ...]) -> int:
    """Of a derivative for each weight at every place of a map, as of a convolution."""
    each_place = math.prod(shape[1:-1]) if len(shape) > 2 else shape[-1]
    return shape[0] * each_place * sum(math.prod(w.shape) * wide_dtype(w).itemsize for w in weights)
