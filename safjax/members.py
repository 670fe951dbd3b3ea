"""Which members of a batch the entries of an array depend on, and how that goes through changes of its shape."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

LONGEST = 1 << 18
"""Of longer axes nothing is said."""


class Mixed(NamedTuple):
    """Stands in the place of one member where an entry depends on several.

    Attributes:
      how: the operation that mixed them, in words.
    """

    how: str


class Unknown(NamedTuple):
    """Stands in the place of one member where nobody can tell."""


Member = Any
"""A member by its place in the batch; None for none; `Mixed`; `Unknown`; in a loop over members, an object that stands
for the one whose turn it is."""

Row = tuple[Member, ...]


class Members(NamedTuple):
    """Of an array: the entry at (p₀, p₁, ...) depends on `whole`, and on along[a][pₐ] for every axis a in `along`."""

    along: Mapping[int, Row]
    whole: Member = None

    @property
    def none(self) -> bool:
        """Whether no entry depends on any member."""
        return not self.along and self.whole is None


NOBODY = Members({})
UNKNOWN = Members({}, Unknown())


def joined(members: Iterable[Member], how: str) -> Member:
    """What stands for all of these where the operation `how` brings them together."""
    known = []
    for member in dict.fromkeys(members):
        if isinstance(member, Mixed):
            return member
        if member is not None:
            known.append(member)
    certain = [member for member in known if not isinstance(member, Unknown)]
    if len(certain) > 1:
        return Mixed(how)
    return known[0] if len(known) == 1 else Unknown() if known else None


def members_of(along: Mapping[int, Sequence[Member]], whole: Member, how: str) -> Members:
    """`Members`, in which each row knows of `whole`."""
    if isinstance(whole, Mixed | Unknown):
        return Members({}, whole)
    rows = {axis: tuple(row) for axis, row in along.items() if any(m is not None for m in row)}
    if whole is not None:
        rows = {axis: tuple(joined((whole, member), how) for member in row) for axis, row in rows.items()}
    return Members(rows, whole)


def together(parts: Sequence[Members], how: str) -> Members:
    """Of the result of an operation entry by entry, on arrays of one shape or numbers."""
    along: dict[int, Row] = {}
    for axis, row in ((axis, row) for part in parts for axis, row in part.along.items()):
        before = along.get(axis, row)
        # An axis of length 1 is spread.
        before, row = (r * max(len(before), len(row)) if len(r) == 1 else r for r in (before, row))
        along[axis] = row if before == row else tuple(joined(pair, how) for pair in zip(before, row, strict=True))
    return members_of(along, joined((part.whole for part in parts), how), how)


def without(of: Members, axes: Iterable[int], how: str) -> Members:
    """Of the result of a sum, or the like, over these axes, which are then gone."""
    axes, whole = set(axes), of.whole
    for axis in axes & of.along.keys():
        whole = joined((whole, *of.along[axis]), how)
    kept = {axis - sum(gone < axis for gone in axes): row for axis, row in of.along.items() if axis not in axes}
    return members_of(kept, whole, how)


def moved(of: Members, places: Mapping[int, int]) -> Members:
    """Of an array whose axes have new places; all that are in `along` must be among them."""
    return Members({places[axis]: row for axis, row in of.along.items()}, of.whole)


def reshaped(of: Members, old: Sequence[int], new: Sequence[int]) -> Members:
    """Of a reshaped array; unknown where a row does not come to lie along one axis."""
    along: dict[int, Row] = {}
    whole = of.whole
    for axis, row in of.along.items():
        if len(row) == 1:
            whole = joined((whole, row[0]), "")
            continue
        outer, core, inner = _periods(row)
        before, after = math.prod(old[:axis]) * outer, math.prod(old[axis + 1 :]) * inner
        place = _place(before, len(core), new)
        if place is None or place in along or new[place] > LONGEST:
            return UNKNOWN
        repeats = after // math.prod(new[place + 1 :])
        along[place] = tuple(core[(q // repeats) % len(core)] for q in range(new[place]))
    return members_of(along, whole, "")


def _place(before: int, count: int, shape: Sequence[int]) -> int | None:
    """The axis that holds all of a factor `count` of an array's size, behind a factor `before`."""
    passed = 1
    for axis, size in enumerate(shape):
        if size > 1 and before % passed == 0 and (passed * size) % (before * count) == 0:
            return axis
        passed *= size
    return None


def _periods(row: Row) -> tuple[int, Row, int]:
    """(n, core, m) of a row that is a core whose entries stand m times one after the other, n times over."""
    length = len(row)
    runs = [p for p in range(1, length) if row[p] != row[p - 1]]
    inner = math.gcd(length, *runs)
    core = row[::inner]
    period = next(p for p in range(1, len(core) + 1) if len(core) % p == 0 and core == core[:p] * (len(core) // p))
    return len(core) // period, core[:period], inner
