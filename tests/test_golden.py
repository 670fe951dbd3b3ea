"""The published OTTT code's numbers, matched in float64.

`golden/ottt_official.npz` holds inputs and results of the authors' PyTorch code: a VGG with cfg (6, M, 10, 512), T = 4,
λ = 0.5, θ = 1, sigmoid surrogate (α = 4), loss (0.95 CE + 0.05 MSE) / T a step. That code traces neither biases nor the
image, and its BPTT detaches the reset.
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
from safjax.nn import InstantReadout
from tests import nets

pytestmark = [pytest.mark.usefixtures("x64"), pytest.mark.device]
STEPS = 4


@pytest.fixture(scope="module")
def golden():
    with np.load(pathlib.Path(__file__).parent / "golden" / "ottt_official.npz") as file:
        return {key: file[key] for key in file.files}


def named(golden, prefix):
    """The arrays under `prefix` in our layouts, as {("features.0", "weight"): array}."""
    result = {}
    for key, value in golden.items():
        if key.startswith(prefix + "/"):
            layer, kind = key.removeprefix(prefix + "/").rsplit(".", 1)
            if kind == "weight":
                value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
            result[layer, kind] = value.reshape(-1) if kind == "gain" else value
    return result


PLACES = {
    "features.0": ("features", "layers", 0, "layer", "layers", 1),
    "features.4": ("features", "layers", 2, "layer", "layers", 1),
    "features.7": ("features", "layers", 4, "layer", "layers", 1),
    "classifier.0": ("classifier", "layer", "layers", 2),
}


def ours(tree):
    """A tree of our net's parameters under the published names."""
    flat = dict(nnx.to_flat_state(nnx.as_pure(tree)))
    kinds = {"kernel": "weight", "bias": "bias", "gain": "gain"}
    back = {place: name for name, place in PLACES.items()}
    return {(back[path[:-1]], kinds[path[-1]]): np.asarray(value) for path, value in flat.items()}


@pytest.fixture
def net(golden, x64):
    net = safjax.models.SpikingVGG(
        5, cfg=(6, "M", 10, 512), readout=InstantReadout(), param_dtype=jnp.float64, rngs=nnx.Rngs(0)
    )
    flat = dict(nnx.to_flat_state(nnx.state(net, nnx.Param)))
    theirs = named(golden, "param")
    kinds = {"kernel": "weight", "bias": "bias", "gain": "gain"}
    for name, place in PLACES.items():
        for kind, their_kind in kinds.items():
            if (*place, kind) in flat:
                flat[*place, kind].set_value(jnp.asarray(theirs.pop((name, their_kind))))
    assert not theirs
    return net


@pytest.fixture
def data(golden, x64):
    return jnp.asarray(golden["x"].transpose(0, 2, 3, 1)), jnp.asarray(golden["y"])


def loss(output, labels):
    one_hot = jax.nn.one_hot(labels, 5, dtype=output.dtype)
    return 0.95 * optax.softmax_cross_entropy(output, one_hot).mean() + 0.05 * jnp.mean((output - one_hot) ** 2)


PUBLISHED = {
    "grad_ottt_a": rules.ottt_a(trace_bias=False, trace_input=False),
    "grad_sltt": rules.sltt(),
    "grad_bptt": rules.bptt(detach_reset=True),
}


@pytest.mark.parametrize("prefix", PUBLISHED)
def test_gradients_and_logits(prefix, golden, net, data):
    (_, aux), grads = safjax.value_and_grad(loss, PUBLISHED[prefix], STEPS, outputs="all")(net, *data)
    nets.assert_fires(aux.rates, low=0.03)
    np.testing.assert_allclose(aux.outputs, golden["logits"], rtol=1e-9, atol=1e-12)
    expected, actual = named(golden, prefix), ours(grads)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=1e-9, atol=1e-9 * np.abs(value).max(), err_msg=str(name))


def test_online_updates(golden, net, data):
    """T updates of SGD (rate 0.1, momentum 0.9), one a time step, with the gradient of loss / T."""
    rule = rules.ottt_o(trace_bias=False, trace_input=False)
    step = safjax.train_step(loss, rule, optax.sgd(0.1, momentum=0.9), STEPS, outputs="all")
    before = ours(nnx.state(net, nnx.Param))
    net, _, (_, aux) = step(net, step.init(net), *data)
    np.testing.assert_allclose(aux.outputs, golden["logits_online"], rtol=1e-9, atol=1e-12)
    expected, actual = named(golden, "after_ottt_o"), ours(nnx.state(net, nnx.Param))
    for name, value in expected.items():
        change = np.abs(value - before[name]).max()
        np.testing.assert_allclose(actual[name], value, rtol=0, atol=1e-9 * change, err_msg=str(name))


def test_the_exact_traces_are_another_gradient(golden, net, data):
    """The comparison above can fail: with the exact traces of biases and image the gradient differs visibly."""
    _, grads = safjax.value_and_grad(loss, rules.ottt_a(), STEPS, outputs="all")(net, *data)
    theirs, exact = named(golden, "grad_ottt_a"), ours(grads)
    assert np.abs(exact["features.0", "weight"] / theirs["features.0", "weight"] - 1).max() > 0.1
    assert np.abs(exact["features.4", "bias"] / theirs["features.4", "bias"] - 1).max() > 0.1
    np.testing.assert_allclose(exact["features.4", "weight"], theirs["features.4", "weight"], rtol=1e-6)
