"""Finding out which variables of a net a step changes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core


def changing_variables(
    step: Callable[..., Any], params: Any, rest: dict[Any, Any], states: Any, x: Any
) -> tuple[set[Any], core.Jaxpr | None]:
    """(the paths of those variables in `rest` that a step returns as other values than it was given, its program).

    The program is (values of the variables, states, parameters) ↦ (the same two after the step, output, reports); None
    where what a step returns has another form than what it was given, so that no loop could carry it.
    """
    paths = sorted(rest)
    before = [rest[path] for path in paths], states

    def after(before: tuple[list[Any], Any], params: Any) -> tuple[Any, Any, Any]:
        values, states = before
        (states, rest), output, reports = step(params, {}, (states, dict(zip(paths, values, strict=True))), zeros)
        return ([rest[path] for path in paths], states), output, reports

    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), x)
    closed, shapes = jax.make_jaxpr(after, return_shape=True)(before, params)
    jaxpr, steady = closed.jaxpr, _form(shapes[0]) == _form(before)
    leaves = zip(jaxpr.invars, jaxpr.outvars, strict=False)
    changed = [a is not b for a, b in leaves][: len(paths)]
    if len(jax.tree.leaves(before[0])) != len(paths):
        changed = [True] * len(paths)
    return {path for path, moved in zip(paths, changed, strict=True) if moved}, jaxpr if steady else None


def _form(tree: Any) -> tuple[Any, list[Any]]:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]
