"""Neurons that fire by their batch-normalised potential: in training, in evaluation, and folded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import InstantReadout, LeakyReadout, NormalisedLIF, Refractory, ResetTo, Synapse, fold_batch_norms
from tests import nets
from tests.normalised import assert_same, spike_trains, statistics

pytestmark = pytest.mark.usefixtures("x64")

DECAY, RESET, MOMENTUM, EPSILON = 0.6, 0.8, 0.8, 1e-3


def neurons(features, seed=0, reset=RESET):
    options = {"momentum": MOMENTUM, "epsilon": EPSILON, "param_dtype": nets.DTYPE}
    layer = NormalisedLIF(features, DECAY, 0.9, reset=reset, **options)
    rng = np.random.default_rng(seed)
    for name, (low, high) in {"scale": (0.6, 1.2), "bias": (-0.2, 0.4), "mean": (0, 1), "var": (0.5, 2)}.items():
        getattr(layer.norm, name)[...] = jnp.asarray(rng.uniform(low, high, features))
    return layer


class Net(nnx.Module):
    """A convolution and a dense layer; the neurons of the second are set to zero, as the paper has it."""

    def __init__(self):
        # A bias before a normalisation has no gradient.
        rngs, options = nnx.Rngs(0), {"use_bias": False, "param_dtype": nets.DTYPE, "rngs": nnx.Rngs(0)}
        self.first, self.lif1 = Synapse(nnx.Conv(2, 4, (3, 3), **options)), neurons(4)
        dense = nnx.Sequential(lambda x: x.reshape(len(x), -1), nnx.Linear(6 * 6 * 4, 8, **options))
        self.second, self.lif2 = Synapse(dense), neurons(8, 1, ResetTo(0.0))
        self.last, self.readout = Synapse(nets._dense(8, nets.CLASSES, rngs)), LeakyReadout(DECAY)

    def __call__(self, x):
        return self.readout(self.last(self.lif2(self.second(self.lif1(self.first(x))))))


def trained(net, rule):
    (value, aux), grads = nets.value_and_grad(nets.loss, rule, outputs="all")(net, nets.video(), nets.labels())
    nets.assert_fires(aux.rates)
    return (value, aux.outputs), grads, statistics(net)


def fired(lif, currents):
    """Spikes, and the running statistics that a sequence leaves, written out."""
    norm, membrane, spikes = lif.norm, 0.0, []
    mean, var = norm.mean[...], norm.var[...]
    for current in currents:
        u = DECAY * membrane + current
        axes = tuple(range(u.ndim - 1))
        m, v = u.mean(axes), u.var(axes)
        mean, var = MOMENTUM * mean + (1 - MOMENTUM) * m, MOMENTUM * var + (1 - MOMENTUM) * v
        spikes.append(lif.surrogate(norm.scale[...] * (u - m) / jnp.sqrt(v + EPSILON) + norm.bias[...] - 0.9))
        membrane = u - RESET * 0.9 * spikes[-1] if lif.reset == RESET else (1 - spikes[-1]) * u
    return jnp.stack(spikes), {"mean": mean, "var": var}


def unrolled(net, x, labels):
    currents = jnp.stack([net.first.layer(a) for a in x])
    spikes, one = fired(net.lif1, currents)
    spikes, two = fired(net.lif2, jnp.stack([net.second.layer(s) for s in spikes]))
    mean, gain, losses, outputs = 0.0, 0.0, [], []
    for s in spikes:
        mean, gain = DECAY * mean + net.last.layer(s), DECAY * gain + 1
        outputs.append(mean / gain)
        losses.append(nets.loss(outputs[-1], labels))
    stats = {"lif1": {"norm": one}, "lif2": {"norm": two}}
    return sum(losses) / len(losses), (jnp.stack(outputs), stats)


@pytest.mark.parametrize("rule", [rules.bptt(), rules.bptt(layerwise=True), rules.sltt()], ids=str)
def test_it_is_plain_code(rule):
    graphdef, params, rest = nnx.split(Net(), nnx.Param, ...)

    def loss(params):
        return unrolled(nnx.merge(graphdef, params, rest), nets.video(), nets.labels())

    (value, (outputs, stats)), grads = jax.value_and_grad(loss, has_aux=True)(params)
    run, found, after = trained(Net(), rule)
    expected = (value, outputs), nnx.as_pure(grads), jax.tree.leaves(stats)
    if rule.name == "sltt":
        found = expected[1]  # another gradient, of the same run
    assert_same((run, nnx.as_pure(found), jax.tree.leaves(after)), expected, 1e-11)


def test_evaluated_and_folded():
    """A threshold of each feature, as the paper has it."""
    net, x = Net(), nets.video()
    loss_and_grad = safjax.value_and_grad(nets.loss, rules.bptt())
    for _ in range(6):
        loss_and_grad(net, x, nets.labels())  # leads the running statistics to those of the net
    folded = fold_batch_norms(net)
    assert folded.lif1.norm is None and net.lif1.norm is not None
    norm = net.lif1.norm
    expected = (0.9 - norm.bias[...]) * jnp.sqrt(norm.var[...] + EPSILON) / norm.scale[...] + norm.mean[...]
    np.testing.assert_allclose(folded.lif1.level[...], expected, rtol=1e-14)
    runs = [safjax.simulate(n, x, record=("spikes", "potential")) for n in (net, folded)]
    nets.assert_fires({path: jnp.mean(s) for path, s in runs[0].spikes.items()})
    jax.tree.map(np.testing.assert_array_equal, runs[1].spikes, runs[0].spikes)
    np.testing.assert_allclose(runs[1].outputs, runs[0].outputs, rtol=1e-12)
    for path, potential in runs[0].records["potential"].items():
        np.testing.assert_allclose(runs[1].records["potential"][path], potential, rtol=1e-12, atol=1e-12)


def plain(lif):
    """The last layer of neurons alone, on its currents."""
    return nnx.Sequential(lif, InstantReadout())


def test_folded_it_trains_under_every_rule():
    """With the spikes of the evaluated net."""
    lif, x = neurons(7), spike_trains() + 0.3
    lif.norm.bias[...] += jnp.asarray([1, 0, 1, 0, 0, 0, 0])  # a threshold below 0
    net, folded = plain(lif), fold_batch_norms(plain(lif))
    assert 0 < int(jnp.sum(folded.layers[0].level[...] < 0)) < 7
    spikes = safjax.simulate(net, x).outputs
    nets.assert_fires({"0": jnp.mean(spikes)})
    for rule in (rules.exodus(), rules.ottt_a(), rules.saf_e(), rules.bptt()):
        (_, aux), _ = safjax.value_and_grad(jnp.mean, rule, outputs="all")(folded, x)
        np.testing.assert_allclose(aux.outputs, spikes, atol=1e-12)


@pytest.mark.usefixtures("advice")
@pytest.mark.parametrize("name", ["ottt_a", "saf_f", "spike_representation", "exodus"])
def test_other_rules_refuse_it_by_name(name):
    with pytest.raises(ValueError, match=rf"NormalisedLIF at 'lif1': the rule '{name}'.*: bptt, sltt, bptt\(layer"):
        jax.eval_shape(
            lambda: safjax.value_and_grad(nets.loss, rules.RULES[name]())(Net(), nets.video(), nets.labels())[1]
        )


def test_what_fires_below_a_threshold_is_not_folded():
    lif = neurons(7)
    lif.norm.scale[...] = lif.norm.scale[...].at[2].set(-0.5)
    with pytest.raises(ValueError, match=r"'layers.0.norm' has a scale γ that is not positive for 1 of its 7 features"):
        fold_batch_norms(plain(lif))


def test_inputs_that_do_not_fit():
    with pytest.raises(ValueError, match=r"NormalisedLIF\(features=6\) at 'layers.0' .* \[3, 7\], .*\[B, ..., 6\]"):
        safjax.predict(plain(neurons(6)), spike_trains())
    with pytest.raises(ValueError, match="in training and has a single value of each feature"):
        safjax.value_and_grad(jnp.mean, rules.bptt())(plain(neurons(7)), spike_trains()[:, :1])
    with pytest.raises(ValueError, match="'layers.0.norm' is in training.*with lengths"):
        safjax.value_and_grad(jnp.mean, rules.bptt())(plain(neurons(7)), spike_trains(), lengths=jnp.array([2, 3, 5]))


def test_it_has_no_refractory_period():
    """Its running statistics would not follow."""
    with pytest.raises(TypeError, match="given a NormalisedLIF"):
        Refractory(neurons(7), 2)


def test_records():
    net, x = plain(neurons(7)), spike_trains()
    loss_and_grad = safjax.value_and_grad(jnp.mean, rules.bptt(), record=("normalised", "spikes"))
    records = loss_and_grad(net, x)[0][1].records
    normalised, norm = records["normalised"]["layers.0"], neurons(7).norm
    np.testing.assert_array_equal(normalised >= 0.9, records["spikes"]["layers.0"] == 1)
    np.testing.assert_allclose(normalised.mean(1), jnp.broadcast_to(norm.bias[...], (5, 7)), rtol=1e-9)
    with pytest.raises(
        ValueError, match="No layer of this net records 'batch_mean'. .*potential, normalised, membrane"
    ):
        safjax.value_and_grad(jnp.mean, rules.bptt(), record=("batch_mean",))(net, x)
