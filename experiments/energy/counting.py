"""What each synapse of a net is given, found by standing watch before it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.energy.connections import fan_out
from experiments.energy.meeting import meeting, spikes_in
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
      fan_outs: of each of its inputs, the connections of every entry of one example, where all others are 1.
      dense: MAC of one pass over one example, as a program for real numbers has them.
      spikes: whether each of its inputs is spikes.
    """

    fan_outs: tuple[np.ndarray, ...]
    dense: int
    spikes: tuple[bool, ...]

    @property
    def fan_out(self) -> np.ndarray:
        """[*shape] of one input, of several [entries of all]."""
        return self.fan_outs[0] if len(self.fan_outs) == 1 else np.concatenate([fan.ravel() for fan in self.fan_outs])


class Counted(SpikingModule):
    """A synapse that reports its events, the entries that are not 0, and its AC and MAC, of every example."""

    def __init__(self, synapse: Synapse, sees: Input):
        self.synapse, self.spikes = synapse, sees.spikes
        self.fan_outs = nnx.List([nnx.Variable(jnp.asarray(fan, jnp.int32)) for fan in sees.fan_outs])

    def __call__(self, *inputs: Any) -> Any:
        shapes = [fan[...].shape for fan in self.fan_outs]
        values = [None if isinstance(x, Silence) else _values(x) for x in inputs]
        # Steps and examples, or examples.
        leading = [x.shape[: x.ndim - len(shape)] for x, shape in zip(values, shapes, strict=True) if x is not None]
        if leading:
            batch, pairs = leading[0], zip(values, shapes, strict=True)
            report = self._report([jnp.zeros((*batch, *shape)) if x is None else x for x, shape in pairs], batch)
            self.observed = Observation(report, own_axes=tuple(leaf.ndim for leaf in jax.tree.leaves(report)))
        return self.synapse(*inputs)

    def _report(self, values: list[jax.Array], batch: tuple[int, ...]) -> dict[str, jax.Array]:
        events = jnp.stack([(x != 0).reshape(*batch, -1).sum(-1, dtype=jnp.int32) for x in values]).sum(0)
        if len(values) > 1:
            count = meeting(self.synapse.layer, [fan[...].shape for fan in self.fan_outs], self.spikes)
            flat = [x.reshape(-1, *x.shape[len(batch) :]) for x in values]
            counts = [n.reshape(batch) for n in jax.vmap(count)(*flat)]
        else:
            fans = self.fan_outs[0][...]
            sites = tuple(range(-fans.ndim, 0))
            accumulations = (spikes_in(values[0]).astype(jnp.int32) * fans).sum(sites)
            counts = [accumulations, jnp.full_like(accumulations, fans.sum())]
            counts = [n * (which == self.spikes[0]) for n, which in zip(counts, (True, False), strict=True)]
        return dict(zip(("events", "accumulations", "multiplications"), (events, *counts), strict=True))


class Watched(SpikingModule):
    """A synapse that reports its inputs."""

    def __init__(self, synapse: Synapse, called: Callable[[], None]):
        self.synapse, self.called = synapse, called

    def __call__(self, *inputs: Any) -> Any:
        self.called()
        seen = {f"input {place}": x for place, x in enumerate(inputs) if not isinstance(x, Silence)}
        if seen:
            self.observed = Observation(seen, own_axes=tuple(x.ndim for x in jax.tree.leaves(seen)))
        return self.synapse(*inputs)


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
    seen = step(bound.params, constants, carry, example)[2].records
    layers = {join(path): module.layer for path, module in nnx.iter_modules(net) if isinstance(module, Synapse)}
    inputs = {path: [seen[name][path] for name in sorted(seen) if path in seen[name]] for path in called}
    shapes = {path: [x.shape[1:] for x in given] for path, given in inputs.items()}
    fans = _fan_outs(layers, shapes)
    dense = {
        path: operations(lambda *xs, path=path: layers[path](*xs), *(jnp.zeros((1, *one)) for one in shapes[path])) // 2
        for path in called
    }
    encoded = steps is None and bool(jnp.all((x == 0) | (x == 1)))
    spikes = {path: tuple(encoded or bool(jnp.isnan(x).any()) for x in given) for path, given in inputs.items()}
    return {path: Input(fans[path], dense[path], spikes[path]) for path in called}


def _fan_outs(layers: dict[str, Any], shapes: dict[str, list[tuple[int, ...]]]) -> dict[str, tuple[np.ndarray, ...]]:
    fans = jax.jit(lambda: {path: _of_inputs(path, layers[path], given) for path, given in shapes.items()})()
    return {path: tuple(np.asarray(fan, np.int64) for fan in found) for path, found in fans.items()}


def _of_inputs(path: str, layer: Callable[..., jax.Array], shapes: list[tuple[int, ...]]) -> list[jax.Array]:
    """The connections of each input."""
    ones = [jnp.ones((1, *shape)) for shape in shapes]
    try:
        if len(shapes) > 1:
            meeting(layer, shapes, [True] * len(shapes))
        return [fan_out(_of_one(layer, ones, i), shape) for i, shape in enumerate(shapes)]
    except ValueError as error:
        raise ValueError(f"The operations of the Synapse at '{path}' cannot be counted: {error}.") from error


def _of_one(layer: Callable[..., jax.Array], others: list[jax.Array], place: int) -> Callable[[jax.Array], jax.Array]:
    return lambda x: layer(*others[:place], x, *others[place + 1 :])


def _values(x: Any) -> jax.Array:
    return x.computed().unrolled() if is_message(x) else x
