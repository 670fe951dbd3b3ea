"""From a net to a NIR graph."""

import warnings
from typing import Any

import numpy as np
from flax import nnx

from safjax.nir.arrays import first
from safjax.nir.delays import place_delays, resolve_kept
from safjax.nir.drawing import INPUT, OUTPUT, Drawing, Wire, refused
from safjax.nir.drawn import Drawn, draw_delay
from safjax.nir.library import library
from safjax.nir.scales import fold_scales
from safjax.nir.synapses import draw_joined
from safjax.nn import (
    AxonalDelay,
    BatchNorm,
    Delay,
    Dropout,
    InstantReadout,
    LeakyReadout,
    Neuron,
    NormalisedLIF,
    Recurrent,
    Synapse,
    fold_batch_norms,
)
from safjax.nn.bound import Bound
from safjax.nn.module import Bindable, Binding
from safjax.nn.refusing import Refusals
from safjax.nn.shapes import reading
from safjax.nn.states import join
from safjax.nn.task import check_call, one_step
from safjax.nn.verdicts import Trial, bound_to
from safjax.rules import bptt

LAYERS = (Synapse, Delay, Recurrent, LeakyReadout, InstantReadout, Dropout, AxonalDelay, BatchNorm)


class ResetLost(UserWarning):
    """NIR has no field for the reset of a net's neurons, and other libraries will compute another one."""


def to_nir(net: nnx.Module, x: Any, dt: float, steps: int | None = None, *, gain: str | None = None) -> Any:
    """A net as a `nir.NIRGraph`, for `nir.write` and for other libraries.

        graph = safjax.nir.to_nir(net, x, dt=1e-4)
        nir.write("net.nir", graph)

    What `from_nir` makes of it computes what `safjax.predict` computes. The net is written as it is in evaluation:
    without dropout, with batch normalisations folded (`fold_batch_norms`) and standardised kernels as they act, learned
    numbers as they act within their bounds. The pairings of neurons are those of `safjax.nir.cells`, in float64.
    Shapes have channels first, and weights behind a flattening are permuted to that order. A function in a synapse is
    written by what it does: it may scale, flatten, pool, or make a flat vector by any affine map.

    NIR knows one reset, to a value. A reset that subtracts, the default of safjax, goes into the metadata, where
    `from_nir` finds it and others do not look: snnTorch, norse and SpikingJelly reset such neurons to 0, and a warning
    says so. A net that computes alike everywhere is one of `reset=ResetTo(0.0)`, or `reset=None`, which is written as a
    membrane with a threshold behind it. All neurons here fire at u ≥ θ, those of most others at u > θ.

    Args:
      net: a spiking net; left unchanged.
      x, steps: an input as of `safjax.predict`, of which only the shape matters: a sequence x[T, B, ...], or an image
        x[B, ...] with `steps`.
      dt: the time step in seconds; time constants are multiples of it. snnTorch reads files of dt=1e-4 only.
      gain: "membrane" writes r = τ/dt and leaves weights as they are, for snnTorch, SpikingJelly, Spyx and sinabs;
        "current" writes r = 1 and divides the weights before neurons by 1 − λ, for norse and lava, which read no other.
        None takes "current" for neurons of `decay_input`, else "membrane".

    Raises:
      ImportError: the package nir is not installed.
      TypeError, ValueError: net, x or an argument is none; a layer, by its path, that NIR has no node for.

    Warns:
      ResetLost: neurons have a reset that only metadata hold.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> import safjax.nir
      >>> from flax import nnx
      >>> from safjax.nn import LIF, InstantReadout, ResetTo, Synapse
      >>> synapse = Synapse(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
      >>> net, x = nnx.Sequential(synapse, LIF(0.9, reset=ResetTo(0.0)), InstantReadout()), jnp.ones((20, 1, 3))
      >>> graph = safjax.nir.to_nir(net, x, dt=1e-4)
      >>> [type(node).__name__ for node in graph.nodes.values()]
      ['Input', 'Affine', 'LIF', 'Output']
      >>> again = safjax.nir.from_nir(graph)
      >>> bool(jnp.all(safjax.predict(again, x) == safjax.predict(net, x)))
      True
    """
    nir = library()
    if isinstance(dt, bool | str) or not 0 < float(dt) < float("inf"):
        raise ValueError(f"to_nir(dt={dt!r}): expected a time step above 0, in seconds, such as 1e-4.")
    if gain not in (None, "membrane", "current"):
        raise ValueError(f"to_nir(gain={gain!r}): expected 'membrane', 'current' or None.")
    check_call(net, x, steps, bptt(), None)
    net = _evaluated(net)
    bound, net, shape = _bound(net, x, steps)
    _refuse_states(bound)
    drawing = Drawing(nir, float(dt), gain, draw_joined)
    _bind(net, drawing, bound)
    batch, *example = shape
    result = net(Wire(drawing, ((INPUT, 0),), tuple(example), batch))
    if not isinstance(result, Wire):
        raise ValueError(
            f"to_nir: the net returned a {type(result).__name__}, but a graph has one output: return what one "
            "readout, or one layer of neurons, returns."
        )
    result = drawing.straight(OUTPUT, result)
    drawing.shapes[INPUT] = first(tuple(example))
    drawing.edges.update({(source, OUTPUT): lag for source, lag in result.sources})
    fold_scales(drawing)
    resolve_kept(drawing)
    place_delays(drawing)
    _warn(drawing)
    return _graph(drawing, result)


