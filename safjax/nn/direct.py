"""Which weights the current of a layer of neurons hangs on directly, not by way of other neurons."""

import dataclasses
from typing import Any

import jax
from flax import nnx

from safjax.dependence import Labels, Learned, follow
from safjax.neurons.recording import Pick
from safjax.nn.binding import bind
from safjax.nn.inference import inference_rule
from safjax.nn.states import flat, join
from safjax.rules import Rule
from safjax.rules.propagation import Fired
from safjax.rules.sequences import SequencePropagation
from safjax.rules.spikes import SpikePropagation
from safjax.schedules import WholeSequence


def _cut(fired: Fired) -> Fired:
    """The same spikes, which depend on nothing that is differentiated."""
    return fired._replace(message=jax.lax.stop_gradient(fired.message))


@dataclasses.dataclass(frozen=True)
class _CutStep(SpikePropagation):
    """Step by step; no derivative passes a neuron."""

    def neuron(self, state: Any, current: Any, cell: Any, pick: Pick | None = None) -> Fired:
        return _cut(super().neuron(state, current, cell, pick))


@dataclasses.dataclass(frozen=True)
class _CutSequence(SequencePropagation):
    """Layer by layer; no derivative passes a neuron."""

    def neuron(self, state: Any, current: Any, cell: Any, pick: Pick | None = None) -> Fired:
        return _cut(super().neuron(state, current, cell, pick))


def direct_weights(net: nnx.Module, x: Any, steps: int, static: bool) -> dict[str, frozenset[str]]:
    """{path of a layer of neurons: the parameters, by their paths, that its current hangs on directly}.

    In the order in which a step calls the neurons.

    Args:
      net: a copy, which is changed.
      x: one step's input, arrays or shapes.
      steps: T.
      static: whether all inputs are one.

    Raises:
      ValueError: a map over layers has stacked neurons, which have one path.
    """
    whole = inference_rule(net).propagation.whole_sequence
    rule = Rule("inference", _CutSequence() if whole else _CutStep(), WholeSequence())
    bound = bind(net, rule, x, steps, static, ("current",))
    if bound.stacked:
        raise ValueError(
            f"The neurons at '{bound.stacked[0]}' are several layers, stacked by nnx.vmap, and cannot be told apart. "
            "Write these layers one by one, in an nnx.List."
        )
    params = flat(bound.params)
    if whole and not static:
        x = jax.tree.map(lambda a: jax.ShapeDtypeStruct((steps * len(a), *a.shape[1:]), a.dtype), x)

    def currents(leaves: list[Any], carry: Any, x: Any) -> dict[Any, Any]:
        params = nnx.from_flat_state(dict(zip(params_of, leaves, strict=True)))
        return bound.step(params, bound.constants, carry, x)[2].records["current"]

    params_of, carry = list(params), (bound.at_rest(bound.params), bound.changing)
    closed, shapes = jax.make_jaxpr(currents, return_shape=True)(list(params.values()), carry, x)
    labels = [Labels({Learned(join(path))}) for path in params_of]
    labels += [Labels()] * (len(closed.jaxpr.invars) - len(labels))
    results = follow(closed.jaxpr, labels, lambda *_: Labels())
    found = dict(zip(sorted(shapes), results, strict=True))
    return {
        path: frozenset(label.name for label in found[path] if isinstance(label, Learned))
        for path in bound.order
        if path in found
    }
