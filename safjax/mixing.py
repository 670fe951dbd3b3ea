"""Reads from a traced function whether it mixes the members of its batch.

A function of a batch [N, ...] that acts on each member by itself gives the same for a member whatever the others are,
and so for a time step whatever the other steps are, where those lie in the batch. Which members every value of the
program depends on is followed from operation to operation, entry by entry along the axes that they lie on; so a batch
that is rolled and rolled back, or taken apart and put together again, is not mixed. Of an operation that is not known
the result is unknown, and what is unknown is not called mixed.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name
from jax.extend import core

from safjax import scans
from safjax.members import NOBODY, UNKNOWN, Members, Mixed, Unknown, joined, members_of, together
from safjax.mixing_operations import OPERATIONS, named

ENTRY_BY_ENTRY = {
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh", "bessel_i0e",
    "bessel_i1e", "bitcast_convert_type", "cbrt", "ceil", "clamp", "clz", "complex", "conj", "convert_element_type",
    "copy", "copy_p", "cos", "cosh", "device_put", "digamma", "div", "eq", "eq_to", "erf", "erf_inv", "erfc", "exp",
    "exp2", "expm1", "floor", "ge", "gt", "igamma", "igammac", "imag", "integer_pow", "is_finite", "le", "le_to",
    "lgamma", "log", "log1p", "logistic", "lt", "lt_to", "max", "min", "mul", "mulhi", "name", "ne", "neg",
    "nextafter", "not", "or", "polygamma", "population_count", "pow", "real", "reduce_precision",
    "regularized_incomplete_beta", "rem", "round", "rsqrt", "select_n", "sharding_constraint", "shift_left",
    "shift_right_arithmetic", "shift_right_logical", "sign", "sin", "sinh", "spike", "sqrt", "square", "stop_gradient",
    "sub", "tan", "tanh", "tie", "with_gradient_of", "xor", "zeta",
}  # fmt: skip
FUNCTIONS = {
    *("closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "jit", "pjit", "remat", "remat2"),
    *("checkpoint", "composite"),
}


_APART = "safjax: members apart"


def apart(x: jax.Array) -> jax.Array:
    """x[N, ...], of which a program says that it does not mix its members, whatever it looks like."""
    return checkpoint_name(x, _APART)


def mixing_operation(closed: core.ClosedJaxpr, batched: Sequence[bool]) -> str | None:
    """The operation by which a program certainly mixes the members of its batch, in words; None where none does.

    Args:
      closed: the program; its first result is to be [N, ...], as its batched inputs are.
      batched: which of its inputs have the members along their leading axis.
    """
    inputs = [_in_order(v) if b else NOBODY for v, b in zip(closed.jaxpr.invars, batched, strict=True)]
    results = follow(closed.jaxpr, inputs)
    return _mixed(results[0]) if results else None


def _in_order(atom: Any) -> Members:
    return Members({0: tuple(range(atom.aval.shape[0]))})


def _mixed(result: Members) -> str | None:
    """How an array [N, ...] mixes its members."""
    if isinstance(result.whole, Mixed):
        return result.whole.how
    own = result.along.get(0)
    if isinstance(result.whole, Unknown) or (own is None and result.along):
        return None
    if own is None:
        return None if result.whole is None else _OTHERS
    for place, member in enumerate(own):
        if isinstance(member, Mixed):
            return member.how
        if not isinstance(member, Unknown) and member not in (None, place):
            return _OTHERS
    # In the other axes members stand beside those of the leading one.
    others = [member for axis, row in result.along.items() if axis for member in row]
    mixed = joined((*others, None), _OTHERS)
    return mixed.how if isinstance(mixed, Mixed) else None


_OTHERS = "an exchange of members"


Watch = Callable[[Any], None]


def follow(jaxpr: core.Jaxpr, inputs: Sequence[Members], alone: Watch | None = None) -> list[Members]:
    """The members that a program's results depend on.

    Args:
      jaxpr: the program.
      inputs: those of its inputs.
      alone: is told of every equation that reads of no member.
    """
    known = {v: m for v, m in zip(jaxpr.invars, inputs, strict=True) if not m.none}

    def of(atom: Any) -> Members:
        return NOBODY if isinstance(atom, core.Literal) else known.get(atom, NOBODY)

    for eqn in jaxpr.eqns:
        given = [of(v) for v in eqn.invars]
        if not all(m.none for m in given):
            known.update(zip(eqn.outvars, _results(eqn, given, alone), strict=True))
        elif alone is not None:
            alone(eqn)
    return [of(v) for v in jaxpr.outvars]


def _results(eqn: Any, given: list[Members], alone: Watch | None) -> list[Members]:
    name, unknown = eqn.primitive.name, [UNKNOWN] * len(eqn.outvars)
    if name == "name" and eqn.params["name"] == _APART:
        return [_in_order(eqn.outvars[0])]
    if name in ENTRY_BY_ENTRY:
        return [together(given, named(name))]
    if name == "optimization_barrier":
        return given
    if name in OPERATIONS:
        return OPERATIONS[name](eqn, given) or unknown
    if name == "scan":
        return _through_scan(eqn, given, alone)
    if name == "cond":
        return _through_branches(eqn.params, given, alone)
    inner = list(core.jaxprs_in_params(eqn.params)) if name in FUNCTIONS else []
    if len(inner) == 1 and len(inner[0].invars) == len(given):
        return follow(inner[0], given, alone)
    return unknown


def _through_branches(params: dict[str, Any], given: list[Members], alone: Watch | None) -> list[Members]:
    branches = params["branches"]
    if params.get("branches_platforms") is not None:
        # One function, spelled for several platforms; the last is the plain spelling.
        return follow(branches[-1].jaxpr, given[1:], alone)
    results = zip(*(follow(branch.jaxpr, given[1:], alone) for branch in branches), strict=True)
    # A question about all members may only choose between two ways to the same.
    asked = Members({}, Unknown()) if isinstance(given[0].whole, Mixed) else given[0]
    return [together((asked, *ways), "a choice") for ways in results]


class _Turn:
    """In a loop over members the one whose turn it is."""


def _through_scan(eqn: Any, given: list[Members], alone: Watch | None) -> list[Members]:
    goes_on, turn = scans.carries(eqn), _Turn()
    constants, carry, read = given[: goes_on.start], given[goes_on], given[goes_on.stop :]
    rows = {of.along[0] for of in read if 0 in of.along}
    if len(rows) > 1 or any(isinstance(m, Mixed | Unknown) for row in rows for m in row):
        return [UNKNOWN] * len(eqn.outvars)
    entries = [_of_turn(of, turn) for of in read]
    while True:
        results = follow(scans.body(eqn), [*constants, *carry, *entries], alone)
        # What goes on from turn to turn brings the members together.
        after = [_for_turn(of, turn, Mixed("a loop over them")) for of in results[: len(carry)]]
        later = [together(pair, "a loop over them") for pair in zip(carry, after, strict=True)]
        if later == carry:
            row = next(iter(rows), ())
            return [*carry, *(_of_all_turns(of, turn, row) for of in results[len(carry) :])]
        carry = later


def _of_turn(of: Members, turn: _Turn) -> Members:
    rest = {axis - 1: row for axis, row in of.along.items() if axis}
    return members_of(rest, joined((of.whole, turn if 0 in of.along else None), "a loop over them"), "a loop over them")


def _for_turn(of: Members, turn: _Turn, member: Any) -> Members:
    """`Members` in which another one stands in the place of that whose turn it is."""
    rows = {axis: [member if m is turn else m for m in row] for axis, row in of.along.items()}
    return members_of(rows, member if of.whole is turn else of.whole, "a loop over them")


def _of_all_turns(of: Members, turn: _Turn, row: tuple[Any, ...]) -> Members:
    one = _for_turn(of, turn, None)
    along = {axis + 1: entries for axis, entries in one.along.items()}
    return members_of({**along, 0: row} if of.whole is turn else along, one.whole, "a loop over them")
