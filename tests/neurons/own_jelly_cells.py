"""Neurons of SpikingJelly that the library has not, each as a cell of one's own."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.neurons.other_libraries import THETA
from tests.neurons.own_cells import JUMP, RATE, RESTED, SHARPNESS, SPIKE, SUBTHRESHOLD, OwnCell, after

CRITICAL, CURVATURE = 0.8, 0.7
GAIN, UPPER = 1.3, 3


class HalfCell(OwnCell):
    """SpikingJelly's `HalfThresholdIFNode`: integrates from θ / 2 on."""

    rest = (THETA / 2,)

    def step(self, state, current, detach_reset=False):
        u = state[0] + current
        s = SPIKE(u - THETA)
        return (u - THETA * s,), s


class QuadraticCell(OwnCell):
    """SpikingJelly's `QIFNode`."""

    def step(self, state, current, detach_reset=False):
        (v,) = state
        u = v + RATE * (current + CURVATURE * (v - RESTED) * (v - CRITICAL))
        s = SPIKE(u - THETA)
        return (after(u, s),), s


class ExponentialCell(OwnCell):
    """SpikingJelly's `EIFNode`."""

    def step(self, state, current, detach_reset=False):
        (v,) = state
        u = v + RATE * (current - (v - RESTED) + SHARPNESS * jnp.exp((v - CRITICAL) / SHARPNESS))
        s = SPIKE(u - THETA)
        return (after(u, s),), s


class RecoveringCell(OwnCell):
    """SpikingJelly's `IzhikevichNode`."""

    rest = (0.0, 0.0)

    def step(self, state, current, detach_reset=False):
        v, w = state
        u = v + RATE * (current + CURVATURE * (v - RESTED) * (v - CRITICAL) - w)
        s = SPIKE(u - THETA)
        return (after(u, s), w + RATE * (SUBTHRESHOLD * (u - RESTED) - w) + JUMP * s), s


class RectifiedCell(OwnCell):
    """SpikingJelly's `KLIFNode`, reset to zero."""

    def step(self, state, current, detach_reset=False):
        u = jax.nn.relu(GAIN * (state[0] + RATE * (current - state[0])))
        s = SPIKE(u - THETA)
        return (after(u, s),), s


class ComplementaryCell(OwnCell):
    """SpikingJelly's `ComplementaryLIFNode`: what a spike subtracts grows with the spikes of late."""

    rest = (0.0, 0.0)

    def step(self, state, current, detach_reset=False):
        u = (1 - RATE) * state[0] + current
        s = SPIKE(u - THETA)
        m = state[1] * jax.nn.sigmoid(RATE * u) + s
        return (u - s * (THETA + jax.nn.sigmoid(m)), m), s


class ResonantCell(OwnCell):
    """SpikingJelly's `RAFNode`: a state in the plane that turns and shrinks; its height fires and is reset."""

    rest = (0.0, 0.0)

    def step(self, state, current, detach_reset=False):
        turned = (state[0] + 1j * state[1]) * jnp.exp(-0.2 + 1j)
        x, y = turned.real + current, turned.imag
        s = SPIKE(y - THETA)
        return (x, after(y, s)), s


class GatedCell(OwnCell):
    """SpikingJelly's `GatedLIFNode`, its gates α, β, γ held; the conductance is another in every step."""

    rest = (0.0, 0.0, 0.0)
    conductance = tuple(np.linspace(0.4, 0.9, 40))

    def step(self, state, current, detach_reset=False):
        v, s, t = state
        open_now = jnp.asarray(self.conductance)[t.astype(int)]
        kept, a, b, c = 1 - 0.4 * 0.25, 0.4, 0.7, 0.6
        u = kept * v * (1 - c * s) - (1 - a) * 0.05 - (1 - c) * 0.8 * s + current * (1 - b * (1 - open_now))
        s = SPIKE(u - THETA)
        return (u, s, t + 1), s


class TernaryCell(OwnCell):
    """SpikingJelly's `TernaryLIFNode(v_reset=None)`: spikes of either sign."""

    def step(self, state, current, detach_reset=False):
        u = (1 - RATE) * state[0] + current
        s = SPIKE(u - THETA) - SPIKE(-u - THETA)
        return (u - THETA * s,), s


class IntegerCell(OwnCell):
    """SpikingJelly's `ILIFNode`: u / θ rounded, of slope 1 / θ between no spike and the most."""

    def step(self, state, current, detach_reset=False):
        u = (1 - RATE) * state[0] + current
        level = jax.lax.stop_gradient(jnp.round(jnp.clip(u / THETA, 0, UPPER)))
        s = level + jnp.where((u >= 0) & (u <= UPPER * THETA), (u - jax.lax.stop_gradient(u)) / THETA, 0)
        return (u - THETA * s,), s


class NormalisedCell(OwnCell):
    """SpikingJelly's `MPBNLIFNode`, one feature: the membrane goes on from û, that of `NormalisedLIF` from u."""

    def step(self, state, current, detach_reset=False):
        u = (1 - RATE) * state[0] + current
        u = (u - u.mean()) / jnp.sqrt(u.var() + 1e-5)
        s = SPIKE(u - THETA)
        return (after(u, s),), s


class AnalogCell(OwnCell):
    """SpikingJelly's `LIAFNode(relu, threshold_related=True)`: by how much u is above θ; spikes reset, no more."""

    def step(self, state, current, detach_reset=False):
        u = (1 - RATE) * state[0] + RATE * current
        return (after(u, SPIKE(u - THETA)),), jax.nn.relu(u - THETA)
