"""The kinds of neurons and the rules that may train them: nets of every kind, and what must be refused."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from safjax import rules
from safjax.nn import (
    ALIF,
    IF,
    LIF,
    PLIF,
    PSN,
    SPSN,
    AfterDecay,
    CurrentLIF,
    Delay,
    DynamicThresholdLIF,
    LeakyReadout,
    Recurrent,
    Refractory,
    ResetTo,
    SlidingPSN,
    Synapse,
)
from tests import nets

STEPS, DECAY, UNITS = 12, 0.7, 10

RULES = {**{name: make() for name, make in rules.RULES.items()}, "bptt, layerwise": rules.bptt(layerwise=True)}
RULES["rate_backprop, layerwise"] = rules.rate_backprop(layerwise=True)
ACCUMULATE = [name for name, rule in RULES.items() if rule.propagation.accumulates]
PER_WEIGHT = [name for name, rule in RULES.items() if rule.propagation.per_weight]
LAYERWISE = [name for name, rule in RULES.items() if rule.propagation.whole_sequence]
CLAMPED = [name for name in ACCUMULATE if RULES[name].propagation == rules.spike_representation().propagation]
MEANS = [name for name, rule in RULES.items() if rule.schedule.of_mean_output]
"""Rules that differentiate means over time, which have one at the end of a sequence."""
STEPWISE = [name for name in RULES if name not in LAYERWISE]


def strong(psn):
    """Weights and bias at which it fires in a small net."""
    psn.weight[...], psn.bias[...] = 4 * psn.weight[...], psn.bias[...] + 0.5
    return psn


def param(value):
    return nnx.Param(jnp.asarray(value, jnp.float64))


NEURONS = {
    "LIF": lambda: LIF(DECAY),
    "LIF, learned threshold": lambda: LIF(DECAY, param(np.linspace(0.8, 1.2, UNITS))),
    "LIF, several spikes of learned height": lambda: LIF(DECAY, param(1.1), reset=0.9, max_spikes=2, scaled=True),
    "LIF, floor": lambda: LIF(DECAY, floor=-0.5),
    "PLIF": lambda: PLIF(DECAY, param_dtype=jnp.float64),
    "CurrentLIF": lambda: CurrentLIF(0.4, DECAY, 1.5),
    "ALIF": lambda: ALIF(DECAY),
    "PSN": lambda: strong(PSN(STEPS, param_dtype=jnp.float64, rngs=nnx.Rngs(0))),
    "masked PSN": lambda: strong(PSN(STEPS, 4, param_dtype=jnp.float64, rngs=nnx.Rngs(0))),
    "SlidingPSN": lambda: SlidingPSN(4, param_dtype=jnp.float64),
    "SPSN": lambda: SPSN(0.5, param(0.6), rngs=nnx.Rngs(0)),
    "IF": lambda: IF(),
    "LIF, set to a learned value": lambda: LIF(DECAY, param(1.1), reset=ResetTo(param(np.linspace(-0.2, 0.2, UNITS)))),
    "LIF, no reset": lambda: LIF(DECAY, param(1.4), reset=None),
    "LIF, decayed input": lambda: LIF(DECAY, param(0.3), decay_input=True),
    "PLIF, decayed input": lambda: PLIF(DECAY, 0.3, param_dtype=jnp.float64, decay_input=True),
    "PLIF, reset after the decay": lambda: PLIF(DECAY, param_dtype=jnp.float64, reset=AfterDecay(0.7)),
    "CurrentLIF, set to zero, decayed input": lambda: CurrentLIF(
        0.4, param(DECAY), 0.45, reset=ResetTo(0.0), decay_input=True
    ),
    "ALIF, set to zero": lambda: ALIF(DECAY, reset=ResetTo(0.0)),
    "refractory LIF, set to zero": lambda: Refractory(LIF(DECAY, param(0.8), reset=ResetTo(0.0)), 2),
    "dynamic threshold": lambda: DynamicThresholdLIF(DECAY, over="sample"),
    "refractory ALIF, integrating": lambda: Refractory(ALIF(DECAY, param(0.8), raised_reset=True), 1, integrate=True),
}


def excited(inputs, rngs):
    dense = nets._dense(inputs, UNITS, rngs)
    dense.bias[...] += 0.3
    return dense


class Branch(nnx.Module):
    """Two layers of one kind of neuron with a skip over the second; recurrent or with feedback if asked for."""

    def __init__(self, make, topology, rngs):
        self.one, self.two = make(), make()
        if "recurrent" in topology:
            self.one = Recurrent(self.one, Synapse(nets._dense(UNITS, UNITS, rngs)))
        self.first, self.second = (Synapse(excited(n, rngs)) for n in (7, UNITS))
        self.last, self.skip = (Synapse(nets._dense(UNITS, nets.CLASSES, rngs)) for _ in range(2))
        self.delay = Delay() if "feedback" in topology else None
        self.back = Synapse(nets._dense(UNITS, UNITS, rngs)) if "feedback" in topology else None

    def __call__(self, x):
        current = self.first(x)
        if self.delay is not None:
            current = current + 0.5 * self.back(self.delay.recall())
        one = self.one(current)
        two = self.two(self.second(one))
        if self.delay is not None:
            self.delay.keep(two)
        return self.last(two) + self.skip(one)


class Net(nnx.Module):
    """Branches of several kinds side by side."""

    def __init__(self, kinds, topology):
        rngs = nnx.Rngs(1)
        self.branches = nnx.Dict({str(i): Branch(NEURONS[kind], topology, rngs) for i, kind in enumerate(kinds)})
        self.readout = LeakyReadout(1.0 if kinds == ["IF"] else DECAY)

    def __call__(self, x):
        currents = [branch(x) for branch in self.branches.values()]
        total = currents[0]
        for current in currents[1:]:
            total = total + current
        return self.readout((1 / len(currents)) * total)


class Resting(nnx.Module):
    """Neurons with a refractory period, held and integrating: not in closed form."""

    def __init__(self):
        rngs = nnx.Rngs(3)
        self.first, self.held = Synapse(nets._dense(7, 12, rngs)), Refractory(LIF(0.6, 0.6, reset=ResetTo(0.0)), 2)
        self.second, self.integrating = Synapse(nets._dense(12, 9, rngs)), Refractory(LIF(0.6, 0.3), 1, integrate=True)
        self.last, self.readout = Synapse(nets._dense(9, nets.CLASSES, rngs)), LeakyReadout()

    def __call__(self, x):
        return self.readout(self.last(self.integrating(self.second(self.held(self.first(x))))))


def mean_refusal(kind, topology):
    """Of rules that differentiate means over time."""
    if topology != "feed-forward":
        return "over all time steps.* but the Delay at .* feeds"
    others = ("CurrentLIF", "ALIF", "PSN", "Sliding", "SPSN", "refractory", "dynamic")
    return "is defined for LIF and IF neurons" if any(other in kind for other in others) else None


def event_refusal(kind, topology):
    """Of the rule of spike times."""
    loop = "over all time steps.* but the Delay at .* feeds"
    if jax.tree.leaves(nnx.state(NEURONS[kind](), nnx.Param)):
        return f"learns '.*weights of synapses only|needs membranes that rise|{loop}"
    if topology != "feed-forward":
        return loop
    return None if kind == "CurrentLIF" else "needs membranes that rise to their threshold with a slope"


def per_weight_refusal(rule, kind):
    """Of rules that keep a derivative for each weight: neurons that remember by themselves."""
    if not RULES[rule].propagation.one_decay:
        unknown = "PSN" in kind or kind == "dynamic threshold"
        return "keeps the derivatives of each neuron's own memory" if unknown else None
    if "PLIF" in kind or kind.startswith("CurrentLIF, set"):
        return "one constant decay for the whole net"
    if kind.startswith("ALIF"):
        return "one decay for the whole net|in the next membrane by its decay"
    others = ("CurrentLIF", "PSN", "refractory", "dynamic")
    return "in the next membrane by its decay" if any(other in kind for other in others) else None


def refusal(rule, kind, topology):
    """What the error must say where a cell is refused; None where it trains."""
    if kind in ("PSN", "masked PSN", "SPSN") and topology != "feed-forward":
        return "look at all steps of a sequence at once, but the Delay at"
    if rule in MEANS:
        return mean_refusal(kind, topology)
    if rule == "eventprop":
        return event_refusal(kind, topology)
    if rule in LAYERWISE and topology != "feed-forward":
        return "Delay at .* feeds a later layer's spikes of one step back into the next"
    if rule in LAYERWISE:
        others = ("ALIF", "refractory", "dynamic")
        closed = getattr(RULES[rule].propagation, "closed_form", False) and any(other in kind for other in others)
        return "has its gradient in closed form for LIF, IF, PLIF and CurrentLIF" if closed else None
    if rule in PER_WEIGHT:
        return per_weight_refusal(rule, kind)
    if not RULES[rule].propagation.learns_neurons and jax.tree.leaves(nnx.state(NEURONS[kind](), nnx.Param)):
        return "learns '.*weights of synapses only"
    if rule in ACCUMULATE and not RULES[rule].propagation.one_decay:
        return "a trace of the slope of each neuron by itself" if kind == "dynamic threshold" else None
    if rule in ACCUMULATE:
        return {
            "LIF, floor": "a membrane with a floor forgets.*floor=None",
            "LIF, set to a learned value": r"a membrane that spikes set to a value forgets.*write reset=1\.0",
            "LIF, no reset": r"without reset they subtract nothing; write reset=1\.0" if rule in CLAMPED else None,
            "PLIF": "one constant decay for the whole net",
            "PLIF, decayed input": "one constant decay for the whole net",
            "PLIF, reset after the decay": "one constant decay for the whole net",
            "CurrentLIF": "the whole memory of LIF and IF neurons only",
            "CurrentLIF, set to zero, decayed input": "one constant decay for the whole net",
            "ALIF": "one decay for the whole net|the whole memory of LIF and IF neurons only",
            "ALIF, set to zero": "the whole memory of LIF and IF neurons only",
            "refractory LIF, set to zero": "Refractory at .* the whole memory of LIF and IF neurons only",
            "refractory ALIF, integrating": "Refractory at .* the whole memory of LIF and IF neurons only",
            "PSN": "the whole memory of LIF and IF neurons only",
            "masked PSN": "the whole memory of LIF and IF neurons only",
            "SlidingPSN": "the whole memory of LIF and IF neurons only",
            "SPSN": "the whole memory of LIF and IF neurons only",
            "dynamic threshold": "the whole memory of LIF and IF neurons only",
        }.get(kind)
    if rule == "sltt" and kind == "LIF, set to a learned value":
        return "learns 'reset'.*it would never change.*nnx.Variable"
    if rule == "sltt" and kind == "PLIF, reset after the decay":
        return "learns 'decay'.*a part of its gradient is lost.*nnx.Variable"
    if kind in ("PSN", "masked PSN", "SPSN"):
        return "these neurons look at all steps at once; they are trained by rules that go layer by layer"
    return None


def inputs():
    return jnp.asarray(np.random.default_rng(0).normal(0.3, 1.0, (STEPS, nets.BATCH, 7)))
