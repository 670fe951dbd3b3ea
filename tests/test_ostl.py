"""OSTL and OTPE: the published script's numbers, and what they must equal, in float64.

`golden/otpe.npz` holds inputs and results of the layers of the authors' script: dense 12-14-10-5, every layer LIF, the
last one's spikes the output, the loss a sum over steps.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, InstantReadout, LeakyReadout, Recurrent, Synapse, concatenate
from safjax.nn.binding import bind
from tests import nets
from tests.neuron_kinds import NEURONS, UNITS, excited, inputs

pytestmark = pytest.mark.usefixtures("x64")


@pytest.fixture(scope="module")
def golden():
    with np.load(pathlib.Path(__file__).parent / "golden" / "otpe.npz") as file:
        return {key: file[key] for key in file.files}


def published(golden):
    """The golden's net."""
    slope = float(golden["slope"])

    @jax.custom_vjp
    def spike(x):
        return (x >= 0).astype(x.dtype)

    spike.defvjp(lambda x: (spike(x), x), lambda x, error: (error / (slope * jnp.abs(x) + 1) ** 2,))
    layers = []
    for place in range(3):
        kernel = golden[f"param/{place}.kernel"]
        dense = nnx.Linear(*kernel.shape, param_dtype=nets.DTYPE, rngs=nnx.Rngs(0))
        dense.kernel[...], dense.bias[...] = jnp.asarray(kernel), jnp.asarray(golden[f"param/{place}.bias"])
        layers += [Synapse(dense), LIF(float(golden["decay"]), float(golden["threshold"]), spike)]
    return nnx.Sequential(*layers, InstantReadout())


def cross_entropy(output, labels):
    return optax.softmax_cross_entropy_with_integer_labels(output, labels).mean()


PUBLISHED = {
    "bptt": rules.bptt(),
    "ostl": rules.ostl(),
    "otpe": rules.otpe(),
    "otpe_all": rules.otpe(everywhere=True),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_gradients_are_the_published_ones(name, golden):
    x, labels = jnp.asarray(golden["x"], nets.DTYPE), jnp.asarray(golden["labels"])
    compute = safjax.value_and_grad(cross_entropy, PUBLISHED[name], mean_over=1, outputs="all")
    (value, aux), grads = compute(published(golden), x, labels)
    nets.assert_fires(aux.rates)
    np.testing.assert_allclose(value, golden["loss"], rtol=1e-12)
    np.testing.assert_array_equal(aux.outputs, golden["spikes/2"])
    for path, gradient in nnx.to_flat_state(nnx.as_pure(grads)):
        expected = golden[f"grad_{name}/{path[1] // 2}.{path[-1]}"]
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-9 * np.abs(expected).max(), err_msg=str(path))


def gradient(rule, net, x=None, loss=nets.loss):
    (_, aux), grads = safjax.value_and_grad(loss, rule)(net, inputs() if x is None else x, nets.labels())
    nets.assert_fires(aux.rates)
    return grads


class OneLayer(nnx.Module):
    """One layer of neurons of several kinds side by side."""

    def __init__(self, kinds, readout):
        rngs = nnx.Rngs(1)
        self.neurons = nnx.List([NEURONS[kind]() for kind in kinds])
        self.first = nnx.List([Synapse(excited(7, rngs)) for _ in kinds])
        self.last = nnx.List([Synapse(nets._dense(UNITS, nets.CLASSES, rngs)) for _ in kinds])
        self.readout = readout

    def __call__(self, x):
        layers = zip(self.first, self.neurons, self.last, strict=True)
        return self.readout(sum(last(neuron(first(x))) for first, neuron, last in layers) / len(self.first))


KINDS = [
    *("LIF, learned threshold", "LIF, several spikes of learned height", "LIF, set to a learned value", "LIF, floor"),
    *("PLIF, reset after the decay", "CurrentLIF, set to zero, decayed input", "ALIF", "refractory ALIF, integrating"),
]
"""Kinds with every sort of state and of constants."""


def test_one_layer_is_bptt():
    """The memory of each kind of neurons is in the gradient as it is, and so are its learned numbers."""
    ours, exact = (gradient(rule, OneLayer(KINDS, InstantReadout())) for rule in (rules.ostl(), rules.bptt()))
    nets.assert_trees_close(ours, exact, rtol=1e-12)


def test_with_detached_resets_it_is_ottt():
    """Through layers, loops, sums and joined streams."""
    ours, theirs = (gradient(rule, Loop()) for rule in (rules.ostl(detach_reset=True), rules.ottt_a()))
    nets.assert_trees_close(ours, theirs, rtol=1e-12)


