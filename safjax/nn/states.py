"""The variables of an NNX module as plain data."""

from collections.abc import Iterable
from typing import Any

from flax import nnx


def split(module: nnx.Module, *types: Any) -> tuple:
    """(graphdef, state of each type, state of all others), the states as plain arrays."""
    graphdef, *states = nnx.split(module, *types, ...)
    return graphdef, *nnx.as_pure(tuple(states))


def flat(state: nnx.State) -> dict:
    """{path: value} of every variable."""
    return dict(nnx.to_flat_state(state))


def join(path: Iterable[Any]) -> str:
    """A module's path as messages write it: layers.0."""
    return ".".join(str(part) for part in path) or "the net itself"
