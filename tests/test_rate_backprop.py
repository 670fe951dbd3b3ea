"""Rate-based back-propagation: the published code's numbers, and what it must equal, in float64.

`golden/rate_backprop.npz` holds inputs and results of the authors' code on two nets of three convolutions, T = 4,
λ = 0.2, θ = 1, sigmoid surrogate (α = 4), the reset detached, the image presented at every step. Its gradients are
those of the mean output's loss, divided by T.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import ops, rules
from safjax.nn import LIF, PLIF, BatchNorm, InstantReadout, ResetTo, Synapse
from safjax.surrogate import Sigmoid
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")
STEPS = 4


@pytest.fixture(scope="module")
def golden():
    with np.load(pathlib.Path(__file__).parent / "golden" / "rate_backprop.npz") as file:
        return {key: file[key] for key in file.files}


class Published(nnx.Module):
    """The golden's net; {place in the published list: place in ours} in `names`."""

    def __init__(self, normalised):
        rngs, self.layers = nnx.Rngs(0), nnx.List()
        for n_in, n_out in ((3, 6), (6, 8), (8, 10)):
            parts = [nnx.Conv(n_in, n_out, (3, 3), param_dtype=nets.DTYPE, rngs=rngs)]
            if n_in == 6:
                parts.insert(0, lambda x: ops.avg_pool(x, (2, 2)))
            if normalised:
                parts.append(BatchNorm(n_out, over="time", epsilon=1e-5, param_dtype=nets.DTYPE))
            self.layers.extend([Synapse(nnx.Sequential(*parts)), LIF(0.2, 1.0, Sigmoid(4.0))])
        dense = nnx.Linear(10, 5, param_dtype=nets.DTYPE, rngs=rngs)
        self.last, self.readout = Synapse(nnx.Sequential(ops.global_avg_pool, dense)), InstantReadout()

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.readout(self.last(x))

    def parts(self):
        """Its convolutions, normalisations and dense layer, in their order."""
        synapses = [*self.layers[::2], self.last]
        return [p for s in synapses for p in s.layer.layers if isinstance(p, nnx.Conv | BatchNorm | nnx.Linear)]


def by_part(golden, prefix):
    """The published arrays in our layouts, one dictionary for each part."""
    found = {}
    for key, value in golden.items():
        if key.startswith(prefix + "/"):
            place, kind = key.removeprefix(prefix + "/").rsplit(".", 1)
            if kind == "weight":
                kind, value = {
                    4: ("kernel", value.transpose(2, 3, 1, 0) if value.ndim == 4 else None),
                    2: ("kernel", value.T),
                    1: ("scale", value),
                }[value.ndim]
            found.setdefault(place, {})[kind] = value
    return [found[place] for place in sorted(found, key=lambda p: (p.startswith("classifier"), p))]


def published(golden, name):
    """The net with the published weights, and its data."""
    net = Published(name == "bn")
    for part, arrays in zip(net.parts(), by_part(golden, f"{name}/param"), strict=True):
        for kind, value in arrays.items():
            getattr(part, kind)[...] = jnp.asarray(value)
    return net, jnp.asarray(golden["x"].transpose(0, 2, 3, 1)), jnp.asarray(golden["y"])


def cross_entropy(output, labels):
    return optax.softmax_cross_entropy_with_integer_labels(output, labels).mean()


FORMS = {"by step": rules.rate_backprop(), "by layer": rules.rate_backprop(layerwise=True)}


@pytest.mark.parametrize(
    "form, name, kind", [("by step", "plain", "s"), ("by layer", "plain", "m"), ("by layer", "bn", "m")]
)
def test_the_published_numbers(golden, form, name, kind):
    rule, (net, x, y) = FORMS[form], published(golden, name)
    (value, aux), grads = safjax.value_and_grad(cross_entropy, rule, STEPS, record=("spikes",))(net, x, y)
    nets.assert_fires(aux.rates)
    for ours, place in zip(sorted(aux.records["spikes"]), (1, 4, 6) if name == "plain" else (2, 6, 9), strict=True):
        spikes = golden[f"{name}/spikes_rate_{kind}/feature.{place}"].transpose(0, 1, 3, 4, 2)
        assert np.array_equal(aux.records["spikes"][ours], spikes)
    np.testing.assert_allclose(value, golden[f"{name}/loss_rate_{kind}"], rtol=1e-13)
    np.testing.assert_allclose(aux.output, golden[f"{name}/logits_rate_{kind}"], rtol=1e-12)
    assert_published(grads, golden, name, f"{name}/grad_rate_{kind}")


