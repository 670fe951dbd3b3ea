"""Functions in a synapse that mix the members of a batch: refused where time steps lie in it, or members end."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, PSN, BatchNorm, Dropout, LeakyReadout, Synapse
from tests import nets
from tests.tables import BROAD

pytestmark = pytest.mark.usefixtures("x64")

LAYERWISE = {"exodus": rules.exodus(), "slayer": rules.slayer(), "bptt": rules.bptt(layerwise=True)}
LENGTHS = jnp.array([nets.STEPS, 2, 3])


def centred(x):
    return x - 0.5 * x.mean(0)


def softmax(x):
    return len(x) * jax.nn.softmax(x, 0)


def rolled(x):
    return jnp.roll(x, 1, 0)


def weighted(x):
    return x @ (x.T @ x) / len(x)


MIXED = {"a sum": centred, "a maximum": softmax, "an exchange of members": rolled, "a matrix product": weighted}


def net(first=None, second=None, neurons=LIF):
    def dense(n_in, n_out, function):
        layer = nets._dense(n_in, n_out, rngs)
        return Synapse(layer if function is None else nnx.Sequential(layer, function))

    rngs = nnx.Rngs(0)
    return nnx.Sequential(
        dense(7, 9, first), neurons(), dense(9, 8, second), LIF(), dense(8, nets.CLASSES, None), LeakyReadout(0.5)
    )


def image(seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(0.5, 1.5, (nets.BATCH, 7)))


def sequence():
    return jnp.stack([image(t) for t in range(nets.STEPS)])


def traced(make, rule, x, steps=None, lengths=None):
    """The gradient on shapes alone."""
    gradient = safjax.value_and_grad(nets.loss, rule, steps)
    return jax.eval_shape(lambda x, lengths: gradient(make(), x, nets.labels(), lengths=lengths), x, lengths)


@pytest.mark.parametrize("how", MIXED)
def test_layer_by_layer(how):
    make = functools.partial(net, second=MIXED[how])
    with pytest.raises(ValueError, match=f"Synapse at 'layers.2' mixes the members of its batch, by {how}. Under the"):
        traced(make, rules.exodus(), sequence())
    traced(make, rules.bptt(), sequence())


@pytest.mark.usefixtures("advice")
@pytest.mark.parametrize("rule", LAYERWISE)
def test_every_rule_that_goes_layer_by_layer(rule):
    with pytest.raises(ValueError, match=r"'layers.2' mixes .* Rules that train this net as it is: .*bptt, sltt"):
        traced(lambda: net(second=centred), LAYERWISE[rule], image(), nets.STEPS)


@pytest.mark.parametrize("rule", [*LAYERWISE, "bptt, step by step", "sltt", "ottt_a", "saf_f"])
def test_with_lengths(rule):
    rule = (
        LAYERWISE.get(rule)
        or {"sltt": rules.sltt, "ottt_a": rules.ottt_a, "saf_f": rules.saf_f}.get(rule, rules.bptt)()
    )
    for make in (lambda: net(first=centred), lambda: net(second=rolled)):
        with pytest.raises(ValueError, match=r"mixes the members .* With lengths some members have ended"):
            traced(make, rule, sequence(), lengths=LENGTHS)
    traced(net, rule, sequence(), lengths=LENGTHS)


def test_what_the_refusal_is_of():
    """Step by step, and in the first layer of a static image, the batch holds one step, so that it may be mixed."""
    gradients = {}
    for name, rule in {"bptt": rules.bptt(), "layerwise": rules.bptt(layerwise=True)}.items():
        result, grads = safjax.value_and_grad(nets.loss, rule, nets.STEPS)(net(first=centred), image(), nets.labels())
        nets.assert_fires(result[1].rates)
        gradients[name] = grads
    nets.assert_trees_close(gradients["layerwise"], gradients["bptt"])


def test_check_says_so():
    report = safjax.check(net(second=centred), image(), nets.STEPS)
    by_steps = (name for name, make in rules.RULES.items() if name in BROAD and not make().propagation.whole_sequence)
    assert report.trained_by == tuple(by_steps)
    assert [path for path, _ in report["exodus"].reasons] == ["layers.2"]


def test_neurons_of_all_steps_are_simulated_layer_by_layer():
    make = functools.partial(net, second=centred, neurons=lambda: PSN(nets.STEPS, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"'layers.2' mixes the members"):
        jax.eval_shape(lambda x: safjax.predict(make(), x), sequence())


class Attention(nnx.Module):
    """Over tokens, not over the batch."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.attend = nnx.MultiHeadAttention(num_heads=2, in_features=3, qkv_features=4, decode=False, rngs=rngs)

    def __call__(self, x):
        return self.attend(x.reshape(len(x), -1, 3)).reshape(x.shape)


@pytest.mark.parametrize(
    "make",
    [
        lambda: net(second=BatchNorm(8, over="step")),
        lambda: net(second=BatchNorm(8, over="time"), first=BatchNorm(9, over="step")),
        lambda: net(first=Attention()),
        lambda: net(first=nnx.Dropout(0.5, rngs=nnx.Rngs(0)), second=nnx.LayerNorm(8, rngs=nnx.Rngs(0))),
        lambda: net(second=nnx.Sequential(jax.vmap(jax.nn.softmax), lambda x: x.reshape(len(x), -1))),
    ],
)
def test_what_keeps_members_apart_or_knows_of_time_is_not_refused(make):
    traced(make, rules.exodus(), sequence())


def test_the_mask_of_a_sequence_is_not_refused():
    make = lambda: nnx.Sequential(net().layers[0], LIF(), Dropout(0.5, rngs=nnx.Rngs(0)), *net().layers[2:])  # noqa: E731
    traced(make, rules.exodus(), sequence(), lengths=LENGTHS)


def test_behind_statistics_that_know_of_time_mixing_is_seen():
    make = functools.partial(net, second=nnx.Sequential(BatchNorm(8, over="step"), rolled))
    with pytest.raises(ValueError, match=r"'layers.2' mixes the members of its batch, by an exchange"):
        traced(make, rules.exodus(), sequence())


def test_statistics_of_stock_layers_are_refused_by_their_own_name():
    make = functools.partial(net, second=nnx.BatchNorm(8, param_dtype=nets.DTYPE, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="flax layer BatchNorm at 'layers.2.layer.layers.1' changes its statistics"):
        traced(make, rules.exodus(), sequence())
