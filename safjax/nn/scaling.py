"""Scaling the weights of a net at its start, so that every layer of neurons fires."""

import copy
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from safjax import loops
from safjax.nn.batch_norm import BatchNorm
from safjax.nn.convolution import WSConv
from safjax.nn.delayed_linear import DelayedLinear
from safjax.nn.direct import direct_weights
from safjax.nn.graphs import Graph
from safjax.nn.inference import evaluating, inference_rule
from safjax.nn.states import flat, join
from safjax.nn.synapse import Synapse
from safjax.nn.task import check_call, make_task, one_step
from safjax.rules import bptt

STOCK = nnx.Conv | nnx.ConvTranspose | nnx.Linear | nnx.LinearGeneral | nnx.Einsum | DelayedLinear
NEAR, ENOUGH = 0.05, 0.2
"""How near to the rate a search ends, and what is good enough, as parts of the rate."""
MOST = 0.6
"""The rate up to which a layer may fire by what layers before it have been scaled to."""
LEAST_PART = 0.5
"""The least deviation of a branch, as a part of that of what it is added to."""
LARGEST, SWEEPS = 4.0**12, 3


class Scaled(NamedTuple):
    """A net whose layers fire.

    Attributes:
      net: a copy with scaled kernels.
      before, after: spikes per neuron and step on the given batch, of each layer of neurons by its path.
      factors: by what each kernel, or the gain of a standardised one, was multiplied, by its path.
    """

    net: Any
    before: dict[str, float]
    after: dict[str, float]
    factors: dict[str, float]


def scale_to_rate(net: nnx.Module, x: Any, steps: int | None = None, *, rate: float = 0.1) -> Scaled:
    """Scales the kernels of a net, layer after layer, until every layer of neurons fires at a rate on a batch.

    A deep net without normalisation, begun at random, is silent from its second or third layer on, and where nothing
    fires nothing learns. For each layer of neurons, in the order in which a step calls them, all kernels that its
    current hangs on directly are multiplied by one factor, for which the rate is searched by running the net. In the
    spirit of Mishkin & Matas, "All you need is a good init", 2016 (LSUV), there by the variance of what a layer gives.

    Scaled are the kernels of the stock layers (`nnx.Conv`, `nnx.Linear`, ...) in synapses, those of `DelayedLinear` and
    the gains of `WSConv`, each once, for the first neurons that they lead to; not the last ones, behind which only a
    readout comes, nor biases. Where the current comes in part from kernels scaled before, as on a residual stream, the
    branch is scaled to the rate, but keeps at least half the deviation of what it is added to, so that it is not
    silenced: there the rate may become larger, up to 0.6. In nets with feedback, earlier layers are gone through again.
    Dropout is off; normalisation is that of `net.eval()`.

    Args:
      net: left unchanged.
      x, steps: a batch as training has them: an image [B, ...] with `steps`, or a sequence [T, B, ...] without.
      rate: spikes per neuron and step that are aimed at, in (0, 0.5); reached to a fifth.

    Raises:
      TypeError, ValueError: bad arguments; a batch normalisation in training, which undoes any scale; a layer that
        cannot be brought to the rate, by its path, with the reason: no spike reaches it, nothing before it can be
        scaled, or it fires by its bias alone.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, LeakyReadout, Synapse, scale_to_rate
      >>> layers = [f for _ in range(3) for f in (Synapse(nnx.Linear(64, 64, rngs=nnx.Rngs(0))), LIF())]
      >>> net, x = nnx.Sequential(*layers, LeakyReadout()), jnp.arange(12.0 * 4 * 64).reshape(12, 4, 64) % 7 < 1
      >>> scaled = scale_to_rate(net, x.astype(float), rate=0.15)
      >>> max(scaled.before.values()) < 0.01, [0.12 < r < 0.18 for r in scaled.after.values()]
      (True, [True, True, True])
    """
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < 0.5:
        raise ValueError(f"scale_to_rate(rate={rate!r}): expected spikes per neuron and step, in (0, 0.5).")
    check_call(net, x, steps, bptt(), None)
    _refuse_normalised(net)
    scaling = _Scaling(net, x, steps, float(rate))
    before = scaling.measured()[0]
    for sweep in range(SWEEPS):
        for layer in scaling.layers if sweep == 0 else scaling.missed():
            scaling.scale(layer)
        if not scaling.missed():
            break
    scaling.refuse_missed()
    found = copy.deepcopy(net)
    nnx.update(found, nnx.from_flat_state({path: scaling.params[path] for path in scaling.factors}))
    factors = {join(path): factor for path, factor in scaling.factors.items()}
    return Scaled(found, before, scaling.measured()[0], factors)


