"""What single operations do to the members of a batch; see `safjax.mixing`."""

from collections.abc import Callable, Sequence
from typing import Any

from jax.extend import core

from safjax.members import UNKNOWN, Member, Members, Row, joined, members_of, moved, reshaped, together, without

_WORDS = {
    "reduce_sum": "a sum", "reduce_max": "a maximum", "reduce_min": "a minimum", "reduce_prod": "a product",
    "argmax": "an argmax", "argmin": "an argmin", "dot_general": "a matrix product", "sort": "sorting",
    "conv_general_dilated": "a convolution", "reduce_window_sum": "pooling", "reduce_window_max": "pooling",
    "top_k": "top_k",
}  # fmt: skip


def named(name: str) -> str:
    """An operation as messages write it."""
    return _WORDS.get(name, f"the operation '{name}'")


Given = list[Members]
Operation = Callable[[Any, Given], Given | None]
"""(equation, members of its inputs) ↦ those of its results; None for unknown."""


def _shape(atom: Any) -> tuple[int, ...]:
    return tuple(atom.aval.shape)


def _whole(given: Given) -> Members:
    """Of numbers that say where or how, in the place of arrays."""
    return together([Members({}, of.whole) for of in given], "a choice")


def _each_row(of: Members, change: Callable[[int, Row], Sequence[Member]]) -> Members:
    """Of an array of which entries along its axes are chosen, moved or repeated, as (axis, row) ↦ new row says."""
    return members_of({axis: change(axis, row) for axis, row in of.along.items()}, of.whole, "")


def _reduce(eqn: Any, given: Given) -> Given:
    axes = eqn.params["axes"]
    return [without(of, axes, named(eqn.primitive.name)) for of in given]


def _questions(eqn: Any, given: Given) -> Given:
    """Whether any or all entries are true may be asked of all members and lead to one and the same answer."""
    (of,), axes = given, eqn.params["axes"]
    return [UNKNOWN] if of.along.keys() & set(axes) else [without(of, axes, "")]


def _along_axis(parameter: str) -> Operation:
    """Every entry depends on all entries along an axis."""

    def operation(eqn: Any, given: Given) -> Given:
        axis, how = eqn.params[parameter], named(eqn.primitive.name)
        of = together(given, how)
        result = _each_row(of, lambda a, row: [joined(row, how)] * len(row) if a == axis else row)
        return [result] * len(eqn.outvars)

    return operation


def _top_k(eqn: Any, given: Given) -> Given:
    (of,), axis = given, eqn.params.get("axis", len(_shape(eqn.invars[0])) - 1)
    axis %= len(_shape(eqn.invars[0]))
    length = _shape(eqn.outvars[0])[axis]
    result = _each_row(of, lambda a, row: [joined(row, named("top_k"))] * length if a == axis else row)
    return [result] * len(eqn.outvars)


def _reshape(eqn: Any, given: Given) -> Given:
    return [reshaped(given[0], _shape(eqn.invars[0]), _shape(eqn.outvars[0]))]


def _squeeze(eqn: Any, given: Given) -> Given:
    return [without(given[0], eqn.params["dimensions"], "")]


def _transpose(eqn: Any, given: Given) -> Given:
    return [moved(given[0], {old: new for new, old in enumerate(eqn.params["permutation"])})]


def _broadcast(eqn: Any, given: Given) -> Given:
    of, places = given[0], eqn.params["broadcast_dimensions"]
    sizes = _shape(eqn.outvars[0])
    spread = [axis for axis, row in of.along.items() if len(row) != sizes[places[axis]]]
    whole = joined((of.whole, *(of.along[axis][0] for axis in spread)), "")
    rows = {places[axis]: row for axis, row in of.along.items() if axis not in spread}
    return [members_of(rows, whole, "a choice of one of them")]


def _rev(eqn: Any, given: Given) -> Given:
    return [_each_row(given[0], lambda axis, row: row[::-1] if axis in eqn.params["dimensions"] else row)]


