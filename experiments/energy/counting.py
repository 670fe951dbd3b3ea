"""What each synapse of a net is given, found by standing watch before it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.energy.connections import fan_out
from experiments.energy.operations import operations
from safjax.messages import Silence, is_message
from safjax.nn import Synapse
from safjax.nn.binding import bind
from safjax.nn.carrying import begun
from safjax.nn.module import Observation, SpikingModule
from safjax.nn.neurons import Neuron
from safjax.nn.states import join
from safjax.rules import bptt


class Input(NamedTuple):
    """What a synapse is given.

    Attributes:
      fan_out: connections of every input of one example.
      dense: MAC of one pass over one example, as a program for real numbers has them.
      spikes: whether the inputs are spikes.
    """

    fan_out: np.ndarray
    dense: int
    spikes: bool


class Counted(SpikingModule):
    """A synapse that reports its events, the inputs that are not 0, and their connections, of every example."""

    def __init__(self, synapse: Synapse, fan_out: np.ndarray):
        self.synapse, self.fan_out = synapse, nnx.Variable(jnp.asarray(fan_out, jnp.int32))

    def __call__(self, x: Any) -> Any:
        if not isinstance(x, Silence):
            fans = self.fan_out[...]
            events = (_values(x) != 0).astype(jnp.int32)
            sites = tuple(range(-fans.ndim, 0))
            report = {"events": events.sum(sites), "accumulations": (events * fans).sum(sites)}
            self.observed = Observation(report, own_axes=tuple(leaf.ndim for leaf in jax.tree.leaves(report)))
        return self.synapse(x)


class Watched(SpikingModule):
    """A synapse that reports its input."""

    def __init__(self, synapse: Synapse, called: Callable[[], None]):
        self.synapse, self.called = synapse, called

    def __call__(self, x: Any, *others: Any) -> Any:
        if others:
            raise ValueError(
                f"The operations of the Synapse at '{self.bound().path}' cannot be counted: it "
                f"has {len(others) + 1} inputs, and connections are counted of one."
            )
        self.called()
        if not isinstance(x, Silence):
            self.observed = Observation({"input": x}, own_axes=(x.ndim,))
        return self.synapse(x)


class NotANumber(SpikingModule):
    """In place of neurons: what it gives makes everything that depends on it no number."""

    def __init__(self, neuron: Neuron):
        self.neuron = neuron

    def __call__(self, current: Any) -> Any:
        return float("nan") * current


def replaced(net: nnx.Module, kind: type, new: Callable[[str, Any], nnx.Module]) -> nnx.Module:
    """A copy of the net with new(path, module) in place of every module of a kind."""
    return nnx.recursive_map(lambda path, node: new(join(path), node) if isinstance(node, kind) else node, net)


def inputs_of(net: nnx.Module, x: jax.Array, steps: int | None) -> dict[str, Input]:
    """What each synapse is given, by its path, in the order in which a step calls them.

    Args:
      net: in evaluation mode.
      x, steps: as of `safjax.predict`.

    Raises:
      ValueError: a synapse is not affine; the message names it.
    """
    called: dict[str, None] = {}
    probe = replaced(net, Neuron, lambda _, one: NotANumber(one))
    probe = replaced(probe, Synapse, lambda path, one: Watched(one, lambda: called.setdefault(path)))
    example = x[:1] if steps else x[0, :1]
    bound = bind(probe, bptt(), example, 2, static=True)
    step = jax.jit(bound.step)
    # What a `Delay` hands back comes in the second step.
    carry, constants = begun(bound, bound.params, None)
    carry, _, _ = step(bound.params, constants, carry, example)
    seen = step(bound.params, constants, carry, example)[2].records["input"]
    layers = {join(path): module.layer for path, module in nnx.iter_modules(net) if isinstance(module, Synapse)}
    shapes = {path: seen[path].shape[1:] for path in called}
    fans = _fan_outs(layers, shapes)
    dense = {
        path: operations(lambda x, path=path: layers[path](x), jnp.zeros((1, *shapes[path]))) // 2 for path in called
    }
    encoded = steps is None and bool(jnp.all((x == 0) | (x == 1)))
    spikes = {path: encoded or bool(jnp.isnan(seen[path]).any()) for path in called}
    return {path: Input(fans[path], dense[path], spikes[path]) for path in called}


def _fan_outs(layers: dict[str, nnx.Module], shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    fans = jax.jit(lambda: {path: _fan_out(path, layers[path], shape) for path, shape in shapes.items()})()
    return {path: np.asarray(fan, np.int64) for path, fan in fans.items()}


def _fan_out(path: str, layer: nnx.Module, shape: tuple[int, ...]) -> jax.Array:
    try:
        return fan_out(layer, shape)
    except ValueError as error:
        raise ValueError(f"The operations of the Synapse at '{path}' cannot be counted: {error}.") from error


def _values(x: Any) -> jax.Array:
    return x.computed().unrolled() if is_message(x) else x