def assert_published(grads, golden, name, prefix):
    """The gradients are T times the published ones."""
    graphdef = nnx.graphdef(Published(name == "bn"))
    parts = nnx.merge(graphdef, grads, nnx.state(Published(name == "bn"), nnx.Not(nnx.Param))).parts()
    for part, arrays in zip(parts, by_part(golden, prefix), strict=True):
        for kind, value in arrays.items():
            expected, actual = STEPS * value, getattr(part, kind)[...]
            # A bias in front of a batch normalisation has no gradient but for rounding.
            nothing = name == "bn" and isinstance(part, nnx.Conv) and kind == "bias"
            scale = 1.0 if nothing else np.abs(expected).max()
            np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12 * scale, err_msg=f"{part} {kind}")


class OneLayer(nnx.Module):
    """One layer of neurons, whose spikes are read out by a dense layer."""

    def __init__(self, neuron):
        rngs = nnx.Rngs(3)
        self.first, self.lif = Synapse(nets._dense(7, 12, rngs)), neuron
        self.last, self.readout = Synapse(nets._dense(12, nets.CLASSES, rngs)), InstantReadout()

    def __call__(self, x):
        return self.readout(self.last(self.lif(self.first(x))))


def param(value):
    return nnx.Param(jnp.asarray(value, nets.DTYPE))


NEURONS = {
    "LIF": lambda: LIF(0.6),
    "learned threshold": lambda: LIF(0.6, param(np.linspace(0.8, 1.2, 12))),
    "several spikes of learned height": lambda: LIF(0.6, param(1.1), reset=0.9, max_spikes=2, scaled=True),
    "floor": lambda: LIF(0.6, floor=-0.5),
    "set to a learned value": lambda: LIF(0.6, param(1.1), reset=ResetTo(param(np.linspace(-0.2, 0.2, 12)))),
    "no reset": lambda: LIF(0.6, param(1.4), reset=None),
    "PLIF, decayed input": lambda: PLIF(0.6, 0.3, param_dtype=nets.DTYPE, decay_input=True),
}


def inputs(steps=None):
    shape = (nets.BATCH, 7) if steps is None else (steps, nets.BATCH, 7)
    return jnp.asarray(np.random.default_rng(2).normal(0.2, 1.2, shape))


def of_the_mean(net, detach_reset, x, steps):
    """The exact gradient of the loss of the mean output."""
    whole = safjax.losses.SequenceLoss(lambda outputs, labels: nets.loss(outputs.mean(0), labels))
    (value, aux), grads = safjax.value_and_grad(whole, rules.bptt(detach_reset=detach_reset), steps)(
        net, x, nets.labels()
    )
    nets.assert_fires(aux.rates)
    return value, grads


@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize("kind", NEURONS)
def test_exact_for_one_layer_and_a_constant_input(kind, detach_reset):
    """Learned numbers of the neurons included: what a constant current answers to, they do too."""
    net, x = OneLayer(NEURONS[kind]()), inputs()
    rule = rules.rate_backprop(detach_reset=detach_reset)
    (value, _), grads = safjax.value_and_grad(nets.loss, rule, 9)(net, x, nets.labels())
    expected_value, expected = of_the_mean(net, detach_reset, x, 9)
    np.testing.assert_allclose(value, expected_value, rtol=1e-13)
    nets.assert_trees_close(grads, expected, rtol=1e-12)


@pytest.mark.parametrize("net", [nets.Conv, nets.Residual])
def test_bptt_at_one_step(net):
    net, x, y = net(), nets.image(), nets.labels()
    (value, _), grads = safjax.value_and_grad(nets.loss, rules.rate_backprop(), 1)(net, x, y)
    (expected_value, _), expected = safjax.value_and_grad(nets.loss, rules.bptt(), 1)(net, x, y)
    np.testing.assert_allclose(value, expected_value, rtol=1e-13)
    nets.assert_trees_close(grads, expected, rtol=1e-12)