def _evaluated(net: nnx.Module) -> nnx.Module:
    """A copy of the net without dropout and normalisations.

    Raises:
      ValueError: a layer that NIR has nothing for; a normalisation that cannot be folded.
    """
    net = nnx.clone(net)
    net.eval()
    for path, module in nnx.iter_modules(net):
        if isinstance(module, Bindable) and type(module) not in LAYERS and not isinstance(module, Neuron):
            raise refused(join(path), f"is a {type(module).__name__}, for which NIR has no node.")
        if not getattr(module, "stepwise", True):
            raise refused(
                join(path), f"is a {type(module).__name__}, which looks at all steps at once; NIR's nodes do not."
            )
    norms = (BatchNorm, nnx.BatchNorm, NormalisedLIF)
    return fold_batch_norms(net) if any(isinstance(module, norms) for _, module in nnx.iter_modules(net)) else net


def _bound(net: nnx.Module, x: Any, steps: int | None) -> tuple[Bound, nnx.Module, tuple[int, ...]]:
    """(the net bound to plain simulation, the copy that was bound, the shape of a step): it fits x, and delays do."""
    one = one_step(x, steps is not None)
    if not hasattr(one, "shape"):
        raise TypeError("to_nir: x holds several arrays, but a graph has one input. Write the net's parts, one by one.")
    copies = []

    def made() -> nnx.Module:
        copies.append(nnx.clone(net))
        return copies[-1]

    trial = Trial(made, one, 1, False, going_on=True)
    return bound_to(trial, bptt(), reading(x, steps)), copies[-1], tuple(one.shape)


def _refuse_states(bound: Bound) -> None:
    """Layers of one's own that change with time, and maps over layers."""
    for path in bound.changing:
        raise refused(join(path), "changes from step to step, but NIR's nodes between neurons do not.")
    for path in bound.stacked:
        raise refused(
            path,
            "is one of several layers that stand in one, stacked by nnx.vmap or nnx.scan. Write them one "
            "by one, in an nnx.List.",
        )


def _bind(net: nnx.Module, drawing: Drawing, bound: Bound) -> None:
    """Binds every layer to a propagation that draws it."""
    for path, module in nnx.iter_modules(net):
        if not isinstance(module, Bindable):
            continue
        where = join(path)
        drawn = Drawn(drawing=drawing, path=where, layer=module)
        module.binding = Binding("to_nir", drawn, bound.course, where, (), None, Refusals())
        if isinstance(module, AxonalDelay):
            # What it does with steps of arrays, a wire cannot do.
            vars(module)["over_past"] = lambda message, _, p=where, m=module: draw_delay(drawing, p, m, message)


def _warn(drawing: Drawing) -> None:
    if drawing.subtracting:
        listed = ", ".join(f"'{path}'" for path in drawing.subtracting)
        warnings.warn(
            f"to_nir: what a spike subtracts at {listed} stands in the graph's metadata only. Other libraries reset "
            "these neurons to 0. Train with reset=ResetTo(0.0), from safjax.nn, for a net that computes alike "
            "everywhere.",
            ResetLost,
            stacklevel=3,
        )


def _graph(drawing: Drawing, result: Wire) -> Any:
    nir, metadata = drawing.nir, {"dt": drawing.dt, "writer": "safjax"}
    nodes = {
        INPUT: nir.Input({"input": np.array(drawing.shapes[INPUT])}),
        **drawing.nodes,
        OUTPUT: nir.Output({"output": np.array(first(result.shape))}),
    }
    order = {name: i for i, name in enumerate(nodes)}
    edges = sorted(drawing.edges, key=lambda edge: (order[edge[0]], order[edge[1]]))
    # NIR's own check infers the shapes of non-square and grouped convolutions wrongly.
    return nir.NIRGraph(nodes, edges, metadata=metadata, type_check=False)