def _slice(eqn: Any, given: Given) -> Given:
    p, of = eqn.params, given[0]
    strides = p["strides"] or (1,) * len(p["start_indices"])
    cuts = list(map(slice, p["start_indices"], p["limit_indices"], strides))
    return [_each_row(of, lambda axis, row: row[cuts[axis]])]


def _dynamic_slice(eqn: Any, given: Given) -> Given | None:
    of, starts, sizes = given[0], eqn.invars[1:], eqn.params["slice_sizes"]
    if any(sizes[a] != len(row) and not isinstance(starts[a], core.Literal) for a, row in of.along.items()):
        return None

    def cut(axis: int, row: Row) -> Row:
        if sizes[axis] == len(row):
            return row
        start = min(max(int(starts[axis].val), 0), len(row) - sizes[axis])
        return row[start : start + sizes[axis]]

    return [together((_each_row(of, cut), _whole(given[1:])), "a choice of one of them")]


def _split(eqn: Any, given: Given) -> Given:
    sizes, along = eqn.params["sizes"], eqn.params["axis"]
    cuts = [slice(sum(sizes[:i]), sum(sizes[: i + 1])) for i in range(len(sizes))]
    return [_each_row(given[0], lambda axis, row: row[cut] if axis == along else row) for cut in cuts]  # noqa: B023


def _pad(eqn: Any, given: Given) -> Given | None:
    (of, value), sizes = given, eqn.params["padding_config"]
    if any(low < 0 or high < 0 for low, high, _ in (sizes[axis] for axis in of.along)):
        return None

    def padded(axis: int, row: Row) -> list[Any]:
        low, high, inner = sizes[axis]
        apart: list[Any] = [None] * ((len(row) - 1) * (inner + 1) + 1)
        apart[:: inner + 1] = row
        return [None] * low + apart + [None] * high

    return [together((_each_row(of, padded), value), "padding")]


def _concatenate(eqn: Any, given: Given) -> Given:
    axis = eqn.params["dimension"]
    row: list[Any] = []
    for atom, of in zip(eqn.invars, given, strict=True):
        row += of.along.get(axis, (of.whole,) * _shape(atom)[axis])
    return [_pieces(given, axis, row)]


def _stack(eqn: Any, given: Given) -> Given:
    axis = eqn.params["axis"]
    behind = [Members({a + (a >= axis): row for a, row in of.along.items()}, of.whole) for of in given]
    return [_pieces(behind, axis, [of.whole for of in given])]


def _pieces(given: Given, axis: int, row: list[Any]) -> Members:
    """Of pieces one behind the other, each of which depends on what its own part of the row says."""
    rest: dict[int, tuple[Any, ...]] = {}
    for other, own in ((a, r) for of in given for a, r in of.along.items() if a != axis):
        if rest.setdefault(other, own) != own:
            return UNKNOWN
    return members_of({**rest, axis: row}, None, "joining arrays")


def _unstack(eqn: Any, given: Given) -> Given:
    axis, of = eqn.params["axis"], given[0]
    count = len(eqn.outvars)
    one = [_each_row(of, lambda a, row: row[i : i + 1] if a == axis else row) for i in range(count)]  # noqa: B023
    return [without(part, (axis,), "") for part in one]


def _tile(eqn: Any, given: Given) -> Given:
    return [_each_row(given[0], lambda axis, row: row * eqn.params["reps"][axis])]


def _dot_general(eqn: Any, given: Given) -> Given:
    (contracted, batch), how = eqn.params["dimension_numbers"], named("dot_general")
    parts, first = [], len(batch[0])
    for atom, of, gone, shared in zip(eqn.invars, given, contracted, batch, strict=True):
        free = [a for a in range(len(_shape(atom))) if a not in gone and a not in shared]
        places = {**{a: i for i, a in enumerate(shared)}, **{a: first + i for i, a in enumerate(free)}}
        first += len(free)
        rows = {places[a]: row for a, row in of.along.items() if a in places}
        whole = joined((of.whole, *(m for a in gone for m in of.along.get(a, ()))), how)
        parts.append(members_of(rows, whole, how))
    return [together(parts, how)]


