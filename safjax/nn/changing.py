"""Finding out which variables of a net a step changes, from the program of a step, which is kept."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core


class TracedStep(NamedTuple):
    """A step of a net as it was traced: ((values of all variables, states), parameters, x) ↦ what a step returns.

    Attributes:
      step: (params, constants, carry, x, going) ↦ (carry, output, reports), as it was given.
      paths: those of the variables, in the order of their values.
      closed: its program, which returns ((values of all variables, states), output, reports).
      form: the structure of what the program is given.
      shapes: of what it returns.
    """

    step: Callable[..., Any]
    paths: list[Any]
    closed: core.ClosedJaxpr
    form: Any
    shapes: Any

    def again(self, params: Any, constants: Any, carry: Any, x: Any, going: Any = None) -> Any:
        """The step: where what it is given has the form of before, by the program, which takes no look at the net."""
        states, changing = carry
        rest = {**constants, **changing}
        known = going is None and rest.keys() == set(self.paths)
        leaves, form = jax.tree.flatten((([rest[path] for path in self.paths], states), params, x) if known else None)
        if not known or form != self.form or list(map(jax.typeof, leaves)) != self.closed.in_avals:
            return self.step(params, constants, carry, x, going)
        # A number that the program returns as it is written comes as such.
        results = [r if isinstance(r, jax.Array) else jnp.asarray(r) for r in core.jaxpr_as_fun(self.closed)(*leaves)]
        (values, states), output, reports = jax.tree.unflatten(jax.tree.structure(self.shapes), results)
        after = dict(zip(self.paths, values, strict=True))
        return (states, {path: after[path] for path in changing}), output, reports

    def changed(self) -> set[Any]:
        """The paths of the variables that come back as other values than were given."""
        jaxpr, values = self.closed.jaxpr, self.form.children()[0].children()[0]
        if values.num_leaves != len(self.paths):
            return set(self.paths)
        return {path for path, a, b in zip(self.paths, jaxpr.invars, jaxpr.outvars, strict=False) if a is not b}

    def program(self) -> core.Jaxpr | None:
        """Its program; None where variables and states come back in another form, so that no loop could carry them."""
        before, (after, structure) = self.form.children()[0], jax.tree.flatten(self.shapes[0])
        same = [(a.shape, a.dtype) for a in after] == [(a.shape, a.dtype) for a in self.closed.in_avals[: len(after)]]
        return self.closed.jaxpr if same and structure == before else None


def traced_step(step: Callable[..., Any], params: Any, rest: dict[Any, Any], states: Any, x: Any) -> TracedStep:
    """Traces a step from these variables and states, for one step's input like x, arrays or shapes."""
    paths = sorted(rest)
    before = [rest[path] for path in paths], states

    def after(before: Any, params: Any, x: Any) -> Any:
        values, states = before
        (states, rest), output, reports = step(params, {}, (states, dict(zip(paths, values, strict=True))), x)
        return ([rest[path] for path in paths], states), output, reports

    x = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype), x)
    closed, shapes = jax.make_jaxpr(after, return_shape=True)(before, params, x)
    return TracedStep(step, paths, closed, jax.tree.structure((before, params, x)), shapes)
