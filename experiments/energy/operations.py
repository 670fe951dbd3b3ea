"""How many multiplications and additions a program takes."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.interpreters.partial_eval import dce_jaxpr


def operations(function: Callable[..., Any], *arguments: Any) -> int:
    """2 × multiply-accumulates of the matrix products and convolutions behind the results of `function(*arguments)`.

    The body of a scan counts once for each of its iterations, where XLA's own cost analysis counts it once in all. What
    no result needs does not count, as the compiler drops it. Of branches the costliest counts, so that a convolution
    counts as the direct one even where minimal filtering computes it; a `while` loop, whose length is not known, counts
    one iteration.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from experiments.energy.operations import operations
      >>> power = lambda x: jax.lax.fori_loop(0, 9, lambda _, y: x @ y, x)
      >>> operations(power, jnp.eye(4)) == 9 * 2 * 4**3
      True
    """
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    needed, _ = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return 2 * _products(needed)


def _products(jaxpr: Jaxpr) -> int:
    return sum(map(_products_of, jaxpr.eqns))


def _products_of(equation: Any) -> int:
    """Multiply-accumulates of one line of a program."""
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel, outputs = equation.invars[1].aval, params["dimension_numbers"].rhs_spec[0]
        return equation.outvars[0].aval.size * kernel.size // kernel.shape[outputs]
    inner = [_products(jaxpr) for jaxpr in _inside(params)]
    if name == "cond":
        return max(inner)
    return params["length"] * sum(inner) if name == "scan" else sum(inner)


def _inside(params: dict[str, Any]) -> Iterator[Jaxpr]:
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else [value]:
            if isinstance(part, ClosedJaxpr):
                yield part.jaxpr
            elif isinstance(part, Jaxpr):
                yield part
