"""Inference one step at a time, the state in the caller's hands: for inputs that come as they happen."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn.binding import bind
from safjax.nn.graphs import Graph
from safjax.nn.inference import evaluating
from safjax.nn.neurons import Neuron
from safjax.nn.shapes import bound_or_explained, reading
from safjax.nn.states import join
from safjax.nn.task import check_arrays, check_net
from safjax.rules import bptt


class Stream:
    """A net that takes one time step after the other; made by `stream`."""

    def __init__(self, net: nnx.Module):
        check_net(net)
        _refuse_whole_sequences(net)
        graph, *states = evaluating(net)
        # Copies: the next training step may use up the net's own arrays.
        self._states = jax.tree.map(jnp.copy, states)
        self._start, self._advance = _compiled(graph)

    def start(self, x: Any) -> Any:
        """The state before the first step, zeros, for inputs like x[B, ...]."""
        check_arrays(x)
        return self._start(*self._states, x)

    def __call__(self, state: Any, x: Any) -> tuple[Any, Any]:
        """(state[t−1], x[t]) ↦ (state[t], output[t]).

        Raises:
          ValueError: the state is that of another net, or of inputs of another shape.
          TypeError: x holds something else than arrays.
        """
        check_arrays(x)
        return self._advance(*self._states, state, x)


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
      ValueError: its neurons need all steps at once.

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
def _compiled(graph: Graph) -> tuple[Callable, Callable]:
    """`start` and `advance` of all nets of one structure; looked up once, since that takes longer than a small step."""

    def bound(params, rest, x):
        # A rule that sends spikes from step to step neither knows nor needs the length of the sequence.
        return bound_or_explained(
            lambda net: bind(net, bptt(), x, steps=1, static=False),
            lambda: graph.merge(params, rest),
            reading(x, None, stream=True),
        )

    def start(params, rest, x):
        net = bound(params, rest, x)
        return net.start(net.params)

    def advance(params, rest, state, x):
        net = bound(params, rest, x)
        _check_state(state, jax.eval_shape(net.start, net.params), x)
        state, output, _ = net.step(net.params, net.constants, state, x)
        return state, output

    return jax.jit(start), jax.jit(advance)


def _check_state(state: Any, expected: Any, x: Any) -> None:
    def form(tree):
        return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]

    if form(state) != form(expected):
        shapes = [leaf.shape for leaf in jax.tree.leaves(x)]
        raise ValueError(
            f"The state does not fit inputs of the shapes {shapes}: it is that of another net, or of inputs of another "
            "batch size. Begin with state = stream.start(x) and hand on the state that each call returns."
        )


def _refuse_whole_sequences(net: nnx.Module) -> None:
    for path, module in nnx.iter_modules(net):
        if isinstance(module, Neuron) and not module.stepwise:
            raise ValueError(
                f"{type(module).__name__} at '{join(path)}' computes all steps of a sequence at once, so this net "
                "cannot go one step at a time. Run it by safjax.predict(net, x), or build it from neurons that can, "
                "such as LIF, ALIF or SlidingPSN."
            )
