"""Kernels scaled on a batch so that every layer fires, whatever stands between the layers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import (
    IF,
    LIF,
    PSN,
    BatchNorm,
    DelayedLinear,
    LeakyReadout,
    Recurrent,
    Synapse,
    WSConv,
    fold_batch_norms,
    scale_to_rate,
)
from safjax.nn.direct import direct_weights
from tests import nets
from tests.events import events, vgg

pytestmark = pytest.mark.usefixtures("x64")


def loss(output, labels):
    return optax.softmax_cross_entropy_with_integer_labels(8 * output, labels).mean()


STEP = safjax.train_step(loss, rules.bptt(), optax.adam(3e-3))
"""One for both nets: compiled once."""


def falls(net, x, labels):
    """How much of the loss is left after a few steps of training."""
    opt_state, values = STEP.init(net), []
    for _ in range(12):
        net, opt_state, (value, _) = STEP(net, opt_state, x, labels)
        values.append(float(value))
    return np.mean(values[-2:]) / values[0]


def test_a_deep_net_for_events_fires_and_learns():
    x, labels = events()
    assert 0.01 < float(x.mean()) < 0.04
    net = vgg()
    scaled = scale_to_rate(net, x)
    silent, *deep = [scaled.before[f"layers.{2 * k + 1}"] for k in range(8)]
    assert silent < 0.01 and max(deep) < 1e-3 and not any(deep[2:]), "without scaling it is silent"
    assert len(scaled.after) == 8 and all(0.08 <= rate <= 0.12 for rate in scaled.after.values())
    assert falls(scaled.net, x, labels) < 0.8 and falls(net, x, labels) > 0.98
    assert len(scaled.factors) == 8, "the readout's kernel stays"


@pytest.mark.slow
def test_the_rates_are_those_of_the_net_that_is_returned():
    x, _ = events()
    net = vgg(param_dtype=jnp.bfloat16)
    before = nnx.as_pure(nnx.state(net))
    scaled = scale_to_rate(net, x, rate=0.2)
    jax.tree.map(np.testing.assert_array_equal, nnx.as_pure(nnx.state(net)), before)
    run = safjax.simulate(scaled.net, x)
    for path, spikes in run.spikes.items():
        np.testing.assert_allclose(spikes.mean(), scaled.after[path], rtol=1e-5)
        assert 0.16 <= scaled.after[path] <= 0.24
    assert {a.dtype for a in jax.tree.leaves(nnx.state(scaled.net, nnx.Param))} == {
        jnp.bfloat16.dtype,
        jnp.float32.dtype,
    }


class Branches(nnx.Module):
    """Both convolutions are called before both layers of neurons; one dense layer stands at two places; recurrence."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        dense = functools.partial(nnx.Linear, rngs=rngs)
        self.left, self.right = (Synapse(nnx.Conv(2, 6, (3, 3), rngs=rngs)) for _ in range(2))
        self.norm, self.lifs = Synapse(WSConv(6, 6, rngs=rngs)), nnx.List([LIF(), IF(), LIF(), LIF(), LIF()])
        self.pooled, shared = lambda x: x.mean((1, 2)), dense(12, 12)
        self.one = Synapse(nnx.Sequential(self.pooled, dense(6, 12)))
        self.two = Synapse(nnx.Sequential(self.pooled, dense(6, 12)))
        self.recurrent = Recurrent(LIF(), Synapse(dense(12, 12)))
        self.shared, self.again = Synapse(nnx.Sequential(shared)), Synapse(nnx.Sequential(shared))
        self.last, self.readout = Synapse(dense(12, 2)), LeakyReadout(0.5)

    def __call__(self, x):
        left, right = self.left(x), self.right(x)
        a, b = self.lifs[0](left), self.lifs[1](right)
        b = self.lifs[2](self.norm(b))
        x = self.recurrent(self.one(a) + self.two(b))
        x = self.lifs[3](self.shared(x))
        return self.readout(self.last(self.lifs[4](self.again(x))))


def test_kernels_are_found_by_what_they_lead_to():
    found = direct_weights(Branches(), jax.ShapeDtypeStruct((3, 6, 6, 2), jnp.float32), 5, False)
    kernels = {path: sorted(w for w in weights if not w.endswith("bias")) for path, weights in found.items()}
    assert list(kernels.items()) == [
        ("lifs.0", ["left.layer.kernel"]),
        ("lifs.1", ["right.layer.kernel"]),
        ("lifs.2", ["norm.layer.gain", "norm.layer.kernel"]),
        (
            "recurrent.neuron",
            ["one.layer.layers.1.kernel", "recurrent.synapse.layer.kernel", "two.layer.layers.1.kernel"],
        ),
        ("lifs.3", ["again.layer.layers.0.kernel"]),
        ("lifs.4", ["again.layer.layers.0.kernel"]),
    ]


def test_branches_recurrence_and_shared_layers():
    scaled = scale_to_rate(Branches(), nets.video(steps=10))
    own = {path: rate for path, rate in scaled.after.items() if path != "lifs.4"}
    assert len(own) == 5 and all(0.08 <= rate <= 0.12 for rate in own.values()), own
    assert 0 < scaled.after["lifs.4"] <= 0.6, "what leads to it was scaled for other neurons"
    once = [path for path in scaled.factors if "again" in path or "shared" in path]
    assert len(once) == 1 and scaled.factors["norm.layer.gain"] != 1
    assert scaled.factors["one.layer.layers.1.kernel"] == scaled.factors["recurrent.synapse.layer.kernel"] != 1
    assert not any(path.startswith(("last", "norm.layer.kernel")) for path in scaled.factors)


