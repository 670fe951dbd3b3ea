"""Batch normalisation folded into the layers before it: the same net without it, or refused by name."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, BatchNorm, LeakyReadout, Synapse, WSConv, fold_batch_norms
from tests import nets
from tests.normalised import Stacked, norm, spike_trains

pytestmark = pytest.mark.usefixtures("x64")


def stock(features):
    layer = nnx.BatchNorm(features, epsilon=1e-3, param_dtype=nets.DTYPE, rngs=nnx.Rngs(0))
    for name, value in (("scale", 0.8), ("bias", 0.4), ("mean", 0.3), ("var", 1.4)):
        variable = getattr(layer, name)
        variable[...] = jnp.asarray(value + 0.2 * np.arange(features) / features, variable.dtype)
    return layer


class Net(nnx.Module):
    """Every layer that a normalisation is folded into; one of them stands in the net a second time without any."""

    def __init__(self):
        rngs, made = nnx.Rngs(0), {"param_dtype": nets.DTYPE, "rngs": nnx.Rngs(0)}
        grouped = nnx.Conv(2, 4, (3, 3), feature_group_count=2, use_bias=False, **made)
        standard = nets._randomised(WSConv(4, 5, **made))
        plain = nnx.Sequential(WSConv(4, 5, use_bias=False, **made), norm(5, "step", 3, use_scale=False))
        self.first, self.lif1 = Synapse(nnx.Sequential(grouped, norm(4, "time"))), LIF()
        self.second = Synapse(nnx.Sequential(standard, norm(5, "time", 1, use_bias=False), lambda x: x + 0.3))
        self.beside, self.third = Synapse(nnx.Sequential(standard)), Synapse(plain)
        self.lif2, self.lif3 = LIF(), LIF()
        pooled = lambda x: x.mean((1, 2))  # noqa: E731
        self.dense = Synapse(nnx.Sequential(pooled, nets._dense(5, 8, rngs), stock(8), norm(8, "step", 2)))
        self.last, self.readout = Synapse(nets._dense(8, nets.CLASSES, rngs)), LeakyReadout()

    def __call__(self, x):
        x = self.lif1(self.first(x))
        x = self.lif2(self.second(x) + 0.2 * self.beside(x) + 0.3 * self.third(x))
        return self.readout(self.last(self.lif3(self.dense(x))))


def assert_same_run(net, folded, x):
    runs = [safjax.simulate(n, x) for n in (net, folded)]
    nets.assert_fires({path: jnp.mean(s) for path, s in runs[0].spikes.items()})
    jax.tree.map(np.testing.assert_array_equal, runs[1].spikes, runs[0].spikes)
    np.testing.assert_allclose(runs[1].outputs, runs[0].outputs, rtol=1e-12, atol=1e-12)


def normalisations(net):
    return [p for p, m in nnx.iter_modules(net) if isinstance(m, BatchNorm | nnx.BatchNorm)]


def test_the_folded_net_is_the_evaluated_one():
    net = Net()
    before = nnx.as_pure(copy.deepcopy(nnx.state(net)))
    folded = fold_batch_norms(net)
    jax.tree.map(np.testing.assert_array_equal, nnx.as_pure(nnx.state(net)), before)
    assert len(normalisations(net)) == 5 and normalisations(folded) == []
    assert_same_run(net, folded, nets.video())
    # Where nothing is folded into it, a layer that stands at two places is as it was.
    np.testing.assert_array_equal(folded.beside.layer.layers[0].gain[...], net.second.layer.layers[0].gain[...])


def test_it_is_a_net_of_its_own_and_trains_under_sums():
    """A training step uses up the arrays of the net that it is given."""
    net, x = Net(), nets.video()
    folded = fold_batch_norms(net)
    step = safjax.train_step(nets.loss, rules.saf_f(), optax.sgd(0.1))
    with pytest.raises(ValueError, match="BatchNorm"):
        step.lower(net, step.init(net), x, nets.labels())
    step.lower(folded, step.init(folded), x, nets.labels())
    net.eval()
    step(net, step.init(net), x, nets.labels())
    safjax.predict(folded, x)


def test_stacked_layers():
    net = Stacked("time")
    folded = fold_batch_norms(net)
    assert normalisations(folded) == []
    runs = [safjax.predict(n, spike_trains()) for n in (net, folded)]
    np.testing.assert_allclose(*runs, rtol=1e-12)


def test_formats_stay():
    dense = nnx.Linear(4, 3, use_bias=False, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    net = nnx.Sequential(Synapse(nnx.Sequential(dense, BatchNorm(3, over="step"))), LIF(), LeakyReadout())
    layer = fold_batch_norms(net).layers[0].layer.layers[0]
    assert (layer.kernel.dtype, layer.bias.dtype) == (jnp.bfloat16, jnp.float32)


class Inside(nnx.Module):
    def __init__(self):
        self.dense, self.norm = nets._dense(7, 4, nnx.Rngs(0)), norm(4, "step")

    def __call__(self, x):
        return self.norm(self.dense(x))


class Own(BatchNorm):
    """Of one's own."""


def dense(features=4):
    return nets._dense(7, features, nnx.Rngs(0))


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (
            lambda: nnx.Sequential(dense(), nnx.relu, norm(4, "step")),
            "layers.0.layer.layers.2' stands behind the function 'relu'",
        ),
        (lambda: nnx.Sequential(norm(7, "step"), dense()), "layers.0.layer.layers.0' comes first in its"),
        (lambda: nnx.Sequential(nnx.Sequential(dense()), norm(4, "time")), "stands behind one of type Sequential"),
        (Inside, r"layers.0.layer.norm' is no entry of an nnx.Sequential.*write nnx.Sequential\(layer, norm\)"),
        (lambda: norm(7, "step"), "'layers.0.layer' is no entry"),
        (lambda: nnx.Sequential(dense(), BatchNorm(4, over="step", steps=3)), "running statistics for each step"),
        (lambda: nnx.Sequential(dense(), Own(4, over="step")), "something else than one scale"),
        (lambda: nnx.Sequential(dense(), nnx.BatchNorm(3, axis=1, rngs=nnx.Rngs(0))), "something else than one scale"),
        (lambda: nnx.Sequential(dense(), norm(3, "step")), r"shape \[3\], which do not fit .*\[7, 4\]"),
    ],
)
def test_what_cannot_be_folded_is_named(layer, says):
    net = nnx.Sequential(Synapse(layer()), LIF(), Synapse(nnx.Sequential(dense(), norm(4, "step"))), LeakyReadout())
    with pytest.raises(ValueError, match=says) as error:
        fold_batch_norms(net)
    assert "'layers.2" not in str(error.value)


def test_all_of_them_are_named():
    net = nnx.Sequential(Synapse(Inside()), LIF(), Synapse(nnx.Sequential(nnx.relu, norm(4, "step"))), LeakyReadout())
    with pytest.raises(ValueError, match=r"'layers.0.layer.norm'.*'layers.2.layer.layers.1'"):
        fold_batch_norms(net)
    with pytest.raises(TypeError, match="expected an nnx.Module"):
        fold_batch_norms(jnp.ones(3))
