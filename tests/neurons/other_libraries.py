"""The neurons of other libraries, by their own equations, and which neuron here is each of them.

Every function takes currents [T, ...], a spike function of u − θ and what makes a constant of differentiation, and
returns the spikes of every step. They are written with operators alone, so that NumPy, JAX and PyTorch compute them, in
the order of operations of snnTorch 1.0 (`snntorch/_neurons`), SpikingJelly 2.0 (`activation_based/neuron`), norse 1.1
(`norse/torch/functional`), sinabs 3.1 (`sinabs/layers/functional`) and Spyx 1.0 (`spyx/nn.py`). Fires at u > θ there
and u ≥ θ here, SpikingJelly aside, is one and the same but at a tie.
"""

from collections.abc import Callable
from math import exp, log
from typing import NamedTuple

from safjax.nn import ALIF, IF, LIF, CurrentLIF, Neuron, Refractory, ResetTo

ALPHA, BETA, TAU, THETA = 0.6, 0.8, 4.0, 1.2
LAMBDA, KAPPA = 1 - 1 / TAU, 0.9
TO_ZERO = ResetTo(0.0)


def spiking_jelly(tau=None, decay_input=True, v_reset=0.0, detach_reset=False):
    """`IFNode` without τ, else `LIFNode`; `ParametricLIFNode` where τ = 1 / sigmoid(w)."""
    rest = 0.0 if v_reset is None else v_reset

    def run(xs, spike, constant):
        v, spikes = rest + 0 * xs[0], []
        for x in xs:
            leaked = v if tau is None else v - (v - rest) / tau
            v = v + (x - (v - rest)) / tau if tau is not None and decay_input else leaked + x
            spikes.append(spike(v - THETA))
            z = constant(spikes[-1]) if detach_reset else spikes[-1]
            v = v - z * THETA if v_reset is None else (1 - z) * v + z * v_reset
        return spikes

    return run


def leaky(mechanism, reset_delay=True, beta=BETA):
    """snnTorch's `Leaky(beta)`: what has fired in the step before is reset in this one, and not differentiated.

    Without delay what fires is reset at once, and differentiated, in so far as it is not reset for the step before.
    """

    def run(xs, spike, constant):
        mem, spikes = 0 * xs[0], []
        for x in xs:
            reset = constant(spike(mem - THETA))
            mem = beta * ((1 - reset) * mem if mechanism == "zero" else mem) + x
            mem = mem - reset * THETA if mechanism == "subtract" else mem
            spikes.append(spike(mem - THETA))
            if not reset_delay:
                mem = mem - (spikes[-1] - reset) * (THETA if mechanism == "subtract" else mem)
        return spikes

    return run


def lapicque(mechanism, r, c):
    """snnTorch's `Lapicque(R=r, C=c)`; reset to zero takes the current of the step after the spike with it."""

    def run(xs, spike, constant):
        mem, spikes = 0 * xs[0], []
        for x in xs:
            reset = constant(spike(mem - THETA))
            base = x * r * (1 / (r * c)) + (1 - 1 / (r * c)) * mem
            mem = base - reset * (THETA if mechanism == "subtract" else base)
            spikes.append(spike(mem - THETA))
        return spikes

    return run


def synaptic(mechanism):
    """snnTorch's `Synaptic(ALPHA, BETA)`."""

    def run(xs, spike, constant):
        syn, mem, spikes = 0 * xs[0], 0 * xs[0], []
        for x in xs:
            reset = constant(spike(mem - THETA))
            syn = ALPHA * syn + x
            base = BETA * mem + syn
            mem = base - reset * (THETA if mechanism == "subtract" else base)
            spikes.append(spike(mem - THETA))
        return spikes

    return run


def norse(box=False, rho_reset=0, v_leak=0.0, v_reset=0.0):
    """`LIFBoxCell`, `LIFCell` and `LIFRefracCell`, dt/τ_mem = 1/TAU and dt/τ_syn = 1 − ALPHA."""

    def run(xs, spike, constant):
        v, i, rho, spikes = v_leak + 0 * xs[0], 0 * xs[0], 0 * xs[0], []
        for x in xs:
            i = x if box else i + x
            decayed = v + (1 / TAU) * ((v_leak - v) + i)
            z = spike(decayed - THETA)
            after = (1 - z) * decayed + z * v_reset
            i = i - (1 - ALPHA) * i
            # There the count is differentiated by the surrogate too, here it is a constant.
            mask = (rho > 0) * 1.0
            v, z = (1 - mask) * after + mask * v, (1 - mask) * z
            rho = constant((1 - z) * (rho - mask) + z * rho_reset)
            spikes.append(z)
        return spikes

    return run


def norse_iaf(xs, spike, constant):
    """`IAFCell`."""
    v, spikes = 0 * xs[0], []
    for x in xs:
        v = v + x
        spikes.append(spike(v - THETA))
        v = (1 - spikes[-1]) * v + spikes[-1] * 0.0
    return spikes