class Stream(nnx.Module):
    """A residual stream of currents with an identity past every block, in an nnx.List."""

    def __init__(self, blocks=4):
        conv = functools.partial(nnx.Conv, 6, 6, (3, 3), rngs=nnx.Rngs(0))
        self.stem, self.readout = Synapse(nnx.Conv(2, 6, (3, 3), rngs=nnx.Rngs(1))), LeakyReadout(0.5)
        self.blocks = nnx.List([nnx.Sequential(LIF(), Synapse(conv()), LIF(), Synapse(conv())) for _ in range(blocks)])

    def __call__(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.readout(x)


def test_no_branch_of_a_residual_stream_is_silenced():
    x = nets.video(steps=8)
    scaled = scale_to_rate(Stream(), x)
    assert all(0.08 <= rate <= 0.6 for rate in scaled.after.values()), scaled.after
    assert all(0.08 <= scaled.after[f"blocks.{k}.layers.2"] <= 0.12 for k in range(4)), "all its current is its own"
    run = safjax.simulate(scaled.net, x, record=("current",)).records["current"]
    parts = [run[f"blocks.{k + 1}.layers.0"] - run[f"blocks.{k}.layers.0"] for k in range(3)]
    for k, part in enumerate(parts):
        assert float(jnp.std(part)) > 0.4 * float(jnp.std(run[f"blocks.{k}.layers.0"]))


def test_images_feedback_and_neurons_that_see_all_steps():
    scaled = scale_to_rate(nets.Feedback(), nets.image(), 8)
    assert all(0.08 <= rate <= 0.12 for rate in scaled.after.values()), scaled.after
    psn = nnx.Sequential(Synapse(nnx.Linear(7, 40, rngs=nnx.Rngs(0))), PSN(6, rngs=nnx.Rngs(1)), LeakyReadout(0.5))
    x = jnp.asarray(np.random.default_rng(0).normal(0, 1, (6, 8, 7)), jnp.float32)
    assert 0.08 <= scale_to_rate(psn, x).after["layers.1"] <= 0.12


def test_weights_with_delays():
    x = jnp.asarray(np.random.default_rng(0).normal(0, 1, (12, 8, 7)), jnp.float32)
    scaled = scale_to_rate(chain(DelayedLinear(7, 30, 3, rngs=nnx.Rngs(0)), LIF()), x)
    assert list(scaled.factors) == ["layers.0.kernel"] and 0.08 <= scaled.after["layers.1"] <= 0.12


def chain(*layers):
    return nnx.Sequential(*layers, LeakyReadout(0.5))


def dense(inputs=7, **options):
    return Synapse(nnx.Linear(inputs, 9, rngs=nnx.Rngs(0), **options))


class Own(nnx.Module):
    """A layer that holds its weights itself."""

    def __init__(self):
        self.weight = nnx.Param(jnp.ones((9, 9)))

    def __call__(self, x):
        return x @ self.weight[...]


@pytest.mark.parametrize(
    ("net", "says"),
    [
        (lambda: chain(dense(), LIF(), Synapse(Own()), LIF()), "'layers.3' cannot .*No kernel of a stock layer"),
        (lambda: chain(Synapse(lambda x: 0 * x), dense(), LIF()), "'layers.2' .* no input, reaches these"),
        (
            lambda: chain(dense(bias_init=nnx.initializers.constant(2.0)), LIF(), dense(9), LIF()),
            "'layers.1' .*fire at .*bias",
        ),
        (
            lambda: chain(Synapse(nnx.Sequential(dense().layer, BatchNorm(9, over="step"))), LIF()),
            "'layers.0.*in training",
        ),
    ],
)
def test_what_cannot_be_reached_is_named(net, says):
    x = jnp.asarray(np.random.default_rng(0).normal(0, 1, (12, 8, 7)), jnp.float32)
    with pytest.raises(ValueError, match=says):
        scale_to_rate(net(), x)


def test_bad_arguments():
    for rate in (0, 0.5, True, "0.1"):
        with pytest.raises(ValueError, match=r"rate=.*\(0, 0.5\)"):
            scale_to_rate(chain(dense(), LIF()), jnp.ones((3, 2, 7)), rate=rate)
    with pytest.raises(TypeError, match="net"):
        scale_to_rate(nnx.relu, jnp.ones((3, 2, 7)))


def test_stacked_layers_are_told_apart_by_nobody():
    make = nnx.vmap(lambda rngs: nnx.Sequential(Synapse(nnx.Linear(7, 7, rngs=rngs)), LIF()), in_axes=0, out_axes=0)
    stacked = nnx.split_rngs(splits=2)(make)(nnx.Rngs(0))

    class Net(nnx.Module):
        def __init__(self):
            self.first, self.blocks, self.readout = LIF(), stacked, LeakyReadout(0.5)

        def __call__(self, x):
            scan = nnx.scan(lambda block, x: block(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
            return self.readout(scan(self.blocks, self.first(x)))

    with pytest.raises(ValueError, match=r"'blocks.layers.1' are several layers.*nnx.List"):
        scale_to_rate(Net(), jnp.ones((3, 2, 7)))


def test_a_folded_net_can_be_scaled_and_one_that_fires_stays():
    norm = BatchNorm(9, over="step")
    net = chain(Synapse(nnx.Sequential(dense().layer, norm)), LIF())
    x = jnp.asarray(np.random.default_rng(0).normal(0, 1, (12, 8, 7)), jnp.float32)
    scaled = scale_to_rate(fold_batch_norms(net), x)
    assert scale_to_rate(scaled.net, x).factors == {"layers.0.layer.layers.0.kernel": 1.0}
