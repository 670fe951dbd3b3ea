"""Moves what does not change with time out of the time loop.

A step function f(weights, constants, varying) usually computes much that depends on `weights` and `constants` alone: a
standardised kernel, a dropout mask, the first synapse of a static image. `hoist` traces f once and cuts it in two,

    f(w, c, v) = body(*prelude(w, c), v),

so that a loop evaluates `prelude` once and `body` T times. A rule that takes a gradient at every step then
differentiates `body` with respect to the prelude's results, adds those gradients up, and pulls the sum back through
`prelude` once; by linearity that is the same gradient. So that the sum is never one of half precision, what depends on
the weights is handed over in float32 or wider.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from safjax.precision import widened

# Operations that only repeat or relabel their input. Their results are recomputed in the body rather than handed over,
# so that a bias is not stored as large as the map it is added to.
_RELABELLING = {"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "convert_element_type"}


def hoist(
    function: Callable[..., Any], weights: Any, constants: Any, varying: Any
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Splits `function(weights, constants, varying)` at the border of what depends on `varying`.

    Args:
      function: traced once; must be pure. The three arguments may be any pytrees.
      weights: example of the first argument (arrays or shapes); its dependents are meant to be differentiated.
      constants: example of the second argument.
      varying: example of the third argument.

    Returns:
      prelude: (weights, constants) ↦ (from_weights, from_constants), two lists of arrays. `from_weights` holds the
        real-valued results that depend on `weights`, in float32 or wider, `from_constants` all others.
      body: (from_weights, from_constants, varying) ↦ function(weights, constants, varying).

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from safjax.hoist import hoist
      >>> def step(weight, constant, x):
      ...     return jnp.sin(weight) * constant + x
      >>> prelude, body = hoist(step, 1.0, 2.0, 3.0)
      >>> results = prelude(1.0, 2.0)
      >>> [bool(body(*results, x) == step(1.0, 2.0, x)) for x in (3.0, 4.0)]
      [True, True]
      >>> "sin" in str(jax.make_jaxpr(body)(*results, 3.0))
      False
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(weights, constants, varying)
    counts = len(jax.tree.leaves(weights)), len(jax.tree.leaves(constants))
    return hoist_program(closed, *counts, jax.tree.structure(shapes))


def hoist_program(
    closed: core.ClosedJaxpr, n_weights: int, n_constants: int, structure: Any
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """As `hoist`, of a function that was traced already.

    Args:
      closed: its program.
      n_weights: how many of its inputs, the first ones, are weights.
      n_constants: how many after them are constants.
      structure: that of its result, the first outputs of the program; of what it returns besides nothing is computed.
    """
    jaxpr, outputs = closed.jaxpr, closed.jaxpr.outvars[: structure.num_leaves]
    fixed_inputs = jaxpr.invars[: n_weights + n_constants]
    varying_inputs = jaxpr.invars[n_weights + n_constants :]

    fixed = dependents(jaxpr, fixed_inputs) - dependents(jaxpr, varying_inputs)
    inside = _needed(jaxpr, outputs, lambda eqn: not fixed.intersection(eqn.outvars) or _relabels(eqn))
    handed_over = _inputs_of(inside, outputs).intersection(fixed)
    border = [v for v in [*fixed_inputs, *(v for e in jaxpr.eqns for v in e.outvars)] if v in handed_over]
    # What prints or calls back does so at every step.
    outside = _needed(jaxpr, border, lambda eqn: not eqn.effects)

    learned = dependents(jaxpr, jaxpr.invars[:n_weights])
    first = [v for v in border if v in learned and jnp.issubdtype(v.aval.dtype, jnp.inexact)]
    second = [v for v in border if v not in first]
    run_outside = _function(closed, fixed_inputs, outside, first + second)
    run_inside = _function(closed, first + second + varying_inputs, inside, outputs)

    def prelude(weights: Any, constants: Any) -> tuple[list[jax.Array], list[jax.Array]]:
        results = run_outside(*jax.tree.leaves((weights, constants)))
        return [widened(x) for x in results[: len(first)]], results[len(first) :]

    def body(from_weights: list[jax.Array], from_constants: list[jax.Array], varying: Any) -> Any:
        narrow = [x.astype(v.aval.dtype) for x, v in zip(from_weights, first, strict=True)]
        results = run_inside(*narrow, *from_constants, *jax.tree.leaves(varying))
        # A number that the program returns as it is written comes as such.
        arrays = [x if isinstance(x, jax.Array) else jnp.asarray(x) for x in results]
        return jax.tree.unflatten(structure, arrays)

    return prelude, body


def _variables(atoms: Iterable[Any]) -> list[Any]:
    return [a for a in atoms if not isinstance(a, core.Literal)]


def dependents(jaxpr: core.Jaxpr, sources: Iterable[Any]) -> set[Any]:
    """The variables of `jaxpr` that depend on any of `sources`, themselves included."""
    found = set(sources)
    for eqn in jaxpr.eqns:
        if eqn.effects or found.intersection(_variables(eqn.invars)):
            found.update(eqn.outvars)
    return found


def _relabels(eqn: core.JaxprEqn) -> bool:
    return eqn.primitive.name in _RELABELLING


def _needed(jaxpr: core.Jaxpr, results: Iterable[Any], allowed: Callable[[core.JaxprEqn], bool]) -> list[core.JaxprEqn]:
    """The equations, in order, that compute `results`, going back through the allowed ones only."""
    wanted, equations = set(_variables(results)), []
    for eqn in reversed(jaxpr.eqns):
        if allowed(eqn) and (eqn.effects or wanted.intersection(eqn.outvars)):
            wanted.update(_variables(eqn.invars))
            equations.append(eqn)
    return equations[::-1]


def _inputs_of(equations: list[core.JaxprEqn], results: Iterable[Any]) -> set[Any]:
    made = {v for eqn in equations for v in eqn.outvars}
    read = {v for eqn in equations for v in _variables(eqn.invars)}
    return read.union(_variables(results)) - made


def _function(
    closed: core.ClosedJaxpr, inputs: list[Any], equations: list[core.JaxprEqn], outputs: list[Any]
) -> Callable[..., list[Any]]:
    effects = frozenset().union(*(eqn.effects for eqn in equations))
    part = closed.jaxpr.replace(
        invars=inputs,
        outvars=outputs,
        eqns=equations,
        effects=effects,
        debug_info=closed.jaxpr.debug_info.with_unknown_names(),
    )
    return core.jaxpr_as_fun(core.ClosedJaxpr(part, closed.consts))
