"""Tables of a net, `nnx.tabulate(net, x)`: they show a spiking net as it computes one step of plain simulation.

NNX marks every module of a copy of the net with the attribute `_nnx_tabulate_id`, puts a wrapper around every public
method of their classes, calls the copy, and takes the wrappers off again. Two things need help. What a spiking layer
computes depends on a rule, so a marked one that no rule has met takes that of plain simulation. And where the call
fails NNX leaves its wrappers on the classes, where they break every net of the process; they are taken off here.
"""

import functools
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from safjax.messages import Silence
from safjax.nn.module import Binding, SpikingModule
from safjax.nn.wrappers import MARK, take_off, wrapped_methods
from safjax.rules.propagation import Course, Fired
from safjax.rules.spikes import SpikePropagation


class OneStep(SpikePropagation):
    """Plain simulation; neurons that need all steps at once show a step too."""

    def start(self, current: jax.Array, cell: Any) -> Any:
        return super().start(current, cell) if hasattr(cell, "step") else ()

    def neuron(self, state: Any, current: jax.Array, cell: Any) -> Fired:
        if hasattr(cell, "step"):
            return super().neuron(state, current, cell)
        numbers = [a for a in vars(cell).values() if isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jnp.floating)]
        spikes = jnp.zeros(current.shape, jnp.result_type(current, *numbers))
        return Fired(None, spikes, spikes)


@jax.tree_util.register_pytree_node_class
class NotYet(Silence):
    """What a `Delay` hands back before its shape is known: an empty cell of the table."""

    def __len__(self) -> int:
        return 0

    def tree_flatten(self) -> tuple[tuple, None]:
        return (), None

    @classmethod
    def tree_unflatten(cls, aux: None, children: tuple) -> "NotYet":
        del aux, children
        return cls()


def in_tables(method: Callable | None = None, *, prepare: Callable[..., Any] = lambda *_: None) -> Callable:
    """Lets `nnx.tabulate` call a method of a spiking module that no rule has met.

    Args:
      method: takes messages.
      prepare: (module, *arguments) ↦ None, called before it with the copy of the module that the table is made of.
    """
    if method is None:
        return functools.partial(in_tables, prepare=prepare)

    @functools.wraps(method)
    def shown(self: SpikingModule, *args: Any) -> Any:
        if self.binding is not None or MARK not in vars(self):
            return method(self, *args)
        try:
            _bind(self, args)
            prepare(self, *args)
            result = method(self, *args)
        except BaseException:
            take_off()
            raise
        return NotYet() if isinstance(result, Silence) else result

    return shown


def _bind(module: SpikingModule, args: tuple) -> None:
    """Binds a module of a table; its other methods are called as they are and make no rows."""
    vars(module).update({name: types.MethodType(method, module) for name, method in wrapped_methods(type(module))})
    batch = next((len(x) for x in jax.tree.leaves(args) if jnp.ndim(x)), 1)
    course = Course(0.5, 1, batch, False)
    module.binding = Binding("nnx.tabulate", OneStep(), course, type(module).__name__, jnp.mean, None)
