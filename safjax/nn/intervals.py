"""Learned numbers stay where they mean something: a decay in [0, 1], a threshold above 0."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from safjax.nn.module import SpikingModule
from safjax.nn.numbers import Interval, narrowed
from safjax.nn.states import flat, modules


def kept_within(optimizer: Any, net: nnx.Module) -> Any:
    """The optimizer, followed by a step to the nearest end of its interval for each learned number that left it.

    Where no number is learned it is the optimizer itself; its state is the same in any case.
    """
    intervals = _learned(net)
    if not intervals:
        return optimizer
    optimizer = optax.with_extra_args_support(optimizer)

    def inside(path: tuple[Any, ...], update: jax.Array, param: jax.Array) -> jax.Array:
        interval = intervals.get(tuple(getattr(key, "key", getattr(key, "idx", None)) for key in path))
        return update if interval is None else jnp.clip(param + update, *interval) - param

    def within(updates: Any, params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(inside, updates, params)

    def update(grads: Any, state: Any, params: Any, **extra: Any) -> tuple[Any, Any]:
        # For those that keep account of the new weights.
        updates, state = optimizer.update(grads, state, params, within=within, **extra)
        return within(updates, params), state

    return optax.GradientTransformationExtraArgs(optimizer.init, update)


def _learned(net: nnx.Module) -> dict[tuple[Any, ...], Interval]:
    """The intervals of the net's learned numbers, by their paths among its parameters."""
    # By identity: of a parameter that stands in a net several times the path is that of its first place.
    intervals = {
        id(number): narrowed(number, interval)
        for _, module in modules(net)
        if isinstance(module, SpikingModule)
        for name, interval in module.intervals.items()
        if isinstance(number := getattr(module, name, None), nnx.Variable)
    }
    params = flat(nnx.state(net, nnx.Param))
    found = {path: intervals.get(id(p), p.get_metadata("interval", None)) for path, p in params.items()}
    return {path: interval for path, interval in found.items() if interval is not None}
