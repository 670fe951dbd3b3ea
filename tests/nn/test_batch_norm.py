"""Batch normalisation: which steps its statistics are of, and what they are under every rule."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import BatchNorm, LeakyReadout, Synapse
from tests import nets
from tests.normalised import (
    ACCUMULATING,
    DEVIATION,
    EPSILON,
    EVERY,
    INPUTS,
    KINDS,
    MOMENTUM,
    Around,
    Net,
    Stacked,
    assert_same,
    norm,
    spike_trains,
    statistics,
    trained,
)

pytestmark = pytest.mark.usefixtures("x64")


@functools.cache
def step_by_step(kind):
    return trained(Net(), rules.bptt(), kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["bptt, remat", "bptt, layerwise", "exodus"])
def test_statistics_of_each_step_are_the_same_under_every_rule(name, kind):
    assert_same(trained(Net(), EVERY[name], kind), step_by_step(kind))


@pytest.mark.parametrize("name", ["sltt", "slayer"])
def test_statistics_do_not_hang_on_how_a_rule_differentiates(name):
    run, _, stats = trained(Net(), EVERY[name])
    expected_run, _, expected = step_by_step("sequence")
    np.testing.assert_allclose(run[1], expected_run[1], rtol=1e-12)
    nets.assert_trees_close(stats, expected, 1e-12)


def normalised(x, scale, bias, mean, var):
    return scale * DEVIATION * (x - mean) / (var + EPSILON) ** 0.5 + bias


def reference(x, over, layer, steps):
    """What T calls with one step each, or one with T·B as in SpikingJelly's multi-step mode, make of x[T, B, ..., C].

    The running variance is the biased one here; PyTorch's is n / (n − 1) times that.
    """
    scale, bias, mean, var = (np.asarray(v[...]) for v in (layer.scale, layer.bias, layer.mean, layer.var))
    y = []
    for part in x if over == "step" else [x.reshape(-1, *x.shape[2:])]:
        of = part.reshape(-1, part.shape[-1])
        m, v = of.mean(0), of.var(0)
        y.append(normalised(part, scale, bias, m, v))
        mean, var = MOMENTUM * mean + (1 - MOMENTUM) * m, MOMENTUM * var + (1 - MOMENTUM) * v
    return np.stack(y).reshape(x.shape), mean, var


CASES = [(over, name, kind) for over in ("step", "time") for name in ("bptt", "exodus") for kind in KINDS]
CASES.remove(("time", "bptt", "sequence"))  # refused


@pytest.mark.parametrize(("over", "name", "kind"), CASES)
def test_the_equations(over, name, kind):
    make, steps = INPUTS[kind]
    net = nnx.Sequential(Synapse(norm(2, over)), LeakyReadout(0.0))
    x = np.asarray(make())
    outputs, mean, var = reference(x if steps is None else np.stack([x] * steps), over, net.layers[0].layer, nets.STEPS)
    (_, aux), _ = safjax.value_and_grad(lambda o: jnp.mean(o**3), EVERY[name], steps, outputs="all")(net, x)
    np.testing.assert_allclose(aux.outputs, outputs, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(net.layers[0].layer.mean[...], mean, rtol=1e-12)
    np.testing.assert_allclose(net.layers[0].layer.var[...], var, rtol=1e-12)


@pytest.mark.parametrize("name", ["exodus", "bptt, layerwise"])
def test_the_gradient_over_time_is_that_of_plain_code(name):
    """Statistics over T·B, as of SpikingJelly's multi-step mode, in a net written out layer by layer."""
    net = Net(over="time")
    graphdef, params, stats = nnx.split(net, nnx.Param, ...)

    def fire(lif, currents):
        membrane, spikes = 0.0, []
        for current in currents:
            potential = lif.decay * membrane + current
            spikes.append(lif.surrogate(potential - lif.threshold))
            membrane = potential - lif.threshold * spikes[-1]
        return jnp.stack(spikes)

    def synapse(layers, x):
        *layers, norm = layers
        y = x.reshape(-1, *x.shape[2:])
        for layer in layers:
            y = layer(y)
        axes = tuple(range(y.ndim - 1))
        y = normalised(y, norm.scale[...], norm.bias[...], y.mean(axes), y.var(axes))
        return y.reshape(*x.shape[:2], *y.shape[1:])

    def unrolled(params):
        net = nnx.merge(graphdef, params, stats)
        spikes = fire(net.lif1, synapse(net.first.layer.layers, nets.video()))
        spikes = fire(net.lif2, synapse(net.second.layer.layers, spikes))
        mean, gain, losses = 0.0, 0.0, []
        for s in spikes:
            mean, gain = 0.5 * mean + net.last.layer(s), 0.5 * gain + 1
            losses.append(nets.loss(mean / gain, nets.labels()))
        return sum(losses) / nets.STEPS

    expected = nnx.as_pure(jax.jit(jax.grad(unrolled))(params))
    nets.assert_trees_close(trained(net, EVERY[name])[1], expected, 1e-11)


