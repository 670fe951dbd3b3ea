"""Approx-OTPE: the published code's numbers, and loops that are written out, in float64.

`golden/otpe.npz` holds inputs and results of the authors' script: spikes x[T=6, B=4, 12], dense 14-10-5, every layer a
LIF, the output layer's spikes being the logits; gradients are those of the sum over the steps. Its OTTT and Approx-OTPE
leave biases untraced.
"""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, PLIF, InstantReadout, LeakyReadout, Synapse
from safjax.surrogate import Surrogate
from tests import by_hand, nets

pytestmark = pytest.mark.usefixtures("x64")


@dataclasses.dataclass(frozen=True)
class FastSigmoid(Surrogate):
    """1 / (k |x| + 1)²."""

    steepness: float

    def slope(self, x):
        return 1 / (self.steepness * jnp.abs(x) + 1) ** 2


@pytest.fixture(scope="module")
def golden():
    with np.load(pathlib.Path(__file__).parent / "golden" / "otpe.npz") as file:
        return {key: file[key] for key in file.files}


def published(golden):
    """The net with the published weights."""
    layers = []
    for i in range(3):
        dense = nnx.Linear(*golden[f"param/{i}.kernel"].shape, param_dtype=nets.DTYPE, rngs=nnx.Rngs(0))
        dense.kernel[...], dense.bias[...] = golden[f"param/{i}.kernel"], golden[f"param/{i}.bias"]
        layers += [Synapse(dense), LIF(float(golden["decay"]), 1.0, FastSigmoid(float(golden["slope"])))]
    return nnx.Sequential(*layers, InstantReadout())


def cross_entropy(output, labels):
    return optax.softmax_cross_entropy_with_integer_labels(output, labels).mean()


@pytest.mark.parametrize(
    "name, rule",
    [("approx_otpe", rules.approx_otpe()), ("ottt", rules.ottt_a(trace_bias=False)), ("bptt", rules.bptt())],
)
def test_the_published_numbers(golden, name, rule):
    x, labels = jnp.asarray(golden["x"], nets.DTYPE), jnp.asarray(golden["labels"])
    compute = safjax.value_and_grad(cross_entropy, rule, record=("spikes",), mean_over=1)
    (value, aux), grads = compute(published(golden), x, labels)
    nets.assert_fires(aux.rates)
    np.testing.assert_allclose(value, golden["loss"], rtol=1e-13)
    for i in range(3):
        assert np.array_equal(aux.records["spikes"][f"layers.{2 * i + 1}"], golden[f"spikes/{i}"])
        for kind in ("kernel", "bias"):
            expected = golden[f"grad_{name}/{i}.{kind}"]
            error = np.abs(grads["layers"][2 * i]["layer"][kind][...] - expected).max()
            assert error < 1e-12 * np.abs(expected).max(), (i, kind)


@pytest.mark.parametrize("name", by_hand.NETS)
def test_the_loop_written_out(name):
    make, functions, inputs = by_hand.NETS[name]
    compute = safjax.value_and_grad(nets.loss, rules.approx_otpe())
    (_, aux), grads = compute(make(), inputs(), nets.labels())
    nets.assert_fires(aux.rates)
    expected = by_hand.gradient(by_hand.ApproxOTPE, make(), functions, inputs(), nets.labels())
    nets.assert_trees_close(grads, expected, rtol=1e-11)


def test_online_it_updates_at_every_step():
    """At given weights the gradients of the steps add up to that of the sequence."""
    make, _, inputs = by_hand.NETS["spikes on two ways"]
    step = safjax.train_step(nets.loss, rules.approx_otpe(online=True), optax.sgd(1e-7))
    net = make()
    after, _, _ = step(net, step.init(net), inputs(), nets.labels())
    _, expected = safjax.value_and_grad(nets.loss, rules.approx_otpe())(make(), inputs(), nets.labels())
    before, now = (nnx.as_pure(nnx.state(net, nnx.Param)) for net in (make(), after))
    moved = jax.tree.map(lambda a, b: (a - b) / 1e-7, before, now)
    nets.assert_trees_close(moved, expected, rtol=1e-5)
    assert rules.approx_otpe(online=True).schedule.updates(7) == 7


@pytest.mark.parametrize(
    "neuron, match",
    [
        (lambda: LIF(0.5, nnx.Param(jnp.ones(9))), "LIF at 'layers.1' learns 'threshold'.*weights of synapses only"),
        (lambda: PLIF(0.5), "PLIF at 'layers.1' learns 'decay'"),
    ],
)
def test_what_neurons_learn_is_refused(neuron, match):
    layers = Synapse(nets._dense(7, 9, nnx.Rngs(0))), neuron(), LeakyReadout(0.5)
    with pytest.raises(ValueError, match=match):
        safjax.value_and_grad(jnp.mean, rules.approx_otpe())(nnx.Sequential(*layers), by_hand.vectors())
