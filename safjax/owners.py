"""Reads from a traced function which of its weights drives which neuron."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from safjax.members import NOBODY, Members
from safjax.mixing import follow

Weights = Sequence[Any]


def owner_axes(function: Callable[..., jax.Array], weights: Weights, xs: Sequence[Any]) -> list[int | None]:
    """Of each weight array the axis along which entry j drives neuron j alone; None where there is none.

    The answer is conservative: of an operation that is not known, None.

    Args:
      function: (weights, *xs) ↦ I[B, n].
      weights: a list of arrays or shapes.
      xs: its inputs, arrays or shapes.

    Example:
      >>> import jax.numpy as jnp
      >>> from safjax.owners import owner_axes
      >>> dense = lambda w, x: x @ w[0] + w[1]
      >>> owner_axes(dense, [jnp.ones((5, 3)), jnp.ones(3)], [jnp.ones((2, 5))])
      [1, 0]
      >>> owner_axes(lambda w, x: x @ w[0] @ w[1], [jnp.ones((5, 3)), jnp.ones((3, 4))], [jnp.ones((2, 5))])
      [None, 1]
    """
    weights, xs = ([jax.ShapeDtypeStruct(jnp.shape(a), a.dtype) for a in arrays] for arrays in (weights, xs))
    shape = jax.eval_shape(function, weights, *xs).shape
    if len(shape) != 2:
        return [None] * len(weights)
    return [_owner_axis(function, weights, xs, place, shape[1]) for place in range(len(weights))]


def _owner_axis(
    function: Callable[..., Any], weights: list[Any], xs: list[Any], place: int, neurons: int
) -> int | None:
    shape = weights[place].shape
    axes = [axis for axis in reversed(range(len(shape))) if shape[axis] == neurons]
    # One neuron is driven by all there is.
    return next((axis for axis in axes if neurons == 1 or _drives_its_own(function, weights, xs, place, axis)), None)


def _drives_its_own(function: Callable[..., Any], weights: list[Any], xs: list[Any], place: int, axis: int) -> bool:
    neurons = weights[place].shape[axis]
    front = (neurons, *(n for a, n in enumerate(weights[place].shape) if a != axis))

    def by_neuron(own: Any, others: list[Any], xs: list[Any]) -> Any:
        return jnp.moveaxis(function([*others[:place], jnp.moveaxis(own, 0, axis), *others[place + 1 :]], *xs), 1, 0)

    closed = jax.make_jaxpr(by_neuron)(jax.ShapeDtypeStruct(front, weights[place].dtype), weights, xs)
    in_order = Members({0: tuple(range(neurons))})
    return follow(closed.jaxpr, [in_order] + [NOBODY] * (len(closed.jaxpr.invars) - 1)) == [in_order]


def slopes_of(
    function: Callable[..., jax.Array], weights: Weights, xs: Sequence[jax.Array], axes: Sequence[int]
) -> list[jax.Array]:
    """dI[b, j] / dw[..., j] for each weight array whose axis of neurons is known: [B, ..., n], that axis moved last.

    Args:
      function: (weights, *xs) ↦ I[B, n], also of a batch of one member; it does not mix the members.
      weights, xs: arrays.
      axes: of each weight array, the axis along which entry j drives neuron j alone.
    """

    def of_member(*xs: jax.Array) -> Any:
        value, pull_back = jax.vjp(lambda w: function(w, *(x[None] for x in xs)), list(weights))
        # A weight drives one neuron, so the derivative of the sum over neurons is that of this one.
        return pull_back(jnp.ones_like(value))[0]

    return [jnp.moveaxis(d, axis + 1, -1) for d, axis in zip(jax.vmap(of_member)(*xs), axes, strict=True)]