def sinabs(decay=None, norm_input=True, synapse=None, reset=None, minimum=None, adapt_scale=None, raised=False):
    """`LIF`; without decay `IAF`; with `adapt_scale` `ALIF`, whose reset subtracts a number, or the raised threshold.

    Decays are exp(−1/τ). The adaptation of the threshold, and where a minimum holds the membrane, is not differentiated
    there as here.
    """
    kept = 1.0 if decay is None else decay

    def run(xs, spike, constant):
        v, i, b, spikes = 0 * xs[0], 0 * xs[0], 0 * xs[0], []
        for x in xs:
            i = x if synapse is None else synapse * (i + x)
            v = kept * v + ((1 - kept) * i if norm_input else i)
            level = THETA + (0 if adapt_scale is None else adapt_scale * b)
            spikes.append(spike(v - level))
            v = (
                v - spikes[-1] * (level if raised else THETA)
                if reset is None
                else v * constant((spikes[-1] == 0) * 1.0) + reset
            )
            b = KAPPA * b + (1 - KAPPA) * spikes[-1]
            if minimum is not None:
                v = (v - minimum) * (v > minimum) + minimum
        return spikes

    return run


def spyx(decay=1.0, synapse=None, gamma=None):
    """`LIF`, `IF`, `CuBaLIF`, `ALIF` with γ: spikes are those of the membrane of the step before."""

    def run(xs, spike, constant):
        v, i, raised, spikes = 0 * xs[0], 0 * xs[0], 0 * xs[0], []
        for x in xs:
            thresh = THETA + raised
            spikes.append(spike(v - thresh))
            raised = 0 * raised if gamma is None else gamma * raised + (1 - gamma) * spikes[-1]
            if synapse is None:
                v = decay * v + x - spikes[-1] * thresh
            else:
                i = synapse * i + x
                v = decay * (v - spikes[-1] * THETA) + i
        return spikes

    return run


class Line(NamedTuple):
    """A line of the table.

    Attributes:
      ours, theirs: the neurons.
      scale: what the currents are multiplied by, so that they fire.
      gain: what those of ours are multiplied by beside.
      late: by how many steps theirs fire later.
      detach: whether the reset's spike is left out of their gradient.
      several: whether they fire several times a step.
      gradient: whether theirs is ours.
    """

    ours: Neuron
    theirs: Callable
    scale: float = 1.0
    gain: float = 1.0
    late: int = 0
    detach: bool = False
    several: bool = False
    gradient: bool = True


DECAYED = {"reset": TO_ZERO, "decay_input": True}
C, R = 5.0, 1.4
LAPICQUE = LIF(1 - 1 / (R * C), THETA, reset=1 / (1 - 1 / (R * C)), decay_input=True)
LAPICQUE_BETA = 1 - log(1 / BETA)
"""λ of snnTorch's `Lapicque(BETA)`: there β is exp(−dt/RC), but the membrane steps by 1 − dt/RC."""
LAPICQUE_TO_ZERO = Refractory(LIF(1 - 1 / (R * C), THETA, **DECAYED), 1)
SINABS = exp(-1 / TAU)

