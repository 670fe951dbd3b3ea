"""Online stabilisation: the authors' normalisation by the statistics of all time and dynamic threshold, in float64.

`golden/osr.npz`: three normalised convolutions before neurons of dynamic threshold, λ = 0.5, sigmoid surrogate (α = 4),
an image shown T = 4 times, loss (0.95 CE + 0.05 MSE) / T a step, the state of the step before a constant (SLTT).
"""

import functools
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import DynamicThresholdLIF, InstantReadout, OnlineBatchNorm, Synapse
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")

PLACES = {"features.0": 0, "features.2": 2, "features.3": 4}
KINDS = {"synapse.weight": (-2, "kernel"), "bn.gamma": (-1, "scale"), "bn.beta": (-1, "bias")}


@pytest.fixture(scope="module")
def golden():
    with np.load(pathlib.Path(__file__).parents[1] / "golden" / "osr.npz") as file:
        return {key: file[key] for key in file.files}


def options():
    return {"param_dtype": jnp.float64, "rngs": nnx.Rngs(0)}


def ours(value):
    return jnp.asarray(value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T)


def block(golden, name, *before):
    def given(kind):
        return ours(golden[f"param/{name}.{kind}"])

    kernel = given("synapse.weight")
    conv = nnx.Conv(*kernel.shape[2:], (3, 3), **options())
    conv.kernel[...], conv.bias[...] = kernel, given("synapse.bias")
    numbers = {"momentum": float(golden["momentum"]), "epsilon": float(golden["eps"])}
    norm = OnlineBatchNorm(kernel.shape[-1], **numbers, param_dtype=jnp.float64)
    norm.scale[...], norm.bias[...] = given("bn.gamma"), given("bn.beta")
    norm.mean[...], norm.var[...] = (jnp.asarray(golden[f"running_{n}/{name}"]) for n in ("mean", "var"))
    return Synapse(nnx.Sequential(*before, conv, norm)), DynamicThresholdLIF(0.5, over="batch")


def made(golden):
    dense = nnx.Linear(10, 5, **options())
    dense.kernel[...], dense.bias[...] = ours(golden["param/classifier.weight"]), ours(golden["param/classifier.bias"])
    head = Synapse(nnx.Sequential(safjax.ops.global_avg_pool, dense))
    pool = functools.partial(safjax.ops.avg_pool, window=(2, 2))
    blocks = block(golden, "features.0"), block(golden, "features.2", pool), block(golden, "features.3")
    return nnx.Sequential(*(layer for two in blocks for layer in two), head, InstantReadout())


def close(actual, expected, what):
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max(), err_msg=what)


def test_it_is_theirs(golden):
    net, steps = made(golden), int(golden["T"])
    x, y = jnp.asarray(golden["x"].transpose(0, 2, 3, 1)), jnp.asarray(golden["y"])
    kept = {"outputs": "all", "record": ("threshold", "spikes")}
    (_, aux), grads = safjax.value_and_grad(nets.loss, rules.sltt(), steps, **kept)(net, x, y)
    nets.assert_fires(aux.rates)
    close(aux.outputs, golden["logits"], "logits")
    grads = nnx.as_pure(grads)["layers"]
    close(grads[6]["layer"]["layers"][1]["kernel"], ours(golden["grad/classifier.weight"]), "classifier")
    for name, place in PLACES.items():
        for member in range(len(y)):
            close(aux.records["threshold"][f"layers.{place + 1}"][:, member], golden[f"thresholds/{name}"], name)
        spikes = np.asarray(aux.records["spikes"][f"layers.{place + 1}"]).transpose(0, 1, 4, 2, 3)
        np.testing.assert_array_equal(spikes, golden[f"spikes/{name}"])
        layers = [layer for _, layer in sorted(grads[place]["layer"]["layers"].items())]
        for theirs, (layer, kind) in KINDS.items():
            close(layers[layer][kind], ours(golden[f"grad/{name}.{theirs}"]), f"{name}.{theirs}")
        # A constant that is normalised away: rounding errors.
        assert max(np.abs(layers[-2]["bias"]).max(), np.abs(golden[f"grad/{name}.synapse.bias"]).max()) < 1e-12
        assert_taken_in(golden, name, net.layers[place].layer.layers[-1], steps)


def assert_taken_in(golden, name, norm, steps):
    """What they do when the next sequence starts."""
    mean = golden[f"total_mean/{name}"] / steps
    var = golden[f"total_var/{name}"] / steps - mean**2
    kept = float(golden["momentum"])
    close(norm.mean[...], kept * golden[f"running_mean/{name}"] + (1 - kept) * mean, f"{name}, mean")
    close(norm.var[...], kept * golden[f"running_var/{name}"] + (1 - kept) * var, f"{name}, var")
