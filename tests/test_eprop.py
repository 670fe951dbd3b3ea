"""E-prop as a net: the numbers of the authors' cell, symmetric and random, in float64.

`golden/eprop.npz` holds a recurrent net of 5 LIF and 5 adaptive neurons with refractory periods and leaky outputs.
E-prop is BPTT with two cuts, spikes that come back and the reset as constants; random errors are broadcast. (Bellec et
al., "A solution to the learning dilemma for recurrent networks of spiking neurons", 2020.)
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.losses import Timed
from safjax.nn import ALIF, LIF, Delay, LeakyReadout, Refractory, Synapse, concatenate, detach, fixed
from safjax.surrogate import Surrogate
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")


@pytest.fixture(scope="module")
def golden():
    with np.load(pathlib.Path(__file__).parent / "golden" / "eprop.npz") as file:
        return {key: file[key] for key in file.files}


class Dampened(Surrogate):
    """γ max(0, 1 − |x| / θ) / θ."""

    def __init__(self, dampening, threshold):
        self.dampening, self.threshold = dampening, threshold

    def slope(self, x):
        return self.dampening / self.threshold * jnp.maximum(0, 1 - jnp.abs(x) / self.threshold)


class Matrix(nnx.Module):
    """x ↦ x W, without the entries of a mask."""

    def __init__(self, weight, mask=1.0):
        self.weight, self.mask = nnx.Param(jnp.asarray(weight)), nnx.Variable(jnp.asarray(mask))

    def __call__(self, x):
        return x @ (self.weight[...] * self.mask[...])


class Net(nnx.Module):
    """The published net; errors of the output come back by its own weights, or by the random ones."""

    def __init__(self, golden, random, cut=True):
        number = {key: float(value) for key, value in golden.items() if not value.ndim}
        decay, threshold = number["decay"], number["threshold"]
        surrogate = Dampened(number["dampening"], threshold)
        # What a spike subtracts leaves a step later, undecayed.
        plain = LIF(decay, threshold, surrogate, reset=1 / decay)
        strength = float(golden["beta"][5])
        adaptive = ALIF(decay, threshold, number["decay_adaptation"], strength, surrogate, reset=1 / decay)
        assert set(golden["beta"]) == {0.0, strength} and not golden["beta"][:5].any()
        # There a count of n is lowered in the step of the spike, too.
        refractory = int(golden["refractory"]) - 1
        self.plain, self.adaptive = (Refractory(n, refractory, integrate=True) for n in (plain, adaptive))
        self.enter, self.again = Synapse(Matrix(golden["w_in"])), Synapse(Matrix(golden["w_rec"], 1 - np.eye(10)))
        self.first, self.others = Synapse(lambda x: x[:, :5]), Synapse(lambda x: x[:, 5:])
        self.out, self.back = (Synapse(fixed(Matrix(golden[name]))) for name in ("w_out", "feedback"))
        self.delay, self.readout = Delay(), LeakyReadout(number["decay_output"])
        self.random, self.cut = random, cut

    def __call__(self, x):
        before = self.delay.recall()
        current = self.enter(x) + self.again(detach(before) if self.cut else before)
        spikes = concatenate(self.plain(self.first(current)), self.adaptive(self.others(current)))
        self.delay.keep(spikes)
        if self.random:
            return self.readout(self.out(detach(spikes)) + self.back(spikes - detach(spikes)))
        return self.readout(self.out(spikes))


def squared_error(output, told):
    """Of y[t] = κ y[t−1] + (1 − κ) I[t], which is (1 − κ) Λ[t] times the readout."""
    target, gain = told
    return jnp.sum((gain * output - target) ** 2) / 2


CASES = [
    ("grad_symmetric", False, True, True),
    ("grad_random", True, True, True),
    ("grad_bptt", False, False, False),
]


@pytest.mark.parametrize(("prefix", "random", "cut", "detach_reset"), CASES)
def test_the_published_numbers(golden, prefix, random, cut, detach_reset):
    x, target = (jnp.asarray(np.moveaxis(golden[name], 0, 1), jnp.float64) for name in ("x", "target"))
    kappa = float(golden["decay_output"])
    gain = 1 - kappa ** jnp.arange(1.0, len(x) + 1)
    rule = rules.bptt(detach_reset=detach_reset)
    compute = safjax.value_and_grad(squared_error, rule, mean_over=1, outputs="all", record=("spikes", "potential"))
    (value, aux), grads = compute(Net(golden, random, cut), x, Timed((target, gain)))
    nets.assert_fires(aux.rates)
    for name in ("spikes", "potential"):
        records = [aux.records[name][path] for path in ("plain", "adaptive")]
        theirs = np.moveaxis(golden["z" if name == "spikes" else "v"], 0, 1)
        np.testing.assert_allclose(np.concatenate(records, -1), theirs, rtol=1e-9, atol=1e-12)
    y = gain[:, None, None] * aux.outputs
    np.testing.assert_allclose(y, np.moveaxis(golden["y"], 0, 1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(value, golden["loss"], rtol=1e-12)
    ours = jax.tree.map(np.asarray, nnx.as_pure(grads))
    for layer, name in (("enter", "w_in"), ("again", "w_rec")):
        expected = golden[f"{prefix}/{name}"]
        np.testing.assert_allclose(ours[layer]["layer"]["weight"], expected, rtol=0, atol=1e-9 * np.abs(expected).max())
