"""Inference one step at a time, the state in the caller's hands: for inputs that come as they happen."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.hoist import hoist
from safjax.nn.binding import bind
from safjax.nn.bound import Bound
from safjax.nn.carrying import begun, check_form, check_state, handed_on
from safjax.nn.graphs import Graph
from safjax.nn.inference import evaluating
from safjax.nn.module import SpikingModule
from safjax.nn.shapes import bound_or_explained, reading
from safjax.nn.states import join, modules
from safjax.nn.task import check_arrays, check_net, started
from safjax.portable import is_portable
from safjax.rules import Rule, bptt
from safjax.schedules import WholeSequence
from safjax.state import State


class Stream:
    """A net that takes one time step after the other; made by `stream`."""

    def __init__(self, net: nnx.Module):
        check_net(net)
        _refuse_whole_sequences(net)
        graph, *states = evaluating(net)
        # Copies: the next training step may use up the net's own arrays.
        self._states = jax.tree.map(jnp.copy, states)
        self._start, self._advance, self._parts = _compiled(graph)
        self._traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(states))
        self._last: tuple[Any, ...] = (None, None, None)

    def start(self, x: Any) -> State:
        """The state at rest, before the first step, for inputs like x[B, ...]."""
        check_arrays(x)
        return self._start(*self._states, x)

    def __call__(self, state: State, x: Any) -> tuple[State, Any]:
        """(state[t−1], x[t]) ↦ (state[t], output[t]).

        The state may also be one that a training step handed on: the stream goes on with it, traces and sums included,
        and training with the one that the stream returns.

        Raises:
          TypeError: the state is none.
          ValueError: the state is that of another net, or of inputs of another shape.
          TypeError: x holds something else than arrays.
        """
        check_arrays(x)
        check_state(state, _inference(state), 1)
        if self._traced:
            return self._advance(*self._states, state, x)
        leaves, form = jax.tree.flatten((state, x))
        key = form, [(leaf.shape, leaf.dtype) for leaf in leaves], is_portable()
        if key != self._last[0]:
            self._last = key, *self._split(state, x)
        _, advance, made = self._last
        return advance(made, state, x)

    def _split(self, state: State, x: Any) -> tuple[Callable[..., Any], Any]:
        """(a step, given what of it depends on the net alone: standardised kernels for instance; that)."""
        types = jax.tree.map(jax.typeof, (self._states, state, x))
        leaves, form = jax.tree.flatten(types)
        prelude, advance = self._parts(form, tuple((t.shape, t.dtype) for t in leaves), is_portable())
        # Once and for all, inside of a compiled function too.
        with jax.ensure_compile_time_eval():
            return advance, prelude(self._states)


def stream(net: nnx.Module) -> Stream:
    """Plain spiking inference as of `predict`, one step a call: the same outputs, whatever rule trained the net.

        stream = safjax.stream(net)
        state = stream.start(x)
        for x in sensor:
            state, output = stream(state, x)

    A call is compiled once for each shape of x, and may itself stand in a `jax.jit` or be the body of a `lax.scan`. The
    state is a pytree of arrays that no call changes: to go back, take an older one; to begin anew, `start`.

    Args:
      net: a spiking net, with the parameters that it has now; left unchanged.

    Raises:
      TypeError: net is no `nnx.Module`.
      ValueError: a layer of it needs all steps at once.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, LeakyReadout, Synapse
      >>> net = nnx.Sequential(Synapse(nnx.Linear(4, 2, rngs=nnx.Rngs(0))), LIF(), LeakyReadout())
      >>> x = jnp.arange(36.0).reshape(9, 1, 4) / 9
      >>> stream = safjax.stream(net)
      >>> state, outputs = stream.start(x[0]), []
      >>> for x_t in x:
      ...     state, output = stream(state, x_t)
      ...     outputs.append(output)
      >>> bool(jnp.allclose(jnp.stack(outputs), safjax.predict(net, x)))
      True
    """
    return Stream(net)


@functools.lru_cache(maxsize=128)
def _compiled(graph: Graph) -> tuple[Callable[..., Any], ...]:
    """`start`, `advance` and its two parts, of all nets of one structure; looked up once, since that takes its time."""

    def bound(params: Any, rest: Any, x: Any, rule: Rule) -> Bound:
        # A rule that goes from step to step neither knows nor needs the length of the sequence.
        return bound_or_explained(
            lambda net: bind(net, rule, x, steps=1, static=False, going_on=True),
            lambda: graph.merge(params, rest),
            reading(x, None, stream=True),
        )

    def start(params: Any, rest: Any, x: Any) -> State:
        net = bound(params, rest, x, bptt())
        return handed_on(net, begun(net, net.params, None)[0], net.params, None, running=True)

    def advance(params: Any, rest: Any, state: State, x: Any) -> tuple[State, Any]:
        net = bound(params, rest, x, _inference(state))
        check_form(state, jax.eval_shape(lambda: started(net)), x)
        carry, constants = begun(net, net.params, state)
        carry, output, _ = net.step(net.params, constants, carry, x)
        return handed_on(net, carry, net.params, state, running=True), output

    @functools.lru_cache(maxsize=128)
    def parts(form: Any, types: Any, portable: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
        del portable
        states, *given = jax.tree.unflatten(form, [jax.ShapeDtypeStruct(*t) for t in types])

        def hoisted(*given: Any) -> Any:
            # As constants: of weights wider copies would be made, for sums of their gradients.
            return hoist(lambda _, states, given: advance(*states, *given), (), states, given)

        prelude = jax.jit(lambda states: hoisted(*given)[0]((), states)[1])
        return prelude, jax.jit(lambda made, *given: hoisted(*given)[1]([], made, given))

    return jax.jit(start), jax.jit(advance), parts


def _inference(state: Any) -> Rule:
    return Rule("inference", state.kind, WholeSequence()) if isinstance(state, State) else bptt()


def _refuse_whole_sequences(net: nnx.Module) -> None:
    for path, module in modules(net):
        if isinstance(module, SpikingModule) and not module.stepwise:
            raise ValueError(
                f"{type(module).__name__} at '{join(path)}' computes all steps of a sequence at once, so this net "
                "cannot go one step at a time. Run it by safjax.predict(net, x), or build it from layers that can, "
                "such as LIF, ALIF or SlidingPSN."
            )
