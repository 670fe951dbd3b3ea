"""Neurons of snnTorch, norse and sinabs that the library has not, each as a cell of one's own in the layer `Own`."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from safjax.nn import Neuron
from safjax.surrogate import Sigmoid
from tests.neurons.other_libraries import ALPHA, BETA, KAPPA, TAU, THETA

SPIKE = Sigmoid()
RATE, SHARPNESS, JUMP, SUBTHRESHOLD = 1 / TAU, 0.5, 0.3, 0.2
RESTED = 0.1


class Own(Neuron):
    """Neurons of a cell of one's own."""

    def __init__(self, cell: Any):
        self.own = cell

    def cell(self):
        return self.own


class OwnCell:
    """A cell whose state is a tuple of numbers for each neuron; those before the first step are `rest`."""

    rest: ClassVar[tuple[float, ...]] = (0.0,)

    def start(self, current):
        return tuple(jnp.full_like(current, number) for number in self.rest)


def after(u, s, value=0.0):
    """A membrane u that a spike s sets to a value."""
    return (1 - s) * u + s * value


class AlphaCell(OwnCell):
    """snnTorch's `Alpha(BETA, ALPHA)`, reset to zero: one filter of the current less a shorter one.

    What has fired in the step before loses all its states in this one, with the current.
    """

    rest = (0.0, 0.0, 0.0)
    height = np.log(BETA) / (np.log(ALPHA) - np.log(BETA)) + 1

    def step(self, state, current, detach_reset=False):
        excited, inhibited, u = state
        kept = 1 - jax.lax.stop_gradient(SPIKE(u - THETA))
        excited, inhibited = kept * (BETA * excited + current), kept * (ALPHA * inhibited - current)
        u = self.height * (excited + inhibited)
        return (excited, inhibited, u), SPIKE(u - THETA)


class SubtractingAlphaCell(AlphaCell):
    """snnTorch's `Alpha`, reset by subtraction: θ of what excites, all of what inhibits; it comes back at once."""

    def step(self, state, current, detach_reset=False):
        before, inhibited, u = state
        fired = jax.lax.stop_gradient(SPIKE(u - THETA))
        excited, lowered = BETA * before + current, ALPHA * inhibited - current
        u = self.height * (excited + lowered) + fired * inhibited
        return (excited - fired * THETA, (1 - fired) * lowered, u), SPIKE(u - THETA)


class DeltaCell(OwnCell):
    """snnTorch's `DeltaLeaky`: fires where the membrane moves by θ, up or down; never reset."""

    def step(self, state, current, detach_reset=False):
        u = BETA * state[0] + current
        return (u,), SPIKE(jnp.abs(u - state[0]) - THETA)


class RectifiedCell(OwnCell):
    """snnTorch's `LeakyParallel` behind its input weights: a membrane that is never negative, and never reset."""

    def step(self, state, current, detach_reset=False):
        u = jax.nn.relu(BETA * state[0] + current)
        return (u,), SPIKE(u - THETA)


class AdaptiveExponentialCell(OwnCell):
    """norse's `LIFAdExCell`; with `silent` for `Refractory`, as in `LIFAdExRefracCell`, where adaptation goes on."""

    rest = (0.0, 0.0, 0.0)
    rate, jump = SUBTHRESHOLD, JUMP

    def step(self, state, current, detach_reset=False):
        v, i, a = state
        i = i + current
        u = v + RATE * (i - a - v + SHARPNESS * jnp.exp((v - THETA) / SHARPNESS))
        s = SPIKE(u - THETA)
        return (after(u, s), ALPHA * i, (1 - KAPPA) * (self.rate * v - a) + a + self.jump * s), s

    def silent(self, state, current, held):
        return state[0], *self.step(state, current)[0][1:]


class FilteredExponentialCell(AdaptiveExponentialCell):
    """norse's `LIFExCell`: the same without adaptation."""

    rate, jump = 0.0, 0.0


class SimpleModelCell(OwnCell):
    """norse's `IzhikevichCell`, tonic spiking."""

    rest = (-70.0, -14.0)

    def step(self, state, current, detach_reset=False):
        v, w = state
        u = v + 0.25 * (0.04 * v**2 + 5 * v + 140 - w + current)
        s = SPIKE(u - 30)
        return (after(u, s, -65.0), w + 0.25 * 0.02 * (0.2 * v - w) + 6 * s), s


class LongShortCell(OwnCell):
    """norse's `LSNNCell`: the threshold rises with its own firing, and currents arrive a step later."""

    rest = (0.0, 0.0, THETA)

    def step(self, state, current, detach_reset=False):
        v, i, b = state
        u, b = v + RATE * (i - v), b + (1 - KAPPA) * (THETA - b)
        s = SPIKE(u - b)
        return (after(u, s), ALPHA * i + current, b + JUMP * s), s


class ConductanceCell(OwnCell):
    """norse's `coba_lif_feed_forward_step`: currents open channels, of either sign."""

    rest = (0.0, 0.0, 0.0)

    def step(self, state, current, detach_reset=False):
        v, e, i = state
        e, i = ALPHA * (e + jax.nn.relu(current)), ALPHA * (i + jax.nn.relu(-current))
        u = v + RATE * (RESTED - v + e * (3.0 - v) + i * (-1.0 - v))
        s = SPIKE(u - THETA)
        return (after(u, s), e, i), s


@dataclasses.dataclass(frozen=True)
class CoupledCell(OwnCell):
    """norse's `lif_mc_feed_forward_step`: membranes pull at each other."""

    rest = (0.0, 0.0)
    coupling: float = 0.1

    def step(self, state, current, detach_reset=False):
        v, i = state[0] + self.coupling * jnp.roll(state[0], 1, -1), state[1] + current
        u = v + RATE * (i - v)
        s = SPIKE(u - THETA)
        return (after(u, s), ALPHA * i), s


class ConstantThresholdCell(OwnCell):
    """sinabs's `ALIF`, whose spikes are not differentiated by the threshold that they raise."""

    rest = (0.0, 0.0)
    decay, scale = float(np.exp(-1 / TAU)), 1.8

    def step(self, state, current, detach_reset=False):
        level = THETA + self.scale * state[1]
        u = self.decay * state[0] + (1 - self.decay) * current
        s = SPIKE(u - jax.lax.stop_gradient(level))
        return (u - level * s, KAPPA * state[1] + (1 - KAPPA) * s), s
