"""Layers of one shape, stacked by nnx.vmap and run by nnx.scan, are the same net as a Python loop over them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, SPSN, Dropout, LeakyReadout, Synapse
from tests import nets
from tests.tables import BROAD, families, rule_by_rule

pytestmark = pytest.mark.usefixtures("x64")

LAYERS = 2
RULES = {**{name: make() for name, make in BROAD.items()}, "bptt, layerwise": rules.bptt(layerwise=True)}
LAYERWISE = [name for name, rule in RULES.items() if rule.propagation.whole_sequence]


def image():
    return jnp.asarray(np.random.default_rng(0).normal(0.5, 1.5, (nets.BATCH, 7)))


class Block(nnx.Module):
    def __init__(self, rngs, make=LIF):
        self.synapse, self.lif = Synapse(nets._dense(9, 9, rngs)), make()
        self.synapse.layer.bias[...] += 0.4

    def __call__(self, x):
        return self.lif(self.synapse(x))


class Residual(nnx.Module):
    def __init__(self, rngs):
        self.lif, self.dropout = LIF(), Dropout(0.3, rngs=rngs)
        self.synapse = Synapse(nets._dense(9, 9, rngs))

    def __call__(self, x):
        return x + self.synapse(self.dropout(self.lif(x)))


def stacked(make):
    rngs = nnx.Rngs(1)
    return nnx.split_rngs(splits=LAYERS)(nnx.vmap(make, in_axes=(0,), out_axes=0))(rngs)


class Net(nnx.Module):
    """A stem, blocks, and a readout."""

    def __init__(self, make=Block, stem=True):
        rngs = nnx.Rngs(0)
        self.first, self.lif = Synapse(nets._dense(7, 9, rngs)), LIF() if stem else None
        self.blocks = stacked(make)
        self.last, self.readout = Synapse(nets._dense(9, nets.CLASSES, rngs)), LeakyReadout(0.5)

    def __call__(self, x):
        x = self.first(x)
        return self.readout(self.last(self.through(x if self.lif is None else self.lif(x))))

    def through(self, x):
        return nnx.scan(lambda block, x: block(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)(self.blocks, x)


class Unrolled(Net):
    """The same blocks one by one."""

    def __init__(self, *options):
        super().__init__(*options)
        graphdef, state = nnx.split(self.blocks)
        self.blocks = nnx.List([nnx.merge(graphdef, jax.tree.map(lambda a, i=i: a[i], state)) for i in range(LAYERS)])

    def through(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Beside(Net):
    """The blocks side by side."""

    def through(self, x):
        return nnx.vmap(lambda block, x: block(x), in_axes=(0, None), out_axes=0)(self.blocks, x)


def computed(net, rule, x=None, steps=nets.STEPS):
    return nets.value_and_grad(nets.loss, rule, steps)(net, image() if x is None else x, nets.labels())


@pytest.mark.parametrize("name", rule_by_rule(RULES, families))
def test_a_loop_over_layers_is_the_unrolled_net(name):
    (value, aux), grads = computed(Net(), RULES[name])
    (expected, unrolled), one_by_one = computed(Unrolled(), RULES[name])
    nets.assert_fires(unrolled.rates)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    rates = [unrolled.rates[f"blocks.{i}.lif"] for i in range(LAYERS)]
    np.testing.assert_allclose(aux.rates["blocks.lif"], rates, rtol=1e-12)
    one_by_one["blocks"] = jax.tree.map(lambda *a: jnp.stack(a), *(one_by_one["blocks"][i] for i in range(LAYERS)))
    nets.assert_trees_close(grads, one_by_one)


@pytest.mark.parametrize("name", ["bptt", "ottt_a", "saf_f", "exodus"])
def test_stacked_dropout_draws_for_each_layer(name):
    x = jnp.broadcast_to(image(), (nets.STEPS, *image().shape))
    net = Net(Residual, False)
    (value, aux), _ = computed(net, RULES[name], x, None)
    nets.assert_fires({str(i): rate for i, rate in enumerate(aux.rates["blocks.lif"])})
    assert np.isfinite(value) and len(set(np.ravel(jax.random.key_data(net.blocks.dropout.rngs.key[...])))) > LAYERS
    assert net.blocks.dropout.rngs.count[...].tolist() == [2] * LAYERS  # once when made, once for this sequence
    assert computed(net, RULES[name], x, None)[0][0] != value


@pytest.mark.parametrize("make", [LIF, lambda: SPSN(rngs=nnx.Rngs(0))], ids=["LIF", "SPSN"])
def test_recorded_spikes_have_time_in_front(make):
    """SPSN needs all steps at once, so that the layers are in front of time when they report."""
    net = Net(lambda rngs: Block(rngs, make))
    spikes = safjax.simulate(net, image(), nets.STEPS).spikes
    assert {path: s.shape for path, s in spikes.items()} == {
        "lif": (nets.STEPS, nets.BATCH, 9),
        "blocks.lif": (nets.STEPS, LAYERS, nets.BATCH, 9),
    }


@pytest.mark.parametrize("name", LAYERWISE)
def test_a_carry_that_changes_its_form(name):
    """A static image is one x[B, ...], what neurons make of it is of all steps."""
    with pytest.raises(ValueError, match=r"loop over layers \(nnx.scan\).*jnp.broadcast_to\(x, \(T, \*x.shape\)\)"):
        jax.eval_shape(lambda: computed(Net(Residual, False), RULES[name]))


@pytest.mark.parametrize("name", ["ottt_a", *LAYERWISE])
def test_an_axis_of_layers_is_not_taken_for_time(name):
    with pytest.raises(ValueError, match=r"layer at 'last' was given an input of shape .* nnx.vmap.*nnx.List"):
        jax.eval_shape(lambda: computed(Beside(), RULES[name]))


class Noisy(nnx.Module):
    """A layer that makes its input anew at every step."""

    def __init__(self, rngs):
        self.synapse, self.noise, self.lif = Synapse(nets._dense(7, 9, rngs)), rngs["noise"].fork(), LIF()

    def __call__(self, x):
        noise = jax.random.uniform(self.noise(), (nets.BATCH, 7), nets.DTYPE, -1.0, 3.0)
        return self.lif(x + self.synapse(noise))


def test_what_is_made_anew_inside_a_loop_over_layers():
    with pytest.raises(ValueError, match="reaches the Synapse at 'blocks.synapse' is made anew by the net"):
        jax.eval_shape(lambda: computed(Net(Noisy), RULES["exodus"]))
    (value, aux), grads = computed(Net(Noisy), RULES["saf_e"])
    nets.assert_fires({str(i): rate for i, rate in enumerate(aux.rates["blocks.lif"])})
    nets.assert_trees_close(grads, computed(Net(Noisy), RULES["ottt_a"])[1])
    np.testing.assert_allclose(value, computed(Net(Noisy), RULES["bptt"])[0][0], rtol=1e-11)
