"""The variables of an NNX module as plain data."""

import types
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
from flax import nnx

_HOLDS_NONE = {str, int, float, bool, complex, type(None), type, types.FunctionType, types.MethodType}


def split(module: nnx.Module, *types: Any) -> tuple[Any, ...]:
    """(graphdef, state of each type, state of all others), the states as plain arrays."""
    graphdef, *states = nnx.split(module, *types, ...)
    return graphdef, *nnx.as_pure(tuple(states))


def flat(state: nnx.State[Any, Any]) -> dict[Any, Any]:
    """{path: value} of every variable."""
    return dict(nnx.to_flat_state(state))


def join(path: Iterable[Any]) -> str:
    """A module's path as messages write it: layers.0."""
    return ".".join(str(part) for part in path) or "the net itself"


def modules(net: nnx.Module) -> Iterator[tuple[tuple[Any, ...], nnx.Module]]:
    """(path, module) of each module, as `nnx.iter_modules` has them and in its order, in a third of the time.

    Binding looks through a net a dozen times, and most of what its modules hold are numbers, names and arrays.
    """
    return ((path, node) for path, node, is_module in _nodes_in((), net, set()) if is_module)


def variables(net: nnx.Module) -> Iterator[nnx.Variable[Any]]:
    """Each variable of a net, found as quickly; one that stands in several places several times."""
    return (node for _, node, is_module in _nodes_in((), net, set()) if not is_module)


def _nodes_in(path: tuple[Any, ...], value: Any, seen: set[int]) -> Iterator[tuple[tuple[Any, ...], Any, bool]]:
    """(path, node, whether it is a module and no variable)."""
    if id(value) in seen:
        return
    seen.add(id(value))
    parts = _parts(value)
    if parts is None:
        # What is neither a module nor a plain container is left to NNX.
        for below, node in nnx.iter_graph(value):
            if isinstance(node, nnx.Module | nnx.Variable) and id(node) not in seen:
                seen.add(id(node))
                yield (*path, *below), node, isinstance(node, nnx.Module)
        return
    for name, part in parts:
        if type(part) in _HOLDS_NONE or isinstance(part, jax.Array | np.ndarray):
            continue
        if isinstance(part, nnx.Variable):
            yield (*path, name), part, False
        else:
            yield from _nodes_in((*path, name), part, seen)
    if isinstance(value, nnx.Module):
        yield path, value, True


def _parts(value: Any) -> Iterable[tuple[str | int, Any]] | None:
    """What a module or a plain container holds, by name, in the order of NNX; None of others."""
    if isinstance(value, nnx.List) or type(value) in (list, tuple):
        return enumerate(value)
    if isinstance(value, nnx.Module):
        attributes = ((name, part) for name, part in vars(value).items() if not name.startswith("_pytree__"))
        return sorted(attributes, key=lambda item: item[0])
    return sorted(value.items()) if type(value) is dict else None