@pytest.mark.parametrize("name", ["bptt", "sltt", "exodus"])
def test_over_time_step_by_step_where_all_steps_are_alike(name):
    """The first synapse of an image: every step has the statistics of all, and together they count once."""
    expected = trained(Net(over="time", second=False), rules.bptt(layerwise=True), "image")
    actual = trained(Net(over="time", second=False), EVERY[name], "image")
    assert_same(actual, expected) if name != "sltt" else nets.assert_trees_close(actual[2], expected[2])


@pytest.mark.parametrize("momentum", [0.0, 0.99, 1.0])
@pytest.mark.parametrize("name", ["bptt", "exodus"])
def test_running_statistics_at_the_ends_of_the_momentum(name, momentum):
    layer = norm(2, "step", momentum=momentum)
    net, x, before = nnx.Sequential(Synapse(layer), LeakyReadout(0.0)), nets.video(), np.asarray(layer.mean[...])
    safjax.value_and_grad(jnp.mean, EVERY[name], outputs="all")(net, x)
    expected = momentum**5 * before
    expected += sum((1 - momentum) * momentum ** (4 - t) * np.asarray(x[t]).mean((0, 1, 2)) for t in range(5))
    np.testing.assert_allclose(layer.mean[...], expected, rtol=1e-12)


@pytest.mark.parametrize("steps", [nets.STEPS, None], ids=["image", "sequence"])
def test_outside_of_synapses(steps):
    shape = (nets.BATCH, 7) if steps else (nets.STEPS, nets.BATCH, 7)
    x = jnp.asarray(np.random.default_rng(0).normal(0, 1, shape))
    results = []
    for rule in (rules.bptt(), rules.exodus()):
        net = Around()
        (value, aux), grads = safjax.value_and_grad(nets.loss, rule, steps, outputs="all")(net, x, nets.labels())
        nets.assert_fires(aux.rates)
        # The readout's bias only moves what is normalised.
        del grads["net"]["last"]["layer"]["bias"]
        results.append(((value, aux.outputs), grads, statistics(net)))
    assert_same(*results, 1e-11)


