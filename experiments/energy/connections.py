"""How many targets each input of a synapse reaches: its real fan-out, borders included.

A synapse is an affine map, y = W x + b, written as a program. Here that program is run with 1 for every weight and
without b; its transpose, applied to ones, then gives for each input the number of paths to an output: the
multiply-accumulates that the input takes part in. Where pooling precedes the weights, the two count as the one map that
they are, and a path as one connection. A weight that happens to be 0 is one, too.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

from safjax.affine import nonaffine_operation

PRODUCTS = {"mul", "div", "dot_general", "conv_general_dilated"}
SUMS = {"add", "sub", "add_any"}
# They change an input's sign or number of bits, but not where it goes.
SAME = {"neg", "convert_element_type", "reduce_precision", "copy"}


def fan_out(function: Callable[[jax.Array], jax.Array], shape: tuple[int, ...]) -> jax.Array:
    """The connections of every input of x ↦ `function`(x), of one example [1, *shape]; may be compiled.

    Returns:
      whole numbers in float32, [*shape].

    Raises:
      ValueError: the function is not affine, so that it has no connections that could be counted.

    Example:
      >>> import jax.numpy as jnp
      >>> from experiments.energy.connections import fan_out
      >>> fan_out(lambda x: x @ jnp.array([[2.0, -1.0], [0.0, 3.0]]) + 1, (2,)).tolist()
      [2.0, 2.0]
    """
    x = jnp.zeros((1, *shape), jnp.float32)
    operation = nonaffine_operation(lambda _, x: function(x), (), x)
    if operation is not None:
        raise ValueError(f"it contains {operation}, which is not affine, so its connections cannot be counted")
    closed = jax.make_jaxpr(function)(x)
    output, transpose = jax.vjp(lambda x: _paths(closed, [x], [True])[0][0], x)
    return jnp.round(transpose(jnp.ones_like(output))[0][0])


def _paths(closed: ClosedJaxpr, inputs: list[Any], reached: list[bool]) -> tuple[list[Any], list[bool]]:
    """Runs a program: of what an input reaches it computes the number of paths, of all else the value itself."""
    jaxpr = closed.jaxpr
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *inputs], strict=True))
    found = {variable for variable, flag in zip(jaxpr.invars, reached, strict=True) if flag}

    def value(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    def is_reached(atom: Any) -> bool:
        return not isinstance(atom, Literal) and atom in found

    for equation in jaxpr.eqns:
        flags = list(map(is_reached, equation.invars))
        results, result_flags = _run(equation, list(map(value, equation.invars)), flags, jaxpr)
        values.update(zip(equation.outvars, results, strict=True))
        found.update(variable for variable, flag in zip(equation.outvars, result_flags, strict=True) if flag)
    return list(map(value, jaxpr.outvars)), list(map(is_reached, jaxpr.outvars))


def _run(equation: Any, values: list[Any], flags: list[bool], outer: Jaxpr) -> tuple[list[Any], list[bool]]:
    """One line of the program."""
    name, params, count = equation.primitive.name, equation.params, len(equation.outvars)
    if not any(flags):
        return evaluate(equation, values, outer), [False] * count
    if name in SAME:
        return values, [True]
    if name in SUMS:
        return [sum(value for value, flag in zip(values, flags, strict=True) if flag)], [True]
    if name in PRODUCTS:
        pairs = zip(values, flags, strict=True)
        values = [value if flag else jnp.ones(jnp.shape(value), jnp.float32) for value, flag in pairs]
        if "preferred_element_type" in params:
            params = {**params, "preferred_element_type": None}
        return [equation.primitive.bind(*values, **params)], [True]
    if name == "cond":
        # Of one platform each, all with the same result; the last is the one for platforms without their own.
        return _paths(params["branches"][-1], values[1:], flags[1:])
    if (inner := program_in(params)) is not None:
        return _paths(inner, values, flags)
    # What is left moves or adds up entries; operands that no input reaches say how.
    return evaluate(equation, values, outer), [True] * count


def program_in(params: dict[str, Any]) -> ClosedJaxpr | None:
    """The first program that a line runs, with the constants that it holds; None if it runs none."""
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else [value]:
            if isinstance(part, ClosedJaxpr):
                return part
            if isinstance(part, Jaxpr):
                return ClosedJaxpr(part, [])
    return None


def evaluate(equation: Any, values: list[Any], outer: Jaxpr) -> list[Any]:
    inputs = [atom for atom in equation.invars if not isinstance(atom, Literal)]
    arrays = [value for atom, value in zip(equation.invars, values, strict=True) if not isinstance(atom, Literal)]
    line = outer.replace(
        constvars=[],
        invars=inputs,
        outvars=equation.outvars,
        eqns=[equation],
        effects=equation.effects,
        debug_info=outer.debug_info.with_unknown_names(),
    )
    return jaxpr_as_fun(ClosedJaxpr(line, []))(*arrays)
