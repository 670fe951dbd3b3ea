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
    rows, results = _rows(scan.invars, turn.invars), _rows(scan.outvars, turn.outvars)
    last = len(scan.invars) - rows
    return slice(last - (len(scan.outvars) - results), last)


def _rows(outside: Any, inside: Any) -> int:
    return sum(outer.aval.ndim > inner.aval.ndim for outer, inner in zip(outside, inside, strict=True))
