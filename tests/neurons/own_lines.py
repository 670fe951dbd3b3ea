"""The neurons that `tests.neurons.own_cells` writes, by the equations of their libraries, and those that none here is.

The table of `tests.neurons.other_libraries` goes on; `WITHOUT` is the rest, and why.
"""

from math import e, log

import numpy as np

from safjax.nn import Refractory
from tests.neurons import own_cells as own
from tests.neurons.other_libraries import ALPHA, BETA, KAPPA, SINABS, THETA, Line
from tests.neurons.own_cells import JUMP, RATE, RESTED, SHARPNESS, SUBTHRESHOLD, Own


def positive(x):
    return x * (x > 0)


def stepping(*rest):
    """Of one step, (state, x, spike, constant) ↦ (state, spikes), the sequence from a state of these numbers."""

    def over_time(step):
        def run(xs, spike, constant):
            state, spikes = tuple(number + 0 * xs[0] for number in rest), []
            for x in xs:
                state, s = step(state, x, spike, constant)
                spikes.append(s)
            return spikes

        return run

    return over_time


def alpha(subtract):
    """snnTorch's `Alpha(alpha=BETA, beta=ALPHA)`."""
    tau_alpha = log(BETA) / (log(ALPHA) - log(BETA)) + 1

    @stepping(0.0, 0.0, 0.0)
    def run(state, x, spike, constant):
        syn_exc, syn_inh, mem = state
        reset = constant(spike(mem - THETA))
        exc, inh = BETA * syn_exc + x, ALPHA * syn_inh - x
        less = (THETA, ALPHA * syn_inh - x, -syn_inh) if subtract else (exc, inh, tau_alpha * (exc + inh))
        mem = tau_alpha * (exc + inh) - less[2] * reset
        return (exc - less[0] * reset, inh - less[1] * reset, mem), spike(mem - THETA)

    return run


@stepping(0.0)
def delta_leaky(state, x, spike, constant):
    mem = BETA * state[0] + x
    moved = mem - state[0]
    return (mem,), spike(positive(moved) + positive(-moved) - THETA)


@stepping(0.0)
def leaky_parallel(state, x, spike, constant):
    mem = positive(x + BETA * state[0])
    return (mem,), spike(mem - THETA)


def lif_adex(adaptation_current, adaptation_spike, rho_reset=0):
    @stepping(0.0, 0.0, 0.0, 0.0)
    def run(state, x, spike, constant):
        v, i, a, rho = state
        i = i + x
        decayed = v + RATE * (-v + SHARPNESS * e ** ((v - THETA) / SHARPNESS) + i - a)
        z = spike(decayed - THETA)
        a = a + (1 - KAPPA) * (adaptation_current * v - a) + z * adaptation_spike
        # There the count is differentiated by the surrogate too, here it is a constant.
        mask = (rho > 0) * 1.0
        after, z = (1 - mask) * (1 - z) * decayed + mask * v, (1 - mask) * z
        return (after, ALPHA * i, a, constant((1 - z) * (rho - mask) + z * rho_reset)), z

    return run


@stepping(-70.0, -14.0)
def izhikevich(state, x, spike, constant):
    v, u = state
    v_, u_ = v + 0.25 * (0.04 * v**2 + 5 * v + 140 - u + x), u + 0.25 * 0.02 * (0.2 * v - u)
    z = spike(v_ - 30)
    return ((1 - z) * v_ - 65 * z, (1 - z) * u_ + z * (u_ + 6)), z


@stepping(0.0, 0.0, THETA)
def lsnn(state, x, spike, constant):
    v, i, b = state
    v, b = v + RATE * (-v + i), b + (1 - KAPPA) * (THETA - b)
    z = spike(v - b)
    return ((1 - z) * v, i - (1 - ALPHA) * i + x, b + z * JUMP), z


@stepping(0.0, 0.0, 0.0)
def coba(state, x, spike, constant):
    v, g_e, g_i = state
    g_e, g_i = ALPHA * (g_e + positive(x)), ALPHA * (g_i + positive(-x))
    v = v + RATE * ((RESTED - v) + g_e * (3.0 - v) + g_i * (-1.0 - v))
    z = spike(v - THETA)
    return ((1 - z) * v, g_e, g_i), z


def coupled(size):
    """The matrix g of `lif_mc_feed_forward_step`: each membrane pulls at the next."""
    return own.CoupledCell.coupling * np.roll(np.eye(size), 1, 0)


@stepping(0.0, 0.0)
def lif_mc(state, x, spike, constant):
    v, i = state[0] + state[0] @ coupled(len(state[0])).T, state[1] + x
    decayed = v + RATE * (i - v)
    z = spike(decayed - THETA)
    return ((1 - z) * decayed, ALPHA * i), z


@stepping(0.0, 0.0)
def sinabs_alif(state, x, spike, constant):
    v, b = state
    threshold = THETA + 1.8 * b
    v = SINABS * v + (1 - SINABS) * x
    s = spike(v - constant(threshold))
    return (v - s * threshold, KAPPA * b + (1 - KAPPA) * s), s


ADEX = Own(own.AdaptiveExponentialCell())

