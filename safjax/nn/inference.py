"""Entry points of inference: plain spiking simulation of a net, whatever rule trained it."""

import functools
from typing import Any, NamedTuple

import jax
from flax import nnx

from safjax import loops
from safjax.nn.graphs import split_net
from safjax.nn.neurons import Neuron
from safjax.nn.task import check_call, make_task
from safjax.rules import Rule, bptt


class Simulation(NamedTuple):
    """A recorded run: the net's outputs [T, B, ...] and every neuron module's spikes [T, B, ...] by its path."""

    outputs: Any
    spikes: dict[str, jax.Array]


def predict(net: nnx.Module, x: Any, steps: int | None = None) -> Any:
    """Plain spiking inference, whatever rule trained the net; dropout off.

    Args:
      net: a spiking net; left unchanged.
      x: a static image [B, ...] with `steps`, or a sequence [T, B, ...] without.
      steps: T, or None.

    Returns:
      The outputs of all steps, [T, B, ...]. A net trained on its last step is read at outputs[-1], one trained on every
      step as outputs.mean(0).

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, LeakyReadout, Synapse
      >>> net = nnx.Sequential(Synapse(nnx.Linear(4, 2, rngs=nnx.Rngs(0))), LIF(), LeakyReadout())
      >>> safjax.predict(net, jnp.ones((3, 4)), steps=6).shape
      (6, 3, 2)
      >>> safjax.predict(net, jnp.ones((9, 3, 4))).shape
      (9, 3, 2)
    """
    check_call(net, x, steps, bptt(), None)
    return _simulate(*evaluating(net), x, steps, False)[0]


def simulate(net: nnx.Module, x: Any, steps: int | None = None) -> Simulation:
    """As `predict`, and records the spikes of every neuron: for rasters and firing-rate plots.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, LeakyReadout, Synapse
      >>> net = nnx.Sequential(Synapse(nnx.Linear(4, 2, rngs=nnx.Rngs(0))), LIF(), LeakyReadout())
      >>> run = safjax.simulate(net, jnp.ones((3, 4)), steps=6)
      >>> run.outputs.shape, {path: spikes.shape for path, spikes in run.spikes.items()}
      ((6, 3, 2), {'layers.1': (6, 3, 2)})
    """
    check_call(net, x, steps, bptt(), None)
    return Simulation(*_simulate(*evaluating(net), x, steps, True))


@functools.partial(jax.jit, static_argnums=(0, 4, 5))
def _simulate(graph, params, rest, x, steps, record):
    rule = _inference_rule(graph.merge(params, rest))
    observe = {"observe": lambda spikes: spikes} if record else {}
    bound, task = make_task(graph, params, rest, rule, lambda output: 0.0, (), x, steps, **observe)
    run = loops.at_once if rule.propagation.whole_sequence else loops.simulate
    _, outputs, observations = run(task, bound.params)
    return outputs, observations


def _inference_rule(net: nnx.Module) -> Rule:
    whole = any(isinstance(module, Neuron) and not module.stepwise for _, module in nnx.iter_modules(net))
    return bptt(layerwise=whole)


def evaluating(net: nnx.Module) -> tuple:
    """(graph, parameters, other variables) of a copy of the net with dropout off."""
    net = nnx.clone(net)
    net.eval()
    return split_net(net)
