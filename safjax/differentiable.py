"""Reads from a traced program whether it can be differentiated for certain, without differentiating it.

Tracing the gradient of a whole sequence takes as long as everything else that is found out about a net. Almost all nets
are made of operations whose derivatives and transposes are known to exist; for them it need not be traced.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from safjax.surrogate import Surrogate

_DIFFERENTIABLE = {
    "abs", "add", "add_any", "and", "argmax", "argmin", "broadcast_in_dim", "ceil", "clamp", "concatenate",
    "conv_general_dilated", "convert_element_type", "copy", "copy_p", "cos", "cosh", "cumsum", "div", "dot_general",
    "dynamic_slice", "dynamic_update_slice", "eq", "erf", "exp", "exp2", "expand_dims", "expm1", "floor", "gather",
    "ge", "gt", "held", "integer_pow", "iota", "is_finite", "le", "log", "log1p", "logistic", "lt", "max", "min", "mul",
    "name", "ne", "neg", "not", "optimization_barrier", "or", "pad", "pow", "reduce_and", "reduce_max",
    "reduce_min", "reduce_or", "reduce_precision", "reduce_sum", "reduce_window_max", "reduce_window_sum",
    "reshape", "rev", "round", "rsqrt", "scatter", "scatter-add", "select_n", "sign", "sin", "sinh", "slice",
    "split", "sqrt", "square", "squeeze", "stack", "stop_gradient", "sub", "tan", "tanh", "tile", "transpose",
    "unstack", "with_gradient_of",
}  # fmt: skip
_FUNCTIONS = {"closed_call", "core_call", "jit", "pjit", "scan", "cond"}
_OWN_RULES = {"custom_jvp_call": "jvp_jaxpr_fun", "custom_vjp_call": "fwd_jaxpr_thunk"}
_TRUSTED = tuple(f"{Path(file).parent}/" for file in (jax.__file__, __file__))


def surely_differentiable(jaxpr: core.Jaxpr) -> bool:
    """Whether reverse mode goes through a program in every direction, as far as its operations tell."""
    return not jaxpr.effects and all(_is_real(v) for v in jaxpr.invars) and all(_passes(eqn) for eqn in jaxpr.eqns)


def _is_real(atom: Any) -> bool:
    return not jnp.issubdtype(atom.aval.dtype, jnp.complexfloating)


def _passes(eqn: Any) -> bool:
    if not all(map(_is_real, eqn.outvars)):
        return False
    if not any(jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in eqn.invars):
        return not eqn.effects
    name = eqn.primitive.name
    if name in _DIFFERENTIABLE:
        return True
    if name == "spike":
        return type(eqn.params["surrogate"]).__module__ == Surrogate.__module__
    inner = list(core.jaxprs_in_params(eqn.params))
    if name in _OWN_RULES:
        # Of one that somebody else wrote nobody knows whether it fits.
        rule = eqn.params[_OWN_RULES[name]].debug_info
        return (rule.func_filename or "").startswith(_TRUSTED) and all(map(surely_differentiable, inner))
    return name in _FUNCTIONS and bool(inner) and all(map(surely_differentiable, inner))
