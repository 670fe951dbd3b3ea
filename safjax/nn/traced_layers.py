"""The program of a synapse's layer under rules that accumulate: traced once, however often the net is looked at.

A net is run on shapes several times while it meets a rule, and again where the rule differentiates a step. What its
layers compute of sums over time is one function of parameters and inputs, which has one program for each form of these.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import nnx
from jax.extend import core

from safjax.affine import nonaffine_in
from safjax.hoist import hoist_program
from safjax.nn.module import Bindable, Binding
from safjax.nn.states import join, modules, split


class TracedLayer:
    """The program of a layer: (params, rest, inputs) ↦ (result, rest after the call).

    Args:
      closed: the program.
      shapes: of what it returns.
      given: (params, rest) that it was traced with.
    """

    def __init__(self, closed: core.ClosedJaxpr, shapes: Any, given: tuple[Any, Any]):
        self._closed, self._shapes = closed, shapes
        self._params, self._rest = (len(jax.tree.leaves(part)) for part in given)
        self._paths = _paths(given[1])

    @property
    def pure(self) -> bool:
        """Whether it is one function wherever it is called."""
        inside = any(isinstance(constant, jax.core.Tracer) for constant in self._closed.consts)
        return not inside and not self._closed.effects and not self.changes()

    def changes(self) -> list[str]:
        """The paths of the variables that a call changes."""
        jaxpr = self._closed.jaxpr
        before = dict(zip(self._paths, jaxpr.invars[self._params :], strict=False))
        after = dict(zip(_paths(self._shapes[1]), jaxpr.outvars[self._results().num_leaves :], strict=True))
        return [path for path in {**before, **after} if before.get(path) is not after.get(path)]

    def nonaffine_operation(self) -> str | None:
        """The first operation through which it is not affine in its inputs, in words; None if there is none."""
        return nonaffine_in(self._closed, self._params + self._rest)

    @functools.cached_property
    def hoisted(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """(prelude, body) of `hoist`, of its result."""
        return hoist_program(self._closed, self._params, self._rest, self._results())

    def _results(self) -> Any:
        return jax.tree.structure(self._shapes[0])


def traced_layer(
    binding: Binding, layer: nnx.Module, called: Callable[..., Any], params: Any, rest: Any, inputs: Sequence[Any]
) -> TracedLayer:
    """The program of the layer of the Synapse so bound, for inputs of this form.

    Args:
      binding: of the synapse, which keeps it where the layer is one function wherever it is called.
      layer: what the synapse holds.
      called: (a copy of the layer, *inputs) ↦ its result.
      params, rest: the layer's variables.
      inputs: arrays.
    """
    leaves, structure = jax.tree.flatten((params, rest, tuple(inputs)))
    form = structure, tuple(map(jax.typeof, leaves))
    if form in binding.programs:
        return binding.programs[form]
    graphdef = nnx.graphdef(layer)

    def function(params: Any, rest: Any, inputs: tuple[Any, ...]) -> tuple[Any, Any]:
        copied = nnx.merge(graphdef, params, rest, copy=True)
        result = called(copied, *inputs)
        return result, split(copied, nnx.Param)[2]

    closed, shapes = jax.make_jaxpr(function, return_shape=True)(params, rest, tuple(inputs))
    traced = TracedLayer(closed, shapes, (params, rest))
    # Layers that are told of time look at each call.
    if traced.pure and not any(isinstance(module, Bindable) for _, module in modules(layer)):
        binding.programs[form] = traced
    return traced


def _paths(rest: Any) -> list[str]:
    """The paths of the variables of a layer, in the order of its leaves."""
    return [join(getattr(part, "key", part) for part in path) for path, _ in jax.tree.leaves_with_path(rest)]
