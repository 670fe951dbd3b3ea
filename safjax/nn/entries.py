"""Finding out what the plain arrays depend on that enter a net's spiking part."""

import dataclasses
from typing import Any

import jax
from flax import nnx
from jax.extend import core

from safjax.dependence import EFFECT, Labels, Learned, follow
from safjax.nn.layer_loops import explained_loops
from safjax.nn.module import ENTERS, READ_OUT, Bindable, Discovery, NeuronState, Observation
from safjax.nn.states import flat, join, modules, split

INPUT, CHANGED, READ = "input", "changed", "read"
"""What an array may depend on, besides `Learned` parameters: the net's input, a variable that the net changes, or the
result of a readout."""


def entries(net: nnx.Module, x: Any, whole: bool) -> dict[str, dict[int, Labels]]:
    """{path of a spiking module: {place among its inputs: what the plain array that enters there depends on}}.

    Args:
      net: a bound net.
      x: one step's input; of all steps, `whole`, if random numbers for it are those of every step.
      whole: whether x is a sequence, with time in its batch.
    """
    graphdef, params, states, random, rest = split(net, nnx.Param, NeuronState, nnx.RngState)
    before = [flat(state) for state in (rest, random, params)]

    def run(values: list[list[Any]], x: Any) -> list[list[Any]]:
        merged = (nnx.from_flat_state(dict(zip(b, v, strict=True))) for b, v in zip(before, values, strict=True))
        net_of_step = nnx.merge(graphdef, states, *merged, copy=True)
        name_entries(net_of_step)
        with explained_loops():
            net_of_step(x)
        nnx.pop(net_of_step, Observation)
        after = flat(split(net_of_step, nnx.Param, NeuronState)[3])
        return [[after[path] for path in b] for b in before[:2]]

    values = [list(b.values()) for b in before]
    jaxpr = jax.make_jaxpr(run)(values, x).jaxpr
    of_rest, of_random, _ = (len(jax.tree.leaves(v)) for v in values)
    labels = [Labels({CHANGED}) if a is not b else Labels() for a, b in zip(jaxpr.invars, jaxpr.outvars, strict=False)]
    if whole:
        # Of a sequence with time in its batch every step draws its own random numbers.
        labels[of_rest:] = [Labels()] * of_random
    for path, value in before[2].items():
        labels += [Labels({Learned(join(path))})] * len(jax.tree.leaves(value))
    labels += [Labels({INPUT})] * len(jax.tree.leaves(x))
    return _entered(jaxpr, labels)


def name_entries(net: nnx.Module) -> None:
    """Lets a bound net's program name what enters spiking modules and leaves readouts."""
    # A value of its own: what a compiled function inside the net made of other ones is not taken from its cache.
    discovery = Discovery(naming=True)
    for _, module in modules(net):
        if isinstance(module, Bindable):
            module.binding = dataclasses.replace(module.bound(), discovering=discovery)


def _entered(jaxpr: core.Jaxpr, labels: list[Labels]) -> dict[str, dict[int, Labels]]:
    found: dict[str, dict[int, Labels]] = {}

    def look(name: str, labels: Labels) -> Labels:
        if name.startswith(ENTERS):
            place, _, path = name.removeprefix(ENTERS).partition(" ")
            inputs = found.setdefault(path, {})
            inputs[int(place)] = inputs.get(int(place), Labels()) | labels
        return Labels({READ}) if name.startswith(READ_OUT) else Labels()

    while True:
        # What the net keeps for the next step hands on what it was made of.
        after = follow(jaxpr, labels, look)
        later = [a | b if CHANGED in a else a for a, b in zip(labels, after, strict=False)] + labels[len(after) :]
        if later == labels:
            return {path: {i: _named(labels) for i, labels in inputs.items()} for path, inputs in found.items()}
        labels = later


def _named(labels: Labels) -> Labels:
    return Labels(CHANGED if label == EFFECT else label for label in labels)
