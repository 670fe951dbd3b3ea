"""Implicit differentiation at the equilibrium of a feedback net, against autodiff through its unrolled iterations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import IF, LIF, InstantReadout, LeakyReadout, Recurrent, Synapse
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")


def gradients(net, rule, x, steps):
    (value, aux), grads = nets.value_and_grad(nets.loss, rule, steps)(net, x, nets.labels())
    nets.assert_fires(aux.rates)
    return value, aux, grads


class Equilibrium(nnx.Module):
    """One layer of IF neurons that hears its own spikes."""

    def __init__(self, neuron=None, strength=0.5):
        rngs = nnx.Rngs(3)
        self.first, back = Synapse(nets._dense(7, 12, rngs)), Synapse(nets._dense(12, 12, rngs))
        # The map of rates must contract: norm of the feedback over the threshold below 1.
        kernel = back.layer.kernel
        kernel[...] = strength * kernel[...] / jnp.linalg.norm(kernel[...], 2)
        self.loop = Recurrent(IF(1.3) if neuron is None else neuron, back)
        self.last, self.readout = Synapse(nets._dense(12, nets.CLASSES, rngs)), LeakyReadout()

    def __call__(self, x):
        return self.readout(self.last(self.loop(self.first(x))))


def equilibrium_input():
    return jnp.asarray(np.random.default_rng(2).normal(0.2, 0.8, (nets.BATCH, 7)))


def unrolled_gradient(net, x, iterations, pin=None):
    """Autodiff through `iterations` of r ← clamp(F x + b + W r + c, 0, θ) / θ; `pin` holds the values at given ones:
    (rate fed back, its result), so that only the derivative is unrolled."""
    graphdef, params = nnx.split(net)

    def at(value, gradient):
        return value + gradient - jax.lax.stop_gradient(gradient)

    def objective(params):
        net = nnx.merge(graphdef, params)
        rate = jnp.zeros((len(x), 12)) if pin is None else pin[0]
        for _ in range(iterations):
            v = net.first.layer(x) + net.loop.synapse.layer(rate)
            new = jnp.where(v > 0, jnp.where(v < 1.3, v, 1.3), 0) / 1.3
            rate = new if pin is None else at(pin[0], new)
        result = rate if pin is None else at(pin[1], rate)
        return nets.loss(net.last.layer(result), nets.labels())

    return nnx.as_pure(jax.jit(jax.grad(objective))(params))


@pytest.mark.parametrize("neuron", [None, LIF(0.8, 1.3)], ids=["IF", "LIF"])
def test_implicit_gradient_equals_unrolled_autodiff_at_the_rates_reached(neuron):
    """β of `ide` is the limit of autodiff through ever more iterations of the net of rates, taken at the simulation's
    own rates: the same to 1e-10, and not yet so after two iterations."""
    net, x, steps = Equilibrium(neuron), equilibrium_input(), 40
    _, _, grads = gradients(net, rules.ide(), x, steps)
    (spikes,) = safjax.simulate(net, x, steps).spikes.values()
    decay = net.loop.neuron.decay
    powers = decay ** jnp.arange(steps - 1, -1, -1)
    back, rate = (jnp.tensordot(p, s, 1) / powers.sum() for p, s in ((powers[1:], spikes[:-1]), (powers, spikes)))
    nets.assert_trees_close(grads, unrolled_gradient(net, x, 120, (back, rate)), rtol=1e-10)
    assert nets.distance(unrolled_gradient(net, x, 2, (back, rate)), grads) > 1e-3
    *_, cut = gradients(net, rules.spike_representation(), x, steps)
    assert nets.distance(cut, grads) > 0.02


@pytest.mark.slow
def test_implicit_gradient_approaches_that_of_the_equilibrium():
    """As T grows the rates settle, and `ide` approaches autodiff through 200 iterations to the true fixed point."""
    net, x = Equilibrium(), equilibrium_input()
    exact = unrolled_gradient(net, x, 200)
    errors = [nets.distance(gradients(net, rules.ide(), x, steps)[2], exact) for steps in (30, 300, 3000)]
    assert errors[2] < 0.2 * errors[1] < 0.2 * errors[0] < 0.1


def test_iterations_bound_the_implicit_solution():
    """Few iterations truncate it: the error falls with their number."""
    net, x = Equilibrium(), equilibrium_input()
    exact = gradients(net, rules.ide(), x, 20)[2]
    errors = [nets.distance(gradients(net, rules.ide(iterations=n), x, 20)[2], exact) for n in (1, 8)]
    assert errors[0] > 3 * errors[1] > 0
    with pytest.raises(ValueError, match=r"ide\(iterations=0\).*whole number ≥ 1"):
        rules.ide(iterations=0)


def test_an_inhibition_stronger_than_one_by_hand():
    """One neuron with r = x − w r: dr/dx = 1 / (1 + w), dr/dw = −r / (1 + w), also where r ← x − w r diverges."""

    def dense(weight):
        layer = nnx.Linear(1, 1, use_bias=False, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
        layer.kernel[...] = jnp.full((1, 1), weight)
        return Synapse(layer)

    net, steps = nnx.Sequential(dense(1.0), Recurrent(IF(), dense(-1.5)), LeakyReadout()), 40
    (_, aux), grads = safjax.value_and_grad(jnp.sum, rules.ide(), steps)(net, jnp.array([[0.8]]))
    nets.assert_fires(aux.rates)
    (spikes,) = safjax.simulate(net, jnp.array([[0.8]]), steps).spikes.values()
    first, back = grads["layers"][0]["layer"]["kernel"], grads["layers"][1]["synapse"]["layer"]["kernel"]
    np.testing.assert_allclose(first, 0.8 / 2.5, rtol=1e-10)
    np.testing.assert_allclose(back, spikes[:-1].sum() / steps / 2.5, rtol=1e-10)


def test_without_feedback_it_is_the_spike_representation():
    """Nothing comes back, so no error does: states of input, neurons and readout are constants of the last step."""

    class Forward(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.first = Synapse(nets._dense(7, 9, rngs))
            self.lif, self.last = LIF(0.8), Synapse(nets._dense(9, nets.CLASSES, rngs))
            self.readout = InstantReadout()

        def __call__(self, x):
            return self.readout(self.last(self.lif(self.first(jnp.tanh(x)))))

    x = jnp.asarray(np.random.default_rng(0).normal(0.3, 1.2, (6, nets.BATCH, 7)))
    *_, grads = gradients(Forward(), rules.ide(), x, None)
    *_, expected = gradients(Forward(), rules.spike_representation(), x, None)
    nets.assert_trees_close(grads, expected, rtol=1e-12)
