"""Running statistics of layers, and the refusal of those that would mean something else under every rule."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax.extend import core

from safjax.hoist import dependents
from safjax.nn.layout import entries
from safjax.nn.refusing import Refusals
from safjax.nn.states import flat, join, modules


class RunningStatistic(nnx.BatchStat[Any]):
    """A batch statistic of a layer that knows which steps it is given, and moves it alike under every rule."""


def is_unnamed(path: Any, variable: Any) -> bool:
    """Whether a variable is a batch statistic of a layer that does not know which steps it is given."""
    del path
    return isinstance(variable, nnx.BatchStat) and not isinstance(variable, RunningStatistic)


def refuse_unnamed(net: nnx.Module, changing: set[Any], rule: str, refusals: Refusals) -> None:
    """Refuses layers that change an `nnx.BatchStat` not knowing of time."""
    refused = set()
    layers = dict(modules(net))
    for path, variable in flat(nnx.state(net, nnx.BatchStat)).items():
        if path not in changing or not is_unnamed(path, variable):
            continue
        at = next(path[:n] for n in range(len(path) - 1, -1, -1) if path[:n] in layers)
        if at in refused:
            continue
        refused.add(at)
        kind = type(layers[at])
        refusals.refuse(
            join(at),
            f"The {kind.__module__.partition('.')[0]} layer {kind.__name__} at '{join(at)}' changes its statistics "
            f"'{join(path[len(at) :])}' when called, and does not know of time. Under rules that go step by step they "
            "would be those of one step, changed T times; layer by layer, where time is folded into the batch, those "
            f"of all steps, changed once. {_replacements(layers[at])} net.eval() before training keeps them as they "
            f"are, under '{rule}' as under every rule.",
        )


def _replacements(layer: Any) -> str:
    if not isinstance(layer, nnx.BatchNorm):
        return "Change them outside of the net, or use safjax.nn.BatchNorm or safjax.nn.WSConv in its place."
    return (
        f"Write safjax.nn.BatchNorm({layer.num_features}, over='step') for the statistics of each step, under bptt(), "
        f"sltt() and layer by layer, or safjax.nn.BatchNorm({layer.num_features}, over='time') for those of all steps, "
        "under exodus(), slayer() and bptt(layerwise=True)."
    )


def refuse_later_steps(
    step: Callable[..., Any], changing: Any, x: Any, static: bool, rule: str, refusals: Refusals
) -> None:
    """Refuses, step by step, layers that need the statistics of all steps of an input that changes with time.

    Args:
      step: (changing, x[t]) ↦ anything, one step of the net.
      changing: all that changes from step to step.
      x: one step's input, arrays or shapes.
      static: whether it is the same at every step.
      rule: the rule's name.
      refusals: where they are refused.
    """
    seen: list[list[Any]] = []

    def entered(changing: Any, x: Any) -> list[Any]:
        with entries() as found:
            step(changing, x)
        seen.append([path for path, _ in found])
        return [array for _, array in found]

    jaxpr = jax.make_jaxpr(entered)(changing, x).jaxpr
    count = len(jax.tree.leaves(changing)) if static else len(jaxpr.invars)
    varying = dependents(jaxpr, jaxpr.invars[:count])
    for path, variable in zip(seen[0], jaxpr.outvars, strict=True):
        if not isinstance(variable, core.Literal) and variable in varying:
            refusals.refuse(
                path,
                f"BatchNorm(over='time') at '{path}' normalises by the statistics of all time steps, but the rule "
                f"'{rule}' goes step by step, and what reaches the layer changes with time: those of later steps are "
                "unknown. Write over='step' for the statistics of each step, or call net.eval() before to keep the "
                "running statistics as they are.",
            )


def refuse_padding(net: nnx.Module, changing: set[Any], refusals: Refusals) -> None:
    """Refuses layers that would take statistics of what stands in the padding of a batch."""
    for path, _ in flat(nnx.state(net, nnx.BatchStat)).items():
        if path in changing:
            refusals.refuse(
                join(path[:-1]),
                f"The layer at '{join(path[:-1])}' is in training, where it takes the statistics of the batch, and "
                "with lengths a part of the batch is padding, which would count. Call net.eval() before to train with "
                "its running statistics as they are, use weight standardisation (safjax.nn.WSConv) in its "
                "place, or give the net sequences of one length, without lengths.",
            )