def written_out(net, x, detach_reset):
    """The gradient of the net of mean rates at simulated spikes, the mean slopes summed up in NumPy."""
    run = safjax.simulate(net, x, record=("spikes", "potential"))

    def mean_slope(path):
        decay, total, answer = net.lif1.decay, 0.0, 0.0
        for u in run.records["potential"][path]:
            slope = jax.vmap(jax.grad(lambda v: net.lif1.surrogate(v)))((u - 1.0).ravel()).reshape(u.shape)
            answer = 1 + decay * answer
            total = total + slope * answer
            answer = answer * (1 if detach_reset else 1 - slope)
        return total / len(x)

    rates = {path: spikes.mean(0) for path, spikes in run.spikes.items()}
    slopes = {path: mean_slope(path) for path in rates}
    graphdef, params = nnx.split(net)

    def network(params):
        net = nnx.merge(graphdef, params)

        def layer(path, synapse, rate):
            current = synapse.layer(rate)
            return rates[path] + slopes[path] * (current - jax.lax.stop_gradient(current))

        one = layer("lif1", net.first, x.mean(0))
        two = layer("lif2", net.second, one)
        return nets.loss(net.last.layer(two), nets.labels())

    value, grads = jax.value_and_grad(network)(params)
    nets.assert_fires({path: rate.mean() for path, rate in rates.items()})
    return value, nnx.as_pure(grads)


@pytest.mark.parametrize("detach_reset", [True, False])
def test_a_sequence_counts_by_its_mean(detach_reset):
    net, x = nets.Dense(InstantReadout), inputs(6)
    rule = rules.rate_backprop(detach_reset=detach_reset)
    (value, _), grads = safjax.value_and_grad(nets.loss, rule)(net, x, nets.labels())
    expected_value, expected = written_out(net, x, detach_reset)
    np.testing.assert_allclose(value, expected_value, rtol=1e-12)
    nets.assert_trees_close(grads, expected, rtol=1e-12)


def test_close_to_bptt_across_layers():
    """An approximation there: near the exact gradient of the same loss, but not it."""
    net, x, steps = nets.Dense(InstantReadout), inputs(), 8
    _, grads = safjax.value_and_grad(nets.loss, rules.rate_backprop(), steps)(net, x, nets.labels())
    _, exact = of_the_mean(net, True, x, steps)
    assert 0.9 < nets.cosine(*nnx.as_pure((grads, exact))) < 1 - 1e-6


def test_members_of_several_lengths():
    """Each has the means over its own steps: the gradient is the mean of those that members have by themselves."""
    net, x, lengths = nets.Dense(InstantReadout), inputs(6), (6, 4, 2)
    compute = safjax.value_and_grad(nets.loss, rules.rate_backprop())
    (value, _), grads = compute(net, x, nets.labels(), lengths=jnp.array(lengths))
    alone = [compute(net, x[:n, i : i + 1], nets.labels()[i : i + 1]) for i, n in enumerate(lengths)]
    np.testing.assert_allclose(value, np.mean([value for (value, _), _ in alone]), rtol=1e-12)
    expected = jax.tree.map(lambda *g: sum(g) / len(g), *(nnx.as_pure(grads) for _, grads in alone))
    nets.assert_trees_close(grads, expected, rtol=1e-12)


def test_refused_by_name():
    y, compute = nets.labels(), safjax.value_and_grad(nets.loss, rules.rate_backprop(), 3)
    with pytest.raises(ValueError, match=r"'rate_backprop' differentiates means .* the Delay at 'delay' feeds"):
        compute(nets.Feedback(), nets.image(), y)
    with pytest.raises(ValueError, match=r"ALIF at 'lif': the rule 'rate_backprop' is defined for LIF and IF"):
        compute(OneLayer(safjax.nn.ALIF(0.6)), inputs(), y)
    net, x = nets.Dense(), inputs(3)
    compute = safjax.value_and_grad(nets.loss, rules.rate_backprop())
    with pytest.raises(ValueError, match="LIF at 'lif1': the rule 'rate_backprop' takes means .* without state"):
        compute(net, x, y, state=safjax.start(net, x, rules.sltt()))