ALIKE = ("bptt, remat", "bptt, layerwise", "slayer", "ottt_o", "saf_e", "ide")
"""Rules whose propagation another one has, or nearly so: among the slow tests."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in ALIKE else []) for n in EVERY])
def test_with_running_statistics_every_rule_trains_an_affine_map(name):
    """As the net whose weights and biases they are folded into."""
    net = Net(over="time" if name in ACCUMULATING else "step")
    net.eval()
    before = statistics(net)
    run, grads, after = trained(net, EVERY[name])
    jax.tree.map(np.testing.assert_array_equal, after, before)
    folded = Net(lambda features, *_: nnx.Sequential())
    for layer, of in ((folded.first.layer, net.first.layer), (folded.second.layer, net.second.layer)):
        *_, stock, norm = of.layers
        factor = norm.scale[...] * DEVIATION / jnp.sqrt(norm.var[...] + EPSILON)
        plain = layer.layers[-2]
        plain.kernel[...] = stock.kernel[...] * factor
        plain.bias = nnx.Param(norm.bias[...] - norm.mean[...] * factor)
        plain.use_bias = True
    expected_run, expected, _ = trained(folded, EVERY[name])
    np.testing.assert_allclose(run[1], expected_run[1], rtol=1e-10, atol=1e-12)
    nets.assert_trees_close(grads["last"], expected["last"], 1e-10)
    for part in ("first", "second"):
        *_, stock, norm = getattr(net, part).layer.layers
        *_, of_stock, of_norm = (grads[part]["layer"]["layers"][i] for i in sorted(grads[part]["layer"]["layers"]))
        (of_plain,) = expected[part]["layer"]["layers"].values()
        slope = DEVIATION / jnp.sqrt(norm.var[...] + EPSILON)
        nets.assert_trees_close(of_norm["bias"], of_plain["bias"], 1e-9)
        nets.assert_trees_close(of_stock["kernel"], of_plain["kernel"] * norm.scale[...] * slope, 1e-9)
        of_factor = jnp.sum(of_plain["kernel"] * stock.kernel[...], range(stock.kernel.ndim - 1))
        nets.assert_trees_close(of_norm["scale"], slope * (of_factor - norm.mean[...] * of_plain["bias"]), 1e-9)


def test_evaluation_is_one_map_for_all():
    for over in ("time", "step"):
        layer, x = norm(2, over), nets.image()
        layer.eval()
        scale, bias, mean, var = (np.asarray(v[...]) for v in (layer.scale, layer.bias, layer.mean, layer.var))
        np.testing.assert_allclose(layer(x), normalised(np.asarray(x), scale, bias, mean, var), rtol=1e-12)
    outputs = [safjax.predict(Net(over=over), nets.video()) for over in ("time", "step")]
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize(("over", "name"), [("step", "bptt"), ("time", "exodus")])
def test_in_a_loop_over_layers(over, name):
    results = []
    for scanned in (True, False):
        net = Stacked(over, scanned)
        (_, aux), grads = safjax.value_and_grad(nets.loss, EVERY[name], outputs="all")(
            net, spike_trains(), nets.labels()
        )
        nets.assert_fires({path: jnp.mean(rate) for path, rate in aux.rates.items()})
        trees = grads["blocks"], statistics(net)["blocks"]
        if not scanned:
            trees = [jax.tree.map(lambda *a: jnp.stack(a), *(tree[i] for i in range(2))) for tree in trees]
        results.append((aux.outputs, *map(dict, trees)))
    assert_same(results[0], results[1], 1e-11)


def test_half_precision():
    """Statistics of many values, and small differences from a large mean, are taken in float32."""
    layer = BatchNorm(2, over="time", dtype=jnp.bfloat16)
    net = nnx.Sequential(Synapse(layer), LeakyReadout(0.0))
    x = jnp.asarray(1000 + np.random.default_rng(0).normal(0, 8, (3, 400, 2)), jnp.bfloat16)
    (_, aux), _ = safjax.value_and_grad(lambda o: jnp.mean(o**2), rules.exodus(), outputs="all")(net, x)
    exact = np.asarray(x, np.float64).reshape(-1, 2)
    np.testing.assert_allclose(layer.mean[...], 0.01 * exact.mean(0), rtol=1e-5)
    np.testing.assert_allclose(layer.var[...], 0.99 + 0.01 * exact.var(0), rtol=1e-4)
    expected = (exact - exact.mean(0)) / exact.std(0)
    np.testing.assert_allclose(aux.outputs.reshape(-1, 2), expected, rtol=2**-7, atol=1e-3)
    layer.eval()
    assert layer(x[0]).dtype == jnp.bfloat16
