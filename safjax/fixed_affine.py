"""Checks from a program whether its results are one fixed affine function of some of its values at every time step.

Where the gradient is that of a mean over time, f(mean x) must be the mean of f(x), and so must its derivatives: f is
affine in x, and what x is multiplied with neither changes with time nor learns. What is added may do either, not both.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.extend import core

from safjax import scans
from safjax.affine import through_equation


class Kind(NamedTuple):
    """What a value is made of.

    Attributes:
      marked: by which of the marked values, their names.
      varies: whether it changes with time.
      learns: whether it depends on parameters.
    """

    marked: frozenset[str] = frozenset()
    varies: bool = False
    learns: bool = False

    def __or__(self, other: "Kind") -> "Kind":
        return Kind(self.marked | other.marked, self.varies or other.varies, self.learns or other.learns)

    @property
    def unfit(self) -> bool:
        """Whether its derivative at one step is not that of its mean."""
        return not self.marked and self.varies and self.learns


class Unfit(NamedTuple):
    """Where results are not such a function: what is done, to what comes of which marked values, in which scopes."""

    operation: str
    marked: frozenset[str]
    scopes: tuple[str, ...]


_ADDED = "a learned part that changes with time and comes from no readout"
_PRODUCTS = {"mul", "dot_general", "conv_general_dilated"}


class _Found(Exception):
    """Ends the search."""


Look = Callable[[str], Kind | None]


def unfit_operation(jaxpr: core.Jaxpr, inputs: list[Kind], results: list[int], look: Look) -> Unfit | None:
    """The first operation by which the program's results are no fixed affine function of marked values; None if none.

    Args:
      jaxpr: the program.
      inputs: of what kind its inputs are.
      results: which of its outputs must be such functions.
      look: the name that `jax.ad_checkpoint.checkpoint_name` gave to a value ↦ of what kind it is; None as before.
    """
    try:
        kinds = _follow(jaxpr, inputs, look, ())
    except _Found as found:
        return found.args[0]
    bad = any(kinds[i].unfit for i in results)
    return Unfit(_ADDED, frozenset(), ()) if bad else None


def _follow(jaxpr: core.Jaxpr, inputs: list[Kind], look: Look, scopes: tuple[str, ...]) -> list[Kind]:
    known = dict(zip(jaxpr.invars, inputs, strict=True))

    def of(atom: Any) -> Kind:
        return Kind() if isinstance(atom, core.Literal) else known.get(atom, Kind())

    for eqn in jaxpr.eqns:
        within = (*scopes, str(eqn.source_info.name_stack))
        for variable, kind in zip(eqn.outvars, _results(eqn, [of(v) for v in eqn.invars], look, within), strict=True):
            known[variable] = kind if _differentiable(eqn, variable) else Kind(varies=kind.varies or bool(kind.marked))
    return [of(v) for v in jaxpr.outvars]


def _differentiable(eqn: core.JaxprEqn, variable: Any) -> bool:
    return jnp.issubdtype(variable.aval.dtype, jnp.inexact) and eqn.primitive.name != "stop_gradient"


def _results(eqn: core.JaxprEqn, inputs: list[Kind], look: Look, scopes: tuple[str, ...]) -> list[Kind]:
    name, together = eqn.primitive.name, Kind(varies=bool(eqn.effects))
    for kind in inputs:
        together |= kind
    if name == "name":
        return [look(eqn.params["name"]) or together]
    if name == "stop_gradient":
        return [together]
    if name == "scan":
        return _through_scan(eqn, inputs, look, scopes)
    inner = list(core.jaxprs_in_params(eqn.params))
    if len(inner) == 1 and len(inner[0].invars) == len(inputs):
        return _follow(inner[0], inputs, look, scopes)
    looked_at = together.marked and any(_differentiable(eqn, v) for v in eqn.outvars)
    problem = _problem(eqn, inputs) if looked_at else None
    if problem is not None:
        raise _Found(Unfit(problem, together.marked, scopes))
    return [together] * len(eqn.outvars)


def _problem(eqn: core.JaxprEqn, inputs: list[Kind]) -> str | None:
    """Why an operation on marked values, and on others, is not fixed and affine in the marked ones."""
    others = [kind for kind in inputs if not kind.marked]
    if any(kind.unfit for kind in others):
        return _ADDED
    problem = through_equation(eqn, [kind != Kind() for kind in inputs])[0]
    if problem is None or eqn.primitive.name not in _PRODUCTS or not others:
        return problem
    return f"a product with {'parameters that learn' if others[0].learns else 'what changes with time'}"


def _through_scan(eqn: core.JaxprEqn, inputs: list[Kind], look: Look, scopes: tuple[str, ...]) -> list[Kind]:
    goes_on = scans.carries(eqn)
    while True:
        results = _follow(scans.body(eqn), inputs, look, scopes)
        before = inputs[goes_on]
        carry = [a | b for a, b in zip(before, results[: len(before)], strict=True)]
        if carry == before:
            return carry + results[len(before) :]
        inputs = [*inputs[: goes_on.start], *carry, *inputs[goes_on.stop :]]
