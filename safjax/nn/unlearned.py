"""Numbers that a rule gives no gradient, or a part of it, though they are to be learned."""

from collections.abc import Iterator
from typing import Any

from flax import nnx

from safjax.neurons import AfterDecay, ResetTo
from safjax.nn.module import SpikingModule
from safjax.nn.neurons import Neuron
from safjax.nn.refusing import Refusals
from safjax.nn.states import flat, join, modules
from safjax.rules import Rule


def refuse_unlearned(net: nnx.Module, rule: Rule, refusals: Refusals) -> None:
    """Refuses what neurons learn where weights alone have a gradient, or the next step takes the state for constant."""
    if not rule.propagation.learns_neurons:
        _refuse_neurons(net, rule, refusals)
    if rule.schedule.sees_all_steps or rule.propagation.accumulates or rule.propagation.whole_sequence:
        return
    for path, module in modules(net):
        for name, number, effect in _carried(module):
            if isinstance(number, nnx.Param):
                refusals.refuse(
                    join(path),
                    f"{type(module).__name__} at '{join(path)}' learns '{name}', but the rule '{rule.name}' takes the "
                    f"state of a step for a constant of the next one, {effect}. Hold the number in an nnx.Variable, "
                    "which is not learned.",
                )


def _refuse_neurons(net: nnx.Module, rule: Rule, refusals: Refusals) -> None:
    for path, module in modules(net):
        # What a surrogate learns is refused with the neurons' cell.
        own = flat(nnx.state(module, nnx.Param)) if isinstance(module, Neuron) else {}
        for name in own:
            if name[0] != "surrogate":
                refusals.refuse(
                    join(path),
                    f"{type(module).__name__} at '{join(path)}' learns '{join(name)}', but the rule '{rule.name}' is "
                    "defined for the weights of synapses only. Hold the number in an nnx.Variable, which is not "
                    "learned.",
                )


def _carried(module: Any) -> Iterator[tuple[str, Any, str]]:
    """(name, value, what follows) of a module's numbers that act on the state of the next step."""
    if not isinstance(module, SpikingModule):
        return
    for name in module.carried:
        number = getattr(module, name)
        number = number.value if isinstance(number, ResetTo) else number
        yield name, number, "and this number acts on that alone: it would never change"
    if isinstance(getattr(module, "reset", None), AfterDecay):
        yield (
            "decay",
            getattr(module, "decay", None),
            "in which this reset divides by it: a part of its gradient is lost",
        )