class _Layer(NamedTuple):
    """A layer of neurons: the kernels that are scaled for it, and whether others, scaled before, lead to it too."""

    path: str
    own: tuple[tuple[Any, ...], ...]
    others: bool


class _Scaling:
    """The kernels as they are scaled so far.

    Args: as of `scale_to_rate`.
    """

    def __init__(self, net: nnx.Module, x: Any, steps: int | None, rate: float):
        self.rate, self.x, self.steps = rate, x, steps
        self.graph, params, self.rest = evaluating(net)
        self.params = flat(params)
        self.layers = _layers(nnx.clone(net), x, steps)
        self.factors = {path: 1.0 for layer in self.layers for path in layer.own}

    def measured(
        self, factors: Mapping[tuple[Any, ...], float] | None = None
    ) -> tuple[dict[str, float], dict[str, float]]:
        """(rates, deviations of the currents) with some kernels multiplied besides."""
        tried = {path: _times(self.params[path], factor) for path, factor in (factors or {}).items()}
        params = nnx.from_flat_state({**self.params, **tried})
        rates, deviations = _measured(self.graph, params, self.rest, self.x, self.steps)
        return {path: float(r) for path, r in rates.items()}, {path: float(d) for path, d in deviations.items()}

    def scale(self, layer: _Layer) -> None:
        """Multiplies the kernels of a layer so that it fires at the rate, if it can be done."""
        if not layer.own:
            return

        def measure(factor: float) -> tuple[float, float]:
            rates, deviations = self.measured(dict.fromkeys(layer.own, factor))
            return rates[layer.path], deviations[layer.path]

        least = _least(measure) if layer.others else None
        factor = _searched(lambda c: measure(c)[0], self.rate, least)
        for path in layer.own:
            self.params[path] = _times(self.params[path], factor)
            self.factors[path] *= factor

    def missed(self) -> list[_Layer]:
        """The layers that are not where they should be."""
        rates = self.measured()[0]
        return [layer for layer in self.layers if not self._reached(layer, rates[layer.path])]

    def _reached(self, layer: _Layer, rate: float) -> bool:
        if not layer.own:
            return 0 < rate <= MOST
        most = MOST if layer.others else (1 + ENOUGH) * self.rate
        return (1 - ENOUGH) * self.rate <= rate <= most

    def refuse_missed(self) -> None:
        """Raises what is in the way of the first layer that is not where it should be."""
        for layer in self.missed():
            rate = self.measured()[0][layer.path]
            raise ValueError(
                f"scale_to_rate: the neurons at '{layer.path}' cannot be brought to {self.rate} spikes per neuron and "
                f"step; they fire at {rate:.3g}. {self._why(layer, rate)}"
            )

    def _why(self, layer: _Layer, rate: float) -> str:
        if not layer.own:
            return (
                "All kernels that lead to them lead to other neurons before, for which they were scaled."
                if layer.others
                else "No kernel of a stock layer (nnx.Conv, nnx.Linear, WSConv ...) leads to them that could be "
                "scaled: put one into a Synapse before them, or scale by hand what does."
            )
        now, twice = (self.measured(dict.fromkeys(layer.own, factor))[1][layer.path] for factor in (1.0, 2.0))
        if rate < self.rate and now == twice:
            return "Their current does not change with the kernels before them: no spike, and no input, reaches these."
        if rate < self.rate:
            return "A larger scale gives no more: look at the signs of their input, their bias and their threshold."
        return (
            "A smaller scale gives no fewer: look at their bias, which is not scaled, at their threshold, and at the "
            "number of neurons and steps, too few of which have no such rate."
        )


