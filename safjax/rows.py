"""Reads from a traced function whether it computes every row of its batch by itself, wherever in a batch that stands.

Of such a function f, f of a batch that several batches were joined to is what f is of each of them. `safjax.mixing`
says whether members are certainly mixed; here they must certainly be apart, and what is unknown counts against it. Nor
may anything tell one row from another: a random number for each of them, their index, a table that is cut to their
number. All that may be made as long as the batch is the same for every row.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from jax.extend import core

from safjax.members import NOBODY, Members
from safjax.mixing import ENTRY_BY_ENTRY, FUNCTIONS, follow
from safjax.same_program import inner_programs

NUMBERS = (127, 211, 307, 401, 503)
"""Of rows. Where no axis of a net is a multiple of one, an axis of its program that is has to do with the batch."""


def telling_numbers(shapes: Iterable[Sequence[int]]) -> list[int]:
    """Two numbers of rows that no axis of these shapes is a multiple of; fewer where there are none."""
    sizes = {size for shape in shapes for size in shape if size}
    return [n for n in NUMBERS if all(size % n for size in sizes)][:2]


def by_rows(closed: core.ClosedJaxpr, axes: Sequence[int | None], rows: int) -> bool:
    """Whether a program certainly computes each row of its results from that row of its inputs, and all rows alike.

    Args:
      closed: the program. Its results have the rows along their leading axis.
      axes: along which axis its inputs have them; None for none.
      rows: how many, one of the `telling_numbers` for all its other axes.
    """
    order = tuple(range(rows))
    if closed.effects or any(_has(constant, rows) for constant in _constants(closed.jaxpr)):
        return False
    different: list[Any] = []

    def alone(eqn: Any) -> None:
        if not _alike(eqn, rows):
            different.append(eqn)

    results = follow(closed.jaxpr, [NOBODY if a is None else Members({a: order}) for a in axes], alone)
    return not different and all(members == Members({0: order}) for members in results)


def largest_row(jaxpr: core.Jaxpr, rows: int) -> int:
    """The bytes of one row of the largest array in a program that has rows."""
    made: Any = (v.aval for part in _parts(jaxpr) for eqn in part.eqns for v in eqn.outvars if _has(v, rows))
    return max((a.size * a.dtype.itemsize for a in made), default=0) // rows


def _has(atom: Any, rows: int) -> bool:
    """Whether an array has an axis of rows, or one that rows were folded into."""
    return any(size and size % rows == 0 for size in getattr(atom.aval, "shape", ()))


def _alike(eqn: Any, rows: int) -> bool:
    """Whether what an equation makes of no row is the same for every row, if its inputs are."""
    name = eqn.primitive.name
    if name == "broadcast_in_dim" or name in ENTRY_BY_ENTRY or not any(_has(v, rows) for v in eqn.outvars):
        return True
    inner = list(core.jaxprs_in_params(eqn.params)) if name in FUNCTIONS else []
    return len(inner) == 1 and all(_alike(e, rows) for e in inner[0].eqns)


def _constants(jaxpr: core.Jaxpr) -> Iterator[Any]:
    """The arrays that stand in a program as they are."""
    for part in _parts(jaxpr):
        yield from part.constvars
        yield from (v for eqn in part.eqns for v in eqn.invars if isinstance(v, core.Literal))


def _parts(jaxpr: core.Jaxpr) -> Iterator[core.Jaxpr]:
    """A program and all that stand in it."""
    yield jaxpr
    for eqn in jaxpr.eqns:
        for inner in inner_programs(eqn):
            yield from _parts(inner)
