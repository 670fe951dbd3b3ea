"""Reads from a traced program what its values depend on.

The program's inputs carry labels, and every operation hands those of what it reads on to its results; through loops,
too. A name that `jax.ad_checkpoint.checkpoint_name` gave to a value is where one looks at them.
"""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from jax import numpy as jnp
from jax.extend import core

from safjax import scans

Labels = frozenset[Hashable]
Look = Callable[[str, Labels], Labels]

_WITHOUT_DERIVATIVE = {"stop_gradient", "floor", "ceil", "round", "sign"}
_OWN_DERIVATIVE = {"custom_jvp_call", "custom_vjp_call"}


class Learned(NamedTuple):
    """The label of an input that is differentiated: it ends where a derivative ends."""

    name: str


EFFECT = "effect"
"""The label of what an operation with a side effect, a callback, returns: it may be anything."""


def follow(jaxpr: core.Jaxpr, labels: list[Labels], look: Look) -> list[Labels]:
    """The labels of a program's results.

    Args:
      jaxpr: the program.
      labels: those of its inputs.
      look: (name, labels of the value of that name) ↦ labels that it has from there on besides. In a loop it is called
        several times, with labels that only become more.
    """
    known = dict(zip(jaxpr.invars, labels, strict=True))

    def of(atom: Any) -> Labels:
        return Labels() if isinstance(atom, core.Literal) else known.get(atom, Labels())

    for eqn in jaxpr.eqns:
        results = _results(eqn, [of(v) for v in eqn.invars], look)
        for variable, result in zip(eqn.outvars, results, strict=True):
            known[variable] = result if _differentiable(eqn, variable) else _constant(result)
    return [of(v) for v in jaxpr.outvars]


def _differentiable(eqn: core.JaxprEqn, variable: Any) -> bool:
    return jnp.issubdtype(variable.aval.dtype, jnp.inexact) and eqn.primitive.name not in _WITHOUT_DERIVATIVE


def _constant(labels: Labels) -> Labels:
    return Labels(label for label in labels if not isinstance(label, Learned))


def _results(eqn: core.JaxprEqn, inputs: list[Labels], look: Look) -> list[Labels]:
    name = eqn.primitive.name
    everything = Labels().union(*inputs)
    if name == "name":
        return [everything | look(eqn.params["name"], everything)]
    if name == "scan":
        return _through_scan(eqn, inputs, look)
    if name == "cond":
        branches = [follow(branch.jaxpr, inputs[1:], look) for branch in eqn.params["branches"]]
        return [_constant(inputs[0]).union(*results) for results in zip(*branches, strict=True)]
    inner = list(core.jaxprs_in_params(eqn.params))
    if len(inner) == 1 and len(inner[0].invars) == len(inputs) and name not in _OWN_DERIVATIVE:
        return follow(inner[0], inputs, look)
    everything = everything | {EFFECT} if eqn.effects else everything
    for jaxpr in inner:
        follow(jaxpr, [everything] * len(jaxpr.invars), look)
    return [everything] * len(eqn.outvars)


def _through_scan(eqn: core.JaxprEqn, inputs: list[Labels], look: Look) -> list[Labels]:
    goes_on = scans.carries(eqn)
    while True:
        results = follow(scans.body(eqn), inputs, look)
        before = inputs[goes_on]
        carry = [a | b for a, b in zip(before, results[: len(before)], strict=True)]
        if carry == before:
            return carry + results[len(before) :]
        inputs = [*inputs[: goes_on.start], *carry, *inputs[goes_on.stop :]]
