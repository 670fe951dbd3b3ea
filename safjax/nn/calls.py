"""Calls of spiking layers: errors of JAX and Flax in them name the layer, and `nnx.tabulate` may call them too.

A table shows a spiking net as it computes one step of plain simulation. NNX marks every module of a copy of the net
with the attribute `_nnx_tabulate_id`, puts a wrapper around every public method of their classes, calls the copy, and
takes the wrappers off again. Two things need help. What a spiking layer computes depends on a rule, so a marked one
that no rule has met takes that of plain simulation. And where the call fails NNX leaves its wrappers on the classes,
where they break every net of the process; they are taken off here.
"""

import contextlib
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, overload

import jax
import jax.numpy as jnp

from safjax.messages import Silence, is_message
from safjax.neurons.recording import Pick
from safjax.nn.module import Bindable, Binding
from safjax.nn.refusing import Refusals
from safjax.nn.wrappers import MARK, take_off, wrapped_methods
from safjax.rules.propagation import Course, Fired
from safjax.rules.spikes import SpikePropagation


class OneStep(SpikePropagation):
    """Plain simulation; neurons that need all steps at once show a step too."""

    def start(self, current: jax.Array, cell: Any, course: Course) -> Any:
        return super().start(current, cell, course) if hasattr(cell, "step") else ()

    def neuron(self, state: Any, current: jax.Array, cell: Any, pick: Pick | None = None) -> Fired:
        if hasattr(cell, "step"):
            return super().neuron(state, current, cell, pick)
        numbers = [a for a in vars(cell).values() if isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jnp.floating)]
        spikes = jnp.zeros(current.shape, jnp.result_type(current, *numbers))
        return Fired(None, spikes, spikes)


@jax.tree_util.register_pytree_node_class
class NotYet(Silence):
    """What a `Delay` hands back before its shape is known: an empty cell of the table."""

    def __len__(self) -> int:
        return 0

    def tree_flatten(self) -> tuple[tuple[Any, ...], None]:
        return (), None

    @classmethod
    def tree_unflatten(cls, aux: None, children: tuple[Any, ...]) -> "NotYet":
        del aux, children
        return cls()


Method = TypeVar("Method", bound=Callable[..., Any])


@overload
def layer_call(method: Method) -> Method: ...
@overload
def layer_call(*, prepare: Callable[..., Any]) -> Callable[[Method], Method]: ...
def layer_call(
    method: Callable[..., Any] | None = None, *, prepare: Callable[..., Any] = lambda *_: None
) -> Callable[..., Any]:
    """Makes a method of a module that is told of the rule and of time, such as one that takes messages.

    Args:
      method: of positional arguments; called as it is, but for the name of the layer in its errors, and in tables.
      prepare: (module, *arguments) ↦ None, called before it with the copy of a module that a table is made of.
    """
    if method is None:
        return functools.partial(layer_call, prepare=prepare)

    @functools.wraps(method)
    def call(self: Bindable, *args: Any) -> Any:
        if self.binding is not None:
            with _named(self, args):
                return method(self, *args)
        if MARK not in vars(self):
            return method(self, *args)
        try:
            _bind(self, args)
            prepare(self, *args)
            result = method(self, *args)
        except BaseException:
            take_off()
            raise
        return NotYet() if isinstance(result, Silence) else result

    return call


@contextlib.contextmanager
def _named(module: Bindable, args: tuple[Any, ...]) -> Iterator[None]:
    """Errors that do not say where they happen, as those of JAX, are given a note; of nested layers the inner one's."""
    try:
        yield
    except Exception as error:
        path = module.bound().path
        if f"'{path}" not in str(error) and not any(_NOTE in note for note in getattr(error, "__notes__", ())):
            error.add_note(f"{_NOTE} the {type(module).__name__} at '{path}'{', '.join(['', *map(_given, args)])}.")
        raise


_NOTE = "This happened in"


def _given(x: Any) -> str:
    if is_message(x):
        return f"given one of shape {list(x.step_shape)} at every step"
    return f"given an array of shape {list(x.shape)}" if hasattr(x, "shape") else f"given a {type(x).__name__}"


def _bind(module: Bindable, args: tuple[Any, ...]) -> None:
    """Binds a module of a table; its other methods are called as they are and make no rows."""
    vars(module).update({name: types.MethodType(method, module) for name, method in wrapped_methods(type(module))})
    batch = next((len(x) for x in jax.tree.leaves(args) if jnp.ndim(x)), 1)
    course = Course(0.5, 1, batch, False)
    module.binding = Binding("nnx.tabulate", OneStep(), course, type(module).__name__, (), None, Refusals())
