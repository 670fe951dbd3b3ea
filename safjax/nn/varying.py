"""What enters the spiking part of a net: arrays that change with time, and arrays that learned layers made."""

import dataclasses
from typing import Any

from flax import nnx

from safjax.dependence import Labels, Learned
from safjax.nn.entries import CHANGED, INPUT, READ, entries
from safjax.nn.module import Binding, SpikingModule
from safjax.nn.states import join, modules
from safjax.rules import Course, Rule


def discover_varying(net: nnx.Module, rule: Rule, course: Course, x: Any) -> None:
    """Tells each spiking module whether the arrays that enter it change with time, as the net's own input does or not.

    Refused is what changes with time where the rule goes layer by layer, so that the net would make it once for all
    steps; and what learned layers made where the rule sums it over time, which has a gradient only where it stays the
    same.
    """
    propagation = rule.propagation
    if not (propagation.whole_sequence or propagation.accumulates):
        return
    entered = entries(net, x, propagation.whole_sequence and not course.static)
    for path, module in modules(net):
        if not isinstance(module, SpikingModule) or join(path) not in entered:
            continue
        where, inputs = f"the {type(module).__name__} at '{join(path)}'", []
        for place, labels in sorted(entered[join(path)].items()):
            if propagation.whole_sequence:
                _refuse_made_anew(module.bound(), where, labels)
                continue
            varies = not labels.isdisjoint({CHANGED, READ} if course.static else {CHANGED, READ, INPUT})
            learned = sorted(label.name for label in labels if isinstance(label, Learned))
            own = course._replace(static=not varies) if learned or course.static else course
            if learned and not propagation.follows(own):
                _refuse_learned(module.bound(), where, labels, learned, own)
            inputs.append((place, own))
        module.binding = dataclasses.replace(module.bound(), inputs=tuple(inputs))


def _refuse_made_anew(binding: Binding, where: str, labels: Labels) -> None:
    if CHANGED in labels:
        binding.refuse(
            f"The rule '{binding.rule}' calls the net once for all time steps, but what reaches {where} is made anew "
            "by the net at every step (random numbers, a count of steps). Make it outside and give the net a sequence "
            "x[T, B, ...] without steps."
        )


def _refuse_learned(binding: Binding, where: str, labels: Labels, learned: list[str], course: Course) -> None:
    listed = ", ".join(f"'{name}'" for name in learned[:3]) + (" ..." if learned[3:] else "")
    if binding.propagation.per_weight:
        binding.refuse(
            f"The rule '{binding.rule}' keeps derivatives by the weights of a Synapse, which drive one neuron each, "
            f"but the array that enters {where} is made with the learned {listed}. Put what learns into a Synapse of "
            "its own with neurons behind it; what learns nothing may stay."
        )
        return
    if READ in labels:
        way_out = "Hand on what the readout was given, in place of its result"
    else:
        way_out = (
            "Put what learns into a Synapse, which must be affine (an nnx.Conv or nnx.Linear; neurons in place of "
            "ReLU); what learns nothing, functions and an nnx.Variable in place of an nnx.Param, may stay before it"
        )
    from_input = INPUT in labels and CHANGED not in labels and READ not in labels
    if from_input and not course.static and binding.propagation.follows(course._replace(static=True)):
        way_out += ". One image for all steps may be given as x[B, ...] with steps=T, which needs no such sum"
    binding.refuse(
        f"The rule '{binding.rule}' sums over time the array that enters {where}. It {_how(course)} with the learned "
        f"{listed}, for which a sum of its values has no gradient. {way_out}."
    )


def _how(course: Course) -> str:
    return "is made" if course.static else "changes with time, and is made"
