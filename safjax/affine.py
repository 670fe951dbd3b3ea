"""Checks from its program whether a function is affine in its input, of several inputs in all of them together.

Rules that forward accumulated spikes rely on f(Σ λᵏ x) / Λ = Σ λᵏ f(x) / Λ, which holds for affine f only. A wrong
synapse would train on wrong numbers without any sign of it, so it is refused when a rule meets a net. The check reads
the traced operations: sums, linear maps and products with at most one input-dependent factor pass.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

_LINEAR = {
    "add", "add_any", "sub", "neg", "concatenate", "reshape", "transpose", "broadcast_in_dim", "slice", "pad", "rev",
    "squeeze", "expand_dims", "reduce_sum", "reduce_window_sum", "cumsum", "copy", "copy_p",
    "real", "imag", "reduce_precision", "sharding_constraint", "split", "optimization_barrier", "device_put",
    "tile",
}  # fmt: skip
_PRODUCT = {"mul", "dot_general", "conv_general_dilated", "ragged_dot"}
# Linear in the first operand; the others choose or divide.
_LINEAR_IN_FIRST = {"div", "dynamic_slice", "gather"}
_PLAIN_NAMES = {
    "reduce_window_max": "max pooling", "_max_pool": "max pooling",
    "reduce_max": "a maximum over an axis", "max": "a maximum (ReLU)",
    "mul": "a product of two values that both depend on what comes in",
    "dot_general": "a matrix product of two values that both depend on what comes in",
    "logistic": "a sigmoid", "rsqrt": "division by a standard deviation (normalisation over the input)",
}  # fmt: skip


def nonaffine_operation(function: Callable[..., Any], weights: Any, x: Any) -> str | None:
    """The first operation through which `function(weights, x)` is not affine in x, in words; None if there is none.

    x is an array, or a tree of arrays, in which the function is to be affine jointly: a product of two of them is not.
    The answer is conservative: an operation that is not known to be affine counts as not affine.
    """
    return nonaffine_in(jax.make_jaxpr(function)(weights, x), len(jax.tree.leaves(weights)))


def nonaffine_in(closed: core.ClosedJaxpr, weights: int) -> str | None:
    """As `nonaffine_operation`, of a program whose first inputs, as many as `weights`, are weights and the others x."""
    count = len(closed.jaxpr.invars)
    return _scan(closed.jaxpr, [i >= weights for i in range(count)])[0]


def _scan(jaxpr: core.Jaxpr, depends: list[bool]) -> tuple[str | None, list[bool]]:
    dependent = {v for v, d in zip(jaxpr.invars, depends, strict=True) if d}
    for eqn in jaxpr.eqns:
        flags = [not isinstance(v, core.Literal) and v in dependent for v in eqn.invars]
        if not any(flags) or not eqn.outvars:
            # Without results, as a print: nothing comes of it.
            continue
        problem, out_flags = through_equation(eqn, flags)
        if problem is not None:
            return problem, []
        dependent.update(v for v, d in zip(eqn.outvars, out_flags, strict=True) if d)
    return None, [not isinstance(v, core.Literal) and v in dependent for v in jaxpr.outvars]


def through_equation(eqn: Any, flags: list[bool]) -> tuple[str | None, list[bool]]:
    """(why one operation is not affine in those of its operands that are flagged, which results depend on them)."""
    name, everything = eqn.primitive.name, [True] * len(eqn.outvars)
    if name in _LINEAR or (name in _PRODUCT and sum(flags) == 1) or (name in _LINEAR_IN_FIRST and not any(flags[1:])):
        return None, everything
    if name == "convert_element_type":
        new = eqn.params["new_dtype"]
        return f"a cast to {jnp.dtype(new)}" if _rounds(eqn.invars[0].aval.dtype, new) else None, everything
    if (name == "select_n" and not flags[0]) or (name == "scatter-add" and not flags[1]):
        return None, everything
    if name == "cond" and not flags[0]:
        branches = eqn.params["branches"]
        if eqn.params["branches_platforms"] is not None:
            # One function, spelled for several platforms: how says nothing, and the last is the plain spelling.
            branches = branches[-1:]
        problems = [_scan(branch.jaxpr, flags[1:])[0] for branch in branches]
        return next((p for p in problems if p is not None), None), everything
    inner = list(core.jaxprs_in_params(eqn.params)) if name not in ("scan", "while", "cond") else []
    if inner and len(inner[0].invars) == len(flags):
        problem, out_flags = _scan(inner[0], flags)
        # A function that was compiled under a name that is known here is called by it.
        return problem and _PLAIN_NAMES.get(eqn.params.get("name"), problem), out_flags
    return _PLAIN_NAMES.get(name, f"the operation '{name}'"), everything


def _rounds(old: jnp.dtype, new: jnp.dtype) -> bool:
    """Whether a cast takes fractions away; what it takes from the last digits of a number is rounding error."""
    return jnp.issubdtype(new, jnp.bool_) or (jnp.issubdtype(old, jnp.inexact) and not jnp.issubdtype(new, jnp.inexact))


class _Zero:
    """An array of zeros that nothing needs to be computed for."""


_ZERO = _Zero()
_CALLS = {"jit", "pjit", "closed_call", "core_call"}


def at_zero(function: Callable[..., Any], weights: Any, x: Any) -> jax.Array:
    """f(w, 0): of an affine function what does not depend on x, such as a bias; without one product by zero.

    Args:
      function: f(w, x), to one array.
      weights: w, any pytree.
      x: of the shapes and dtypes of x.
    """
    closed = jax.make_jaxpr(function)(weights, x)
    zeros = [_ZERO] * len(jax.tree.leaves(x))
    (result,) = _evaluated(closed.jaxpr, closed.consts, [*jax.tree.leaves(weights), *zeros])
    return _instantiated(closed.jaxpr.outvars[0], result)


def _instantiated(atom: Any, value: Any) -> Any:
    return jnp.zeros(atom.aval.shape, atom.aval.dtype) if value is _ZERO else value


def _evaluated(jaxpr: Any, constants: Any, arguments: list[Any]) -> list[Any]:
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments], strict=True))

    def of(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else known[atom]

    for eqn in jaxpr.eqns:
        known.update(zip(eqn.outvars, _results(jaxpr, eqn, [of(v) for v in eqn.invars]), strict=True))
    return [of(v) for v in jaxpr.outvars]


def _results(jaxpr: Any, eqn: Any, inputs: list[Any]) -> list[Any]:
    """Of one operation of a program, whose inputs may be `_ZERO`."""
    name, zero, nothing = eqn.primitive.name, [x is _ZERO for x in inputs], [_ZERO] * len(eqn.outvars)
    if any(zero):
        if all(zero) and (name in _LINEAR or name == "convert_element_type"):
            return nothing
        if name in _PRODUCT or (name in _LINEAR_IN_FIRST and zero[0]):
            return nothing
        if name in ("add", "add_any", "sub"):
            other = inputs[0] if zero[1] else -inputs[1] if name == "sub" else inputs[1]
            return [jnp.broadcast_to(other, eqn.outvars[0].aval.shape)]
        inner = list(core.jaxprs_in_params(eqn.params)) if name not in ("scan", "while") else []
        # Of a choice between branches, which may be one function spelled for several platforms, behind the index.
        behind = inputs[1:] if name == "cond" else inputs
        if inner and len(inner[0].invars) == len(behind) and not any(one.constvars for one in inner):
            results = [_evaluated(one, [], behind) for one in (inner if name == "cond" else inner[:1])]
            if all(x is _ZERO for one in results for x in one):
                return nothing
            if name in _CALLS:
                return results[0]
    given = {v: _instantiated(v, x) for v, x in zip(eqn.invars, inputs, strict=True) if not isinstance(v, core.Literal)}
    debug_info = jaxpr.debug_info.with_unknown_names()
    alone = jaxpr.replace(constvars=[], invars=list(given), outvars=eqn.outvars, eqns=[eqn], debug_info=debug_info)
    return core.jaxpr_as_fun(core.ClosedJaxpr(alone, []))(*given.values())