LINES = {
    "SpikingJelly IFNode()": Line(IF(THETA, reset=TO_ZERO), spiking_jelly()),
    "SpikingJelly IFNode(v_reset=None)": Line(IF(THETA), spiking_jelly(v_reset=None)),
    "SpikingJelly IFNode(v_reset=-0.3)": Line(IF(THETA + 0.3, reset=TO_ZERO), spiking_jelly(v_reset=-0.3)),
    "SpikingJelly LIFNode(tau)": Line(LIF(LAMBDA, THETA, **DECAYED), spiking_jelly(TAU), 5),
    "SpikingJelly LIFNode(tau, v_reset=None)": Line(
        LIF(LAMBDA, THETA, decay_input=True), spiking_jelly(TAU, v_reset=None), 4
    ),
    "SpikingJelly LIFNode(tau, v_reset=-0.3)": Line(
        LIF(LAMBDA, THETA + 0.3, **DECAYED), spiking_jelly(TAU, v_reset=-0.3), 5
    ),
    "SpikingJelly LIFNode(tau, decay_input=False)": Line(
        LIF(LAMBDA, THETA, reset=TO_ZERO), spiking_jelly(TAU, False)
    ),
    "SpikingJelly LIFNode(tau, decay_input=False, v_reset=None)": Line(
        LIF(LAMBDA, THETA), spiking_jelly(TAU, False, None)
    ),
    "SpikingJelly LIFNode(tau, decay_input=False, v_reset=0.2)": Line(
        LIF(LAMBDA, THETA - 0.2, reset=TO_ZERO), spiking_jelly(TAU, False, 0.2)
    ),
    "SpikingJelly LIFNode(tau, detach_reset=True)": Line(
        LIF(LAMBDA, THETA, **DECAYED), spiking_jelly(TAU, detach_reset=True), 5, detach=True
    ),
    "snnTorch Leaky(beta)": Line(LIF(BETA, THETA, reset=1 / BETA), leaky("subtract"), detach=True),
    "snnTorch Leaky(beta, reset_mechanism='zero')": Line(LIF(BETA, THETA, reset=TO_ZERO), leaky("zero"), detach=True),
    "snnTorch Leaky(beta, reset_mechanism='none')": Line(LIF(BETA, THETA, reset=None), leaky("none"), 0.8),
    "snnTorch Leaky(beta, reset_delay=False)": Line(LIF(BETA, THETA), leaky("subtract", False), 0.8),
    "snnTorch Leaky(beta, reset_mechanism='zero', reset_delay=False)": Line(
        LIF(BETA, THETA, reset=TO_ZERO), leaky("zero", False)
    ),
    "snnTorch StateLeaky(beta)": Line(
        LIF(exp(BETA - 1), THETA, reset=None), leaky("none", beta=exp(BETA - 1)), 0.8
    ),
    "snnTorch Lapicque(R, C)": Line(LAPICQUE, lapicque("subtract", R, C), 4, R, detach=True),
    "snnTorch Lapicque(beta)": Line(
        LIF(LAPICQUE_BETA, THETA, reset=1 / LAPICQUE_BETA, decay_input=True),
        lapicque("subtract", 1.0, 1 / log(1 / BETA)), 4, detach=True,
    ),
    "snnTorch Lapicque(R, C, reset_mechanism='zero')": Line(
        LAPICQUE_TO_ZERO, lapicque("zero", R, C), 6, R, detach=True
    ),
    "snnTorch Synaptic(alpha, beta)": Line(
        CurrentLIF(ALPHA, BETA, THETA, reset=1 / BETA), synaptic("subtract"), 0.6, detach=True
    ),
    "snnTorch Synaptic(alpha, beta, reset_mechanism='zero')": Line(
        Refractory(CurrentLIF(ALPHA, BETA, THETA, reset=TO_ZERO), 1), synaptic("zero"), detach=True
    ),
    "norse LIFBoxCell": Line(LIF(LAMBDA, THETA, **DECAYED), norse(box=True), 5),
    "norse LIFBoxCell, v_leak, v_reset": Line(
        LIF(LAMBDA, THETA - 0.1, reset=ResetTo(-0.4), decay_input=True), norse(True, v_leak=0.1, v_reset=-0.3), 5
    ),
    "norse LIFCell": Line(CurrentLIF(ALPHA, LAMBDA, THETA, **DECAYED), norse(), 3),
    "norse LIFRefracCell": Line(Refractory(CurrentLIF(ALPHA, LAMBDA, THETA, **DECAYED), 3), norse(rho_reset=3), 4),
    "norse IAFCell": Line(IF(THETA, reset=TO_ZERO), norse_iaf),
    "sinabs IAF()": Line(IF(THETA, max_spikes=None), sinabs(norm_input=False), several=True),
    "sinabs LIF(tau)": Line(
        LIF(SINABS, THETA, max_spikes=None, decay_input=True), sinabs(SINABS), 5, several=True
    ),
    "sinabs LIF(tau, spike_fn=SingleSpike)": Line(LIF(SINABS, THETA, decay_input=True), sinabs(SINABS), 4),
    "sinabs LIF(tau, tau_syn, norm_input=False)": Line(
        CurrentLIF(ALPHA, SINABS, THETA), sinabs(SINABS, False, ALPHA), gain=ALPHA
    ),
    "sinabs LIF(tau, reset_fn=MembraneReset(), spike_fn=SingleSpike)": Line(
        LIF(SINABS, THETA, **DECAYED), sinabs(SINABS, reset=0.0), 5, detach=True
    ),
    "sinabs LIF(tau, min_v_mem=-0.3)": Line(
        LIF(SINABS, THETA, max_spikes=None, floor=-0.3, decay_input=True),
        sinabs(SINABS, minimum=-0.3), 5, several=True, gradient=False,
    ),
    "sinabs ALIF(tau, tau_adapt, reset_fn=MembraneSubtract(threshold))": Line(
        ALIF(SINABS, THETA, KAPPA, 1.8 * (1 - KAPPA), decay_input=True), sinabs(SINABS, adapt_scale=1.8), 5,
        gradient=False,
    ),
    "sinabs ALIF(tau, tau_adapt), spikes": Line(
        ALIF(SINABS, THETA, KAPPA, 1.8 * (1 - KAPPA), decay_input=True, raised_reset=True),
        sinabs(SINABS, adapt_scale=1.8, raised=True), 5, gradient=False,
    ),
    "Spyx IF": Line(IF(THETA), spyx(), late=1),
    "Spyx LIF(beta)": Line(LIF(BETA, THETA, reset=1 / BETA), spyx(BETA), late=1),
    "Spyx CuBaLIF(alpha, beta)": Line(CurrentLIF(ALPHA, BETA, THETA), spyx(BETA, ALPHA), 0.6, late=1),
    "Spyx ALIF(beta, gamma)": Line(
        ALIF(BETA, THETA, KAPPA, 1 - KAPPA, reset=1 / BETA, raised_reset=True), spyx(BETA, gamma=KAPPA), late=1
    ),
    "Spyx PSU_LIF(beta)": Line(LIF(BETA, THETA, reset=None), leaky("none"), 0.8),
}  # fmt: skip