class Loop(nnx.Module):
    """A recurrent layer whose spikes also drive a second one, with a skip to its current."""

    def __init__(self, decay=0.7):
        rngs = nnx.Rngs(2)
        self.first, self.second, self.skip = (Synapse(excited(n, rngs)) for n in (7, UNITS, 7))
        self.one, self.two = Recurrent(LIF(decay, 1.4), Synapse(nets._dense(UNITS, UNITS, rngs))), LIF(decay, 1.5)
        self.last, self.readout = Synapse(nets._dense(2 * UNITS, nets.CLASSES, rngs)), LeakyReadout()

    def __call__(self, x):
        one = self.one(self.first(x))
        two = self.two(0.8 * self.second(one) - self.skip(x) / 4)
        return self.readout(self.last(concatenate(one, two)))


def test_one_hidden_layer_before_a_leaky_readout_is_bptt_under_otpe():
    """What spikes leave in a readout without reset is what its decay says."""
    kinds = ["LIF, learned threshold", "LIF, several spikes of learned height", "LIF, floor"]
    ours, exact = (gradient(rule, OneLayer(kinds, LeakyReadout())) for rule in (rules.otpe(), rules.bptt()))
    nets.assert_trees_close(ours, exact, rtol=1e-12)


def small(*layers, readout=None):
    return nnx.Sequential(*layers, LeakyReadout() if readout is None else readout)


def dense(inputs=7, outputs=6):
    return nets._dense(inputs, outputs, nnx.Rngs(0))


def convolution():
    return nnx.Conv(7, 6, (3,), param_dtype=nets.DTYPE, rngs=nnx.Rngs(0))


REFUSED = {
    # 3 members × 5 places × (3 × 7 × 6 + 6) weights × 8 bytes.
    "layers.0' a weight drives several neurons, .* at least 15,840 bytes.*nnx.Linear.* ottt_a": (
        lambda: small(Synapse(convolution()), LIF()),
        (nets.BATCH, 5, 7),
    ),
    # 3 members × 4 neurons × (7 × 6 + 6 + 6 × 4 + 4) weights × 8 bytes.
    "layers.0' a weight drives several neurons, .* at least 7,296 bytes": (
        lambda: small(Synapse(nnx.Sequential(dense(), dense(6, 4))), LIF()),
        (nets.BATCH, 7),
    ),
    "Synapse at 'layers.1' is given what another Synapse returned.* Put neurons between": (
        lambda: small(Synapse(dense()), Synapse(lambda x: x[:, ::-1]), LIF()),
        (nets.BATCH, 7),
    ),
    "Synapse at 'layers.0' mixes the members of its batch, by a sum. .*each member by itself": (
        lambda: small(Synapse(nnx.Sequential(lambda x: x - x.mean(0), dense())), LIF()),
        (nets.BATCH, 7),
    ),
    "by the weights of a Synapse.* the array that enters the Synapse at 'layers.1' is made with the learned": (
        lambda: small(dense(7, 7), Synapse(dense()), LIF()),
        (nets.BATCH, 7),
    ),
    "SlidingPSN at 'layers.1': the rule 'ostl' keeps the derivatives of each neuron's own memory": (
        lambda: small(Synapse(dense()), NEURONS["SlidingPSN"](), readout=LeakyReadout(0.5)),
        (nets.BATCH, 7),
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_a_derivative_for_each_weight_cannot_do(message):
    make, shape = REFUSED[message]
    with pytest.raises(ValueError, match=message):
        bind(make(), rules.ostl(), jnp.ones(shape), nets.STEPS, True)


def test_weights_of_other_forms_and_currents_put_together():
    """A transposed kernel, a normalised one, several inputs; streams of currents with gains, and beside one another."""

    class Own(nnx.Module):
        def __init__(self, rngs):
            self.kernel, self.gain = nnx.Param(0.9 * rngs.normal((9, 7))), nnx.Param(1 + 0.1 * rngs.normal((9,)))

        def __call__(self, a, b):
            norm = jnp.sqrt(jnp.sum(self.kernel[...] ** 2, 1, keepdims=True))
            return jnp.einsum("bi,oi->bo", a + jnp.tanh(b), 2 * self.kernel[...] / norm) * self.gain[...]

    class Net(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(4)
            self.own, self.first, self.second = Synapse(Own(rngs)), Synapse(dense(7, 9)), Synapse(dense(7, 4))
            self.lif, self.last, self.readout = LIF(0.7), Synapse(dense(13, nets.CLASSES)), InstantReadout()

        def __call__(self, x):
            both = self.own(x, -x * x) - 0.7 * self.first(x) / 2
            return self.readout(self.last(self.lif(concatenate(self.second(x), both))))

    ours, exact = (gradient(rule, Net()) for rule in (rules.ostl(), rules.bptt()))
    nets.assert_trees_close(ours, exact, rtol=1e-12)