def _refuse_normalised(net: nnx.Module) -> None:
    for path, module in nnx.iter_modules(net):
        if isinstance(module, BatchNorm | nnx.BatchNorm) and not module.use_running_average:
            raise ValueError(
                f"scale_to_rate: the batch normalisation at '{join(path)}' is in training, where it gives its result "
                "the same deviation whatever the kernels are. Such a net needs no scaling; for other rates set the "
                "normalisation's own scale and bias, or call net.eval() before to scale what its running statistics "
                "let through."
            )


def _times(array: jax.Array, factor: float) -> jax.Array:
    return (array * factor).astype(array.dtype)


@functools.partial(jax.jit, static_argnums=(0, 4))
def _measured(graph: Graph, params: Any, rest: Any, x: Any, steps: int | None) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """(firing rates, standard deviations of the currents over all members, steps and neurons), by neurons' paths."""
    rule = inference_rule(graph.merge(params, rest))
    options: dict[str, Any] = {"keep": "last", "record": ("current",), "training": False}
    bound, task = make_task(graph, params, rest, rule, lambda output: 0.0, (), x, steps, **options)
    if rule.propagation.whole_sequence:
        run = loops.run_of_all(task, jnp.zeros(()), *loops.at_once(task, bound.params))
    else:
        run = loops.simulate(task, bound.params)
    return run.rates, jax.tree.map(jnp.std, run.records["current"])


def _layers(net: nnx.Module, x: Any, steps: int | None) -> list[_Layer]:
    """The layers of neurons in the order of their calls, each kernel with the first that it leads to."""
    kernels, synapses = _kernels(net)
    static = steps is not None
    length = steps if steps is not None else len(jax.tree.leaves(x)[0])
    taken: set[tuple[Any, ...]] = set()
    layers = []
    for path, weights in direct_weights(net, one_step(x, static), length, static).items():
        reached = [kernel for kernel in kernels if join(kernel) in weights]
        # What stands before the spiking part is scaled only where nothing else leads to the neurons.
        reached = [kernel for kernel in reached if kernel in synapses] or reached
        own = tuple(kernel for kernel in reached if kernel not in taken)
        layers.append(_Layer(path, own, len(own) < len(reached)))
        taken.update(own)
    return layers


def _kernels(net: nnx.Module) -> tuple[list[tuple[Any, ...]], set[tuple[Any, ...]]]:
    """The paths of what can be scaled, and which of them stand in synapses."""
    kernels, synapses = [], set()
    inside = [path for path, module in nnx.iter_modules(net) if isinstance(module, Synapse | DelayedLinear)]
    for path, module in nnx.iter_modules(net):
        if isinstance(module, STOCK | WSConv):
            kernels.append((*path, "gain" if isinstance(module, WSConv) else "kernel"))
            if any(path[: len(synapse)] == synapse for synapse in inside):
                synapses.add(kernels[-1])
    return kernels, synapses


def _least(measure: Callable[[float], tuple[float, float]]) -> float:
    """The factor at which a branch has `LEAST_PART` of the deviation of what it is added to.

    Var[a + c b] = Var[a] + 2c Cov[a, b] + c² Var[b], from c = 0, 1, 2.
    """
    none, one, two = (measure(factor)[1] ** 2 for factor in (0.0, 1.0, 2.0))
    of_branch = (two - 2 * one + none) / 2
    return LEAST_PART * math.sqrt(none / of_branch) if of_branch > 0 else 1.0


def _searched(measure: Callable[[float], float], rate: float, least: float | None) -> float:
    """A factor ≥ `least` for which the rate is near the one aimed at; the last one tried where there is none."""
    factor = 1.0 if least is None else least
    now = measure(factor)
    if abs(now / rate - 1) <= NEAR or (least is not None and now >= rate):
        return factor
    rises, step = now < rate, 4.0 if now < rate else 0.25
    low = high = factor
    while (now < rate) == rises and 1 / LARGEST < high < LARGEST:
        low, high = high, high * step
        now = measure(high)
    if (now < rate) == rises:
        return factor
    # From here on the rate lies between those of the two.
    for _ in range(12):
        middle = math.sqrt(low * high)
        now = measure(middle)
        if abs(now / rate - 1) <= NEAR:
            return middle
        low, high = (middle, high) if (now < rate) == rises else (low, middle)
    return math.sqrt(low * high)
