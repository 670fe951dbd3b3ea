"""Compares two traces of one function, made with batches of two sizes, in which nothing but sizes may differ."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

_SIZES = {
    "dimensions", "length", "limit_indices", "new_sizes", "padding_config", "shape", "sizes", "slice_sizes",
    "start_indices",
}  # fmt: skip
"""Parameters of operations that are sizes of arrays."""


def same_program(one: core.ClosedJaxpr, other: core.ClosedJaxpr, rows: tuple[int, int]) -> bool:
    """Whether two programs are the same but for the sizes of what has rows, of which each has its own number.

    A function that reads how many rows it is given, to divide by it for instance, makes two that are not.
    """
    constants = zip(one.consts, other.consts, strict=False)
    alike = len(one.consts) == len(other.consts) and all(_same_constant(a, b) for a, b in constants)
    return alike and _same(one.jaxpr, other.jaxpr, rows)


def inner_programs(eqn: Any) -> list[core.Jaxpr]:
    """The programs in an equation; of a function that is spelled for several platforms the plain spelling."""
    inner = list(core.jaxprs_in_params(eqn.params))
    return inner[-1:] if eqn.params.get("branches_platforms") is not None else inner


def _same(one: core.Jaxpr, other: core.Jaxpr, rows: tuple[int, int]) -> bool:
    if len(one.eqns) != len(other.eqns):
        return False
    return all(_same_equation(a, b, rows) for a, b in zip(one.eqns, other.eqns, strict=True))


def _same_equation(one: Any, other: Any, rows: tuple[int, int]) -> bool:
    if one.primitive is not other.primitive or len(one.invars) != len(other.invars):
        return False
    for a, b in zip(one.invars, other.invars, strict=True):
        literal = isinstance(a, core.Literal)
        if literal != isinstance(b, core.Literal) or (literal and not _same_constant(a.val, b.val)):
            return False
    before, after = ([getattr(v.aval, "shape", ()) for v in eqn.outvars] for eqn in (one, other))
    if not _same_sizes(before, after, rows) or not _same_parameters(one.params, other.params, rows):
        return False
    pairs = zip(inner_programs(one), inner_programs(other), strict=False)
    return len(inner_programs(one)) == len(inner_programs(other)) and all(_same(a, b, rows) for a, b in pairs)


def _same_parameters(one: dict[str, Any], other: dict[str, Any], rows: tuple[int, int]) -> bool:
    for name in one.keys() | other.keys():
        a, b = one.get(name), other.get(name)
        if name in _SIZES:
            if not _same_sizes(a, b, rows):
                return False
        elif _plain(a) and _plain(b) and a != b:
            return False
    return True


def _plain(value: Any) -> bool:
    """Whether it is made of numbers and names: of functions nobody could tell whether they are the same."""
    if isinstance(value, tuple):
        return all(map(_plain, value))
    return value is None or isinstance(value, bool | int | float | complex | str | jnp.dtype)


def _same_sizes(one: Any, other: Any, rows: tuple[int, int]) -> bool:
    if isinstance(one, Sequence) and isinstance(other, Sequence) and not isinstance(one, str):
        return len(one) == len(other) and all(_same_sizes(a, b, rows) for a, b in zip(one, other, strict=True))
    if not isinstance(one, int) or not isinstance(other, int):
        return not _plain(one) or not _plain(other) or one == other
    return one == other or (one % rows[0] == other % rows[1] == 0 and one // rows[0] == other // rows[1])


def _same_constant(one: Any, other: Any) -> bool:
    """Bit by bit, whatever they are not."""
    if one is other:
        return True
    if type(one) is not type(other) or isinstance(one, jax.core.Tracer):
        return False
    if not hasattr(one, "tobytes"):
        return bool(one == other) or (one != one and other != other)  # NaN
    plain = not jnp.issubdtype(one.dtype, jax.dtypes.extended)
    return plain and (one.dtype, one.shape) == (other.dtype, other.shape) and one.tobytes() == other.tobytes()
