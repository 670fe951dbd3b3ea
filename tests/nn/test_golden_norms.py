"""Normalisation over time as SpikingJelly 2.0 computes it, matched in float64.

`golden/spikingjelly_norms.npz` holds inputs and results of its `ThresholdDependentBatchNorm1d(0.7, 1.5, 5)`,
`TemporalEffectiveBatchNorm1d(4, 5)` and `BatchNormThroughTime1d(4, 5)`, behind a matrix product, for the loss Σ c y: of
one call in training, with gradients, and then of one in evaluation.
"""

import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.losses import Timed
from safjax.nn import BatchNorm, InstantReadout, StepWeights, Synapse

pytestmark = pytest.mark.usefixtures("x64")

STEPS, BATCH, FEATURES = 4, 6, 5
# PyTorch's momentum of 0.1.
MADE = {"momentum": 0.9, "param_dtype": jnp.float64}


@pytest.fixture(scope="module")
def golden():
    with np.load(pathlib.Path(__file__).parents[1] / "golden" / "spikingjelly_norms.npz") as file:
        return {key: file[key] for key in file.files}


def threshold_dependent(golden):
    """Theirs learns the product of what are two numbers here, d and γ."""
    norm = BatchNorm(FEATURES, over="time", deviation=0.7 * 1.5, **MADE)
    norm.scale[...], norm.bias[...] = jnp.asarray(golden["weight"]), jnp.asarray(golden["bias"])
    return [norm]


def temporal_effective(golden):
    norm, weights = BatchNorm(FEATURES, over="time", **MADE), StepWeights(STEPS, param_dtype=jnp.float64)
    norm.scale[...], norm.bias[...] = jnp.asarray(golden["weight"]), jnp.asarray(golden["bias"])
    weights.weight[...] = jnp.asarray(golden["step_scale"])
    return [norm, weights]


def through_time(golden):
    norm = BatchNorm(FEATURES, over="step", steps=STEPS, use_scale=False, use_bias=False, **MADE)
    weights = StepWeights(STEPS, FEATURES, param_dtype=jnp.float64)
    weights.weight[...] = jnp.asarray(golden["weights"])
    return [norm, weights]


def of_steps(golden, name):
    """What theirs holds in a list of T layers."""
    return np.stack([golden[name.format(t)] for t in range(STEPS)])


EXODUS, BPTT = rules.exodus(), rules.bptt()
CASES = [
    ("tdBN", threshold_dependent, EXODUS),
    ("TEBN", temporal_effective, EXODUS),
    ("BNTT", through_time, EXODUS),
    ("BNTT", through_time, BPTT),
]


@pytest.mark.parametrize(("name", "make", "rule"), CASES, ids=[f"{name}, {rule.name}" for name, _, rule in CASES])
def test_it_is_theirs(golden, name, make, rule):
    dense = nnx.Linear(7, FEATURES, use_bias=False, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    dense.kernel[...] = jnp.asarray(golden["kernel"])
    net = nnx.Sequential(Synapse(nnx.Sequential(dense, *make(golden))), InstantReadout())
    loss_and_grad = safjax.value_and_grad(lambda y, c: jnp.sum(y * c), rule, mean_over=1, outputs="all")
    (_, aux), grads = loss_and_grad(net, golden["x"], Timed(golden["cotangent"]))
    close = {"rtol": 1e-10, "atol": 1e-12}
    np.testing.assert_allclose(aux.outputs, golden[f"{name}/trained"], **close)
    norm = net.layers[0].layer.layers[1]
    ours = grads["layers"][0]["layer"]["layers"]
    np.testing.assert_allclose(ours[0]["kernel"][...], golden[f"{name}/grad/kernel"], **close)
    if name == "BNTT":
        np.testing.assert_allclose(ours[2]["weight"][...], of_steps(golden, "BNTT/grad/bn_list.{}.weight"), **close)
        means, variances = (of_steps(golden, f"BNTT/bn_list.{{}}.running_{n}") for n in ("mean", "var"))
        count = BATCH
    else:
        np.testing.assert_allclose(ours[1]["bias"][...], golden[f"{name}/grad/bias"], **close)
        theirs = norm.deviation * golden[f"{name}/grad/weight"]
        np.testing.assert_allclose(ours[1]["scale"][...], theirs, **close)
        means, variances = golden[f"{name}/running_mean"], golden[f"{name}/running_var"]
        count = STEPS * BATCH
    if name == "TEBN":
        np.testing.assert_allclose(ours[2]["weight"][...], golden["TEBN/grad/scale"], **close)
    np.testing.assert_allclose(norm.mean[...], means, **close)
    # Theirs divides what it adds to the running variance by n − 1.
    np.testing.assert_allclose(norm.var[...] - 0.9, (variances - 0.9) * (count - 1) / count, **close)
    norm.var[...] = jnp.asarray(variances)
    np.testing.assert_allclose(safjax.predict(net, golden["x"]), golden[f"{name}/evaluated"], **close)
