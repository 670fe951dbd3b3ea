"""What gradients are made of, and how like one another they are: slopes of surrogates, cosines of rules."""

import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from safjax.plots.arrays import numbers, same_length
from safjax.plots.library import Look, axes_of, finish, look_of

if typing.TYPE_CHECKING:
    from matplotlib.axes import Axes

BESIDE = 0.06
"""Between the points of two rules, which would hide one another."""

LEVEL = 50
"""Names of more letters than these together are turned."""

Surrogates = Mapping[str, Callable[[Any], Any]] | Iterable[Callable[[Any], Any]]


def surrogates(surrogates: Surrogates, ax: "Axes | None" = None, *, x: Any = None, look: Look | None = None) -> "Axes":
    """The slopes that stand in for the derivative of a spike, by the potential's distance from the threshold.

    Args:
      surrogates: spike functions, of `safjax.surrogate` or any x ↦ s: {name: function} or several; one may stand alone.
      ax: where it is drawn; None makes a figure.
      x: u − θ, [X]; None takes 401 points from −2 to 2.
      look: number of a line, from 0 ↦ its matplotlib properties; None takes colours of its own.

    Returns:
      The axes, with a line for each surrogate: its derivative at x, as autodiff has it.

    Raises:
      TypeError, ValueError: what is given is no such function, x has another shape, or `ax` is none.
      ModuleNotFoundError: matplotlib is not installed.
    """
    if callable(surrogates):
        surrogates = [surrogates]
    named = dict(surrogates) if isinstance(surrogates, Mapping) else {str(s): s for s in surrogates}
    wrong = [name for name, function in named.items() if not callable(function)]
    if wrong or not named:
        given = f"'{wrong[0]}' is none" if wrong else "there is none"
        raise TypeError(f"plots.surrogates: expected spike functions such as safjax.surrogate.Sigmoid(), but {given}.")
    at = np.linspace(-2, 2, 401) if x is None else numbers("surrogates", "x", x, "distances u − θ, [X]", 1)
    chart = axes_of(ax)
    for number, (name, function) in enumerate(named.items()):
        properties = {"color": look_of(number)["color"]} if look is None else look(number)
        chart.plot(at, jax.vmap(jax.grad(function))(jax.numpy.asarray(at)), **{"label": name, **properties})
    finish(chart, "u − θ", "ds/du", legend=ax is None)
    return chart


def cosines(
    compared: Mapping[str, Any],
    ax: "Axes | None" = None,
    *,
    reference: str | None = None,
    parts: Sequence[Any] | None = None,
    look: Look | None = None,
) -> "Axes":
    """How like the gradients of rules are to a reference's.

    Args:
      compared: what `safjax.compare` returned: the cosine of each parameter, and of all together at the right end. Or
        {rule: cosines [P]}; or {rule: [nets, P]}, whose means are drawn with their standard deviations.
      ax: where it is drawn; None makes a figure.
      reference: of a result of `safjax.compare`, which one; None takes its first.
      parts: of cosines as arrays, what they belong to, P names or numbers. A last one that is called "all" is drawn
        apart, without a line to it. None numbers them from 1.
      look: number of a rule's line, from 0 ↦ its matplotlib properties; None takes colours of its own.

    Returns:
      The axes, with a line of points for each rule that trains the net, those of later rules a little to the right,
      and one more, without label, for its point at "all".

    Raises:
      TypeError, ValueError: `compared` is no mapping to such arrays, `reference` none of the result's, or `ax` none.
      ModuleNotFoundError: matplotlib is not installed.
    """
    if not isinstance(compared, Mapping) or not compared:
        raise TypeError(
            f"plots.cosines: expected what safjax.compare returned, or {{rule: cosines [P]}}, but got {compared!r}."
        )
    if hasattr(compared, "references"):
        compared, parts = _of_comparison(compared, reference, parts)
    elif reference is not None:
        raise ValueError("plots.cosines: reference is for what safjax.compare returned, not for cosines as arrays.")
    expected = "cosines [P], or [nets, P]"
    curves = {rule: numbers("cosines", f"'{rule}'", c, expected, 1, 2) for rule, c in compared.items()}
    count = next(iter(curves.values())).shape[-1]
    named = [str(n) for n in range(1, count + 1)] if parts is None else list(parts)
    for rule, curve in curves.items():
        same_length("cosines", f"'{rule}'", curve.T, len(named), "parts")
    chart = axes_of(ax)
    _draw(chart, curves, named, look_of if look is None else look)
    finish(chart, "", "cosine of gradients", legend=ax is None)
    return chart


def _of_comparison(compared: Any, reference: str | None, parts: Any) -> tuple[dict[str, list[float]], list[str]]:
    """{rule: cosines} and the names of the parameters, then "all"."""
    if parts is not None:
        raise ValueError("plots.cosines: parts are for cosines as arrays; what safjax.compare returned has its own.")
    beside = compared.references[0] if reference is None else reference
    if beside not in compared.references:
        raise ValueError(f"plots.cosines: reference={beside!r}: expected one of {', '.join(compared.references)}.")
    rows = {name: row for name, row in compared.items() if row.trains}
    if not rows:
        raise ValueError("plots.cosines: none of the rules trains the net; print what safjax.compare returned.")
    curves = {
        name: [*(like.cosine for like in row.layers[beside].values()), row.together[beside].cosine]
        for name, row in rows.items()
    }
    return curves, [*next(iter(rows.values())).layers[beside], "all"]


def _draw(chart: "Axes", curves: dict[str, np.ndarray], parts: list[Any], look: Look) -> None:
    words = any(isinstance(part, str) for part in parts)
    joined = len(parts) - (words and parts[-1] == "all")
    for number, (rule, curve) in enumerate(curves.items()):
        at = np.arange(len(parts)) + BESIDE * (number - (len(curves) - 1) / 2) if words else np.asarray(parts, float)
        properties = {"label": rule, **look(number)}
        for where in (slice(None, joined), slice(joined, None)):
            if len(at[where]):
                _points(chart, at[where], curve[..., where], properties)
                properties = {**properties, "label": None}
    if words:
        turned = sum(len(str(part)) for part in parts) > LEVEL
        chart.set_xticks(range(len(parts)), parts, rotation=25 if turned else 0, ha="right" if turned else "center")


def _points(chart: "Axes", at: np.ndarray, curve: np.ndarray, properties: dict[str, Any]) -> None:
    if curve.ndim == 1:
        chart.plot(at, curve, **properties)
    else:
        chart.errorbar(at, curve.mean(0), curve.std(0), capsize=2, **properties)
