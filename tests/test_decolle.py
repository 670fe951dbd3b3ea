"""DECOLLE as a net under SLTT: the numbers of the authors' package, in float64.

`golden/decolle.npz` holds inputs and results on two convolutions and a dense layer, T = 7; the first step learns
nothing and leaves its state.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from tests import nets
from tests.examples_of_the_field.decolle import Net, smooth_l1
from tests.torch_layouts import kernel

pytestmark = pytest.mark.usefixtures("x64")


@pytest.fixture(scope="module")
def golden():
    with np.load(pathlib.Path(__file__).parent / "golden" / "decolle.npz") as file:
        return {key: file[key] for key in file.files}


SIZES = ((5, 3, 3), (6, 3, 3), (10,))
"""Of what the layers send: channels, height, width."""


def published(golden):
    net = Net(
        nnx.Rngs(0),
        alpha=float(golden["alpha"]),
        beta=float(golden["beta"]),
        resting=float(golden["alpha_refractory"]),
        param_dtype=jnp.float64,
    )
    for i, own in enumerate(SIZES):
        base, local = learned(net.blocks[i].synapse.layer), net.local[i].layer.layers[1]
        for layer, name, below in (
            (base, f"LIF_layers.{i}.base_layer", SIZES[i - 1]),
            (local, f"readout_layers.{i}", own),
        ):
            layer.kernel[...] = kernel(golden[f"param/{name}.weight"], below)
            layer.bias[...] = jnp.asarray(golden[f"param/{name}.bias"])
    return net


def learned(layer):
    return layer.layers[1] if isinstance(layer, nnx.Sequential) else layer


def test_the_published_numbers(golden):
    net, x = published(golden), jnp.asarray(golden["x"].transpose(1, 0, 3, 4, 2))
    target = jnp.asarray(golden["target"])

    def loss(outputs, target):
        return sum(smooth_l1(output, target) for output in outputs)

    # The first step without learning; it leaves its state.
    stream = safjax.stream(net)
    state, _ = stream(stream.start(x[0]), x[0])
    compute = safjax.value_and_grad(loss, rules.sltt(), mean_over=1, outputs="all", record=("spikes",))
    (value, aux), grads = compute(net, x[1:], target, state=state)
    nets.assert_fires(aux.rates)
    for i in range(3):
        sent = aux.records["spikes"][f"blocks.{i}.sent"]
        spikes = golden[f"spikes/{i}"]
        assert np.array_equal(np.moveaxis(sent, -1, 2), spikes)
        np.testing.assert_allclose(aux.outputs[i], golden[f"readouts/{i}"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(value, golden["losses"].sum(), rtol=1e-12)
    ours = nnx.as_pure(grads)
    assert len(jax.tree.leaves(ours)) == 6
    for i in range(3):
        layer = ours["blocks"][i]["synapse"]["layer"]
        layer = layer["layers"][1] if "layers" in layer else layer
        name = f"grad/LIF_layers.{i}.base_layer"
        weight, bias = kernel(golden[f"{name}.weight"], SIZES[i - 1]), golden[f"{name}.bias"]
        for actual, expected in ((layer["kernel"], weight), (layer["bias"], bias)):
            np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
