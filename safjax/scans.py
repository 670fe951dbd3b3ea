"""Which values of a `jax.lax.scan`, in a traced program, are constants, which go on from turn to turn, which are rows.

It is read from their shapes: a row stands in the body without its leading axis, everything else as it is. So it does
not depend on what JAX calls a scan's parameters, which differs between its versions.
"""

from typing import Any

from jax.extend import core


def body(scan: Any) -> core.Jaxpr:
    """The program of one turn: constants, carries and rows ↦ carries and rows."""
    return next(core.jaxprs_in_params(scan.params))


def carries(scan: Any) -> slice:
    """The inputs of a scan that go on from turn to turn; its constants stand before them, its rows behind.

    Args:
      scan: an equation whose primitive is `scan`.
    """
    turn = body(scan)
    rows = sum(map(_is_row, scan.invars, turn.invars))
    last = len(scan.invars) - rows
    carried = len(scan.outvars) - sum(map(_is_row, scan.outvars, turn.outvars))
    return slice(last - carried, last)


def _is_row(outside: Any, inside: Any) -> bool:
    return outside.aval.ndim > inside.aval.ndim
