"""The neurons of `tests.neurons.own_jelly_cells` by the equations of SpikingJelly, and two that need no cell."""

from math import cos, e, exp, sin

from safjax.nn import IF, CurrentLIF
from tests.neurons import own_jelly_cells as own
from tests.neurons.other_libraries import ALPHA, BETA, TAU, THETA, TO_ZERO, Line
from tests.neurons.own_cells import JUMP, RESTED, SHARPNESS, SUBTHRESHOLD, Own
from tests.neurons.own_jelly_cells import CRITICAL, CURVATURE, GAIN, UPPER
from tests.neurons.own_lines import positive, stepping

OFFSET = 0.3


def sigmoid(x):
    return 1 / (1 + e ** (-x))


@stepping(THETA / 2)
def half_threshold(state, x, spike, constant):
    h = state[0] + x
    s = spike(h - THETA)
    return (h - s * THETA,), s


@stepping(0.0)
def qif(state, x, spike, constant):
    h = state[0] + (x + CURVATURE * (state[0] - RESTED) * (state[0] - CRITICAL)) / TAU
    s = spike(h - THETA)
    return ((1 - s) * h,), s


@stepping(0.0)
def eif(state, x, spike, constant):
    (v,) = state
    h = v + (x + RESTED - v + SHARPNESS * e ** ((v - CRITICAL) / SHARPNESS)) / TAU
    s = spike(h - THETA)
    return ((1 - s) * h,), s


@stepping(0.0, 0.0)
def izhikevich_node(state, x, spike, constant):
    v, w = state
    h = v + (x + CURVATURE * (v - RESTED) * (v - CRITICAL) - w) / TAU
    s = spike(h - THETA)
    return ((1 - s) * h, w + (SUBTHRESHOLD * (h - RESTED) - w) / TAU + JUMP * s), s


@stepping(0.0)
def klif(state, x, spike, constant):
    f = positive(GAIN * (state[0] + (x - state[0]) / TAU))
    s = spike(f - THETA)
    return ((1 - s) * f,), s


@stepping(0.0, 0.0)
def clif(state, x, spike, constant):
    v, m = state
    h = v - v / TAU + x
    s = spike(h - THETA)
    m = m * sigmoid(h / TAU) + s
    return (h - s * (THETA + sigmoid(m)), m), s


@stepping(0.0, 0.0)
def raf(state, x, spike, constant):
    u, v = state
    shrunk = exp(-0.2)
    u, v = shrunk * (u * cos(1) - v * sin(1)) + x, shrunk * (u * sin(1) + v * cos(1))
    s = spike(v - THETA)
    return (u, (1 - s) * v), s


def gated_lif(xs, spike, constant):
    alpha, beta, gamma, tau, decay, subreset = 0.4, 0.7, 0.6, 0.75, 0.05, 0.8
    v, s, spikes = 0 * xs[0], 0 * xs[0], []
    for x, conduct in zip(xs, own.GatedCell.conductance, strict=False):
        leaked = (1 - alpha * (1 - tau)) * v - (1 - alpha) * decay + x * (1 - beta * (1 - conduct))
        v = leaked - (1 - alpha * (1 - tau)) * v * gamma * s - (1 - gamma) * subreset * s
        s = spike(v - THETA)
        spikes.append(s)
    return spikes


@stepping(0.0)
def ternary_lif(state, x, spike, constant):
    h = state[0] - state[0] / TAU + x
    s = spike(h - THETA) - spike(-h - THETA)
    return (h - s * THETA,), s


@stepping(0.0)
def integer_lif(state, x, spike, constant):
    scaled = ((1.0 - 1.0 / TAU) * state[0] + x) / THETA
    fixed, inside = constant(scaled), (scaled >= 0) & (scaled <= UPPER)
    clipped = inside * fixed + UPPER * (fixed > UPPER)
    # Whole numbers by floor division, halves to the even one as in `round`; there are none.
    s = (clipped + 0.5) // 1 + inside * (scaled - fixed)
    return (scaled * THETA - s * THETA,), s


@stepping(0.0)
def mpbn_lif(state, x, spike, constant):
    h = state[0] - state[0] / TAU + x
    h = h - h.sum() / len(h)
    h = h * ((h * h).sum() / len(h) + 1e-5) ** -0.5
    s = spike(h - THETA)
    return ((1 - s) * h,), s


@stepping(0.0)
def liaf(state, x, spike, constant):
    h = state[0] + (x - state[0]) / TAU
    return ((1 - spike(h - THETA)) * h,), positive(h - THETA)


@stepping(0.0, 0.0)
def cuba_lif(state, x, spike, constant):
    v, c = state
    c = c * ALPHA + x
    v = v * BETA + c
    s = spike(v - THETA)
    return ((1 - s) * v, c), s


@stepping(0.0)
def activation_aware(state, x, spike, constant):
    h = state[0] + x
    s = spike(h + OFFSET - THETA)
    return (h - s * THETA,), s


LINES = {
    "SpikingJelly CUBALIFNode(c_decay, v_decay)": Line(CurrentLIF(ALPHA, BETA, THETA, reset=TO_ZERO), cuba_lif, 0.6),
    "SpikingJelly ActivationAwareIFNode(v_threshold, v_offset)": Line(
        IF(THETA - OFFSET, reset=THETA / (THETA - OFFSET)), activation_aware
    ),
    "SpikingJelly HalfThresholdIFNode()": Line(Own(own.HalfCell()), half_threshold),
    "SpikingJelly QIFNode(tau)": Line(Own(own.QuadraticCell()), qif, 6.0),
    "SpikingJelly EIFNode(tau)": Line(Own(own.ExponentialCell()), eif, 3.0),
    "SpikingJelly IzhikevichNode(tau)": Line(Own(own.RecoveringCell()), izhikevich_node, 6.0),
    "SpikingJelly KLIFNode(tau)": Line(Own(own.RectifiedCell()), klif, 4.0),
    "SpikingJelly ComplementaryLIFNode(tau)": Line(Own(own.ComplementaryCell()), clif, 1.5),
    "SpikingJelly RAFNode()": Line(Own(own.ResonantCell()), raf, 2.0),
    "SpikingJelly GatedLIFNode(T)": Line(Own(own.GatedCell()), gated_lif, 3.0),
    "SpikingJelly TernaryLIFNode(tau, v_reset=None)": Line(Own(own.TernaryCell()), ternary_lif, 2.0),
    "SpikingJelly ILIFNode(tau)": Line(Own(own.IntegerCell()), integer_lif, 1.5),
    "SpikingJelly MPBNLIFNode(tau, out_features)": Line(Own(own.NormalisedCell()), mpbn_lif),
    "SpikingJelly LIAFNode(relu, True, tau)": Line(Own(own.AnalogCell()), liaf, 6.0),
}