def _convolution(eqn: Any, given: Given) -> Given | None:
    p, how = eqn.params, named("conv_general_dilated")
    image, kernel = given
    numbers = p["dimension_numbers"]
    groups = p["feature_group_count"] > 1 or p["batch_group_count"] > 1
    if kernel.along or (groups and image.along.keys() - {numbers.lhs_spec[0]}) or p["batch_group_count"] > 1:
        return None
    gone = set(numbers.lhs_spec[1:])
    whole = joined((image.whole, kernel.whole, *(m for a in gone for m in image.along.get(a, ()))), how)
    row = image.along.get(numbers.lhs_spec[0])
    return [members_of({} if row is None else {numbers.out_spec[0]: row}, whole, how)]


def _window(eqn: Any, given: Given) -> Given | None:
    p, how, of = eqn.params, named(eqn.primitive.name), given[0]
    spread = [p.get(key) or (1,) * len(p["window_dimensions"]) for key in ("base_dilation", "window_dilation")]
    if not all(rest.none for rest in given[1:]) or any(spread[0][axis] != 1 for axis in of.along):
        return None

    def pooled(axis: int, row: Row) -> list[Member]:
        window = [spread[1][axis] * k - p["padding"][axis][0] for k in range(p["window_dimensions"][axis])]
        starts = (p["window_strides"][axis] * i for i in range(_shape(eqn.outvars[0])[axis]))
        return [joined((row[i + k] for k in window if 0 <= i + k < len(row)), how) for i in starts]

    return [_each_row(of, pooled)] * len(eqn.outvars)


def _gather(eqn: Any, given: Given) -> Given | None:
    of, indices = given
    d, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    vector = len(_shape(eqn.invars[1])) - 1
    in_front = [i for i in range(len(_shape(eqn.outvars[0]))) if i not in d.offset_dims]
    if vector in indices.along:
        return None
    rows = moved(indices, dict(enumerate(in_front)))
    kept = [a for a in range(len(sizes)) if a not in (*d.collapsed_slice_dims, *d.operand_batching_dims)]
    places = dict(zip(kept, d.offset_dims, strict=True))
    pairs = zip(d.operand_batching_dims, d.start_indices_batching_dims, strict=True)
    places.update({a: in_front[i] for a, i in pairs})
    chosen = [a for a, row in of.along.items() if a not in d.operand_batching_dims and sizes[a] != len(row)]
    if chosen or not of.along.keys() <= places.keys():
        return None
    return [together((rows, moved(of, places)), "a choice among them")]


def _update_slice(eqn: Any, given: Given) -> Given | None:
    of, update, *rest = given
    starts = eqn.invars[2:]
    axes = of.along.keys() | update.along.keys()
    part, whole = _shape(eqn.invars[1]), _shape(eqn.invars[0])
    if update.whole is not None or any(r.whole is not None for r in rest):
        return None
    if any(part[a] != whole[a] for a in axes) or not all(isinstance(s, core.Literal) for s in starts):
        return None
    return [together((of, update), "an update")]


OPERATIONS: dict[str, Operation] = {
    **dict.fromkeys(("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "argmax", "argmin"), _reduce),
    **dict.fromkeys(("reduce_or", "reduce_and", "reduce_xor"), _questions),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), _along_axis("axis")),
    **dict.fromkeys(("reduce_window_sum", "reduce_window_max", "reduce_window_min"), _window),
    "sort": _along_axis("dimension"), "top_k": _top_k,
    "reshape": _reshape, "squeeze": _squeeze, "transpose": _transpose, "broadcast_in_dim": _broadcast,
    "rev": _rev, "slice": _slice, "dynamic_slice": _dynamic_slice, "split": _split, "pad": _pad, "tile": _tile,
    "concatenate": _concatenate, "stack": _stack, "unstack": _unstack, "dynamic_update_slice": _update_slice,
    "dot_general": _dot_general, "conv_general_dilated": _convolution, "gather": _gather,
}  # fmt: skip