LINES = {
    "snnTorch Alpha(alpha, beta)": Line(Own(own.AlphaCell()), alpha(subtract=False), 2.0),
    "snnTorch Alpha(alpha, beta, reset_mechanism='subtract')": Line(
        Own(own.SubtractingAlphaCell()), alpha(subtract=True), 2.0
    ),
    "snnTorch DeltaLeaky(delta_threshold)": Line(Own(own.DeltaCell()), delta_leaky, 2.0),
    "snnTorch LeakyParallel(beta)": Line(Own(own.RectifiedCell()), leaky_parallel, 0.6),
    "norse LIFAdExCell": Line(ADEX, lif_adex(SUBTHRESHOLD, JUMP), 2.0),
    "norse LIFAdExRefracCell": Line(Refractory(ADEX, 2), lif_adex(SUBTHRESHOLD, JUMP, 2), 3.0),
    "norse LIFExCell": Line(Own(own.FilteredExponentialCell()), lif_adex(0.0, 0.0), 2.0),
    "norse IzhikevichCell": Line(Own(own.SimpleModelCell()), izhikevich, 120.0),
    "norse LSNNCell": Line(Own(own.LongShortCell()), lsnn, 4.0),
    "norse coba_lif_feed_forward_step": Line(Own(own.ConductanceCell()), coba, 2.0),
    "norse lif_mc_feed_forward_step": Line(Own(own.CoupledCell()), lif_mc, 3.0),
    "sinabs ALIF(tau, tau_adapt)": Line(Own(own.ConstantThresholdCell()), sinabs_alif, 5.0),
}

SHARED = "its equations are those of another line: "
MADE = "as one module of a layer and its neurons, which here are two: "
OUTSIDE = "no neurons, "
WITHOUT = {
    "snnTorch": {
        "SLSTM": "an LSTM cell: its gates are products of states, and its hidden state, a real number below 1 that "
        "goes back through weights, is what fires; only spikes go back here",
        "SConv2dLSTM": "the same with convolutions",
        "AssociativeLeaky": "a memory of outer products of its inputs, read by another product: no membrane of its own",
        "LinearLeaky": MADE + "Synapse(nnx.Linear(...)) and the line of StateLeaky",
        "RLeaky": "Recurrent(LIF(beta, reset=1 / beta), Synapse(...)), below",
        "RSynaptic": "Recurrent(CurrentLIF(alpha, beta, reset=1 / beta), Synapse(...)), below",
    },
    "SpikingJelly": {
        "SimpleIFNode": SHARED + "IFNode",
        "SimpleLIFNode": SHARED + "LIFNode",
        "ParametricLIFNode": "PLIF, below",
        "TernaryIFNode": SHARED + "TernaryLIFNode, without leak",
        "PSN": "PSN, below",
        "MaskedPSN": "PSN(steps, order), below",
        "SlidingPSN": "SlidingPSN(order), below",
        "OTTTLIFNode": "LIFNode, trained by `ottt_a()`",
        "SLTTLIFNode": "LIFNode, trained by `sltt()`",
        "DSRIFNode": "IF(scaled=True), trained by `spike_representation()`",
        "DSRLIFNode": "LIF(scaled=True), trained by `spike_representation()`",
        "NonSpikingIFNode": OUTSIDE + "LeakyReadout(1.0) times the number of steps",
        "NonSpikingLIFNode": OUTSIDE + "LeakyReadout(1 - 1 / tau) times Λ[t]",
        "FlexSN": OUTSIDE + "a compiler of what the user writes",
        "STBIFNode": "has no gradient: it repeats a quantised net that is trained already",
        "FewSpikeNode": "has no states: it codes one number in K spikes, for nets that are trained already",
        "OutlierAwareThresholdNode": "as FewSpikeNode",
        "HGNode": "as FewSpikeNode",
        "ILCIFNode": "a grouped convolution from its spikes to the next step: Recurrent(IF(...), Synapse(...))",
        "ILCLIFNode": "Recurrent(LIF(...), Synapse(...))",
        "ILCCUBALIFNode": "Recurrent(CurrentLIF(...), Synapse(...))",
        "NoisyCUBALIFNode": "noise drawn by a running number of the run, which it adds to its spikes too",
        "NoisyILCCUBALIFNode": "as NoisyCUBALIFNode",
        "NoisyNonSpikingIFNode": "as NoisyCUBALIFNode",
    },
    "norse": {
        "CobaLIFCell": "its step takes no input (1.1.0): the conductances that inputs open are overwritten",
        "LICell": OUTSIDE + "LeakyReadout behind a filter",
        "LIBoxCell": OUTSIDE + "LeakyReadout",
        "LILinearCell": OUTSIDE + "Synapse(nnx.Linear(...)) and LeakyReadout",
        "LIFCorrelation": OUTSIDE + "STDP traces of pairs of them, which are no part of a gradient",
    },
    "sinabs": {
        "ExpLeak": OUTSIDE + "LeakyReadout(d) times Λ[t], below",
        "NeuromorphicReLU": "has no states: a rounded ReLU, for nets that are turned into spiking ones",
    },
    "Spyx": {
        "LI": OUTSIDE + "LeakyReadout(d) times Λ[t]",
        "RIF": "Recurrent(IF(), Synapse(...)), a step later, below",
        "RLIF": "Recurrent(LIF(...), Synapse(...)), a step later, below",
        "RCuBaLIF": "Recurrent(CurrentLIF(...), Synapse(...)), a step later, below",
        "AssociativeLIF": SHARED + "PSU_LIF",
    },
}
"""Library ↦ its other classes of neurons ↦ the reason, or what is written instead.

"Below" is in `test_other_libraries`, `test_recurrent` and `test_layers_themselves`.
Recurrent cells of norse and sinabs are their lines within `Recurrent`, and what ends in Squeeze the same line.
"""
