"""Batch normalisation: which steps its statistics are of, under every rule, and what is refused."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, BatchNorm, LeakyReadout, Synapse
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")

STEPWISE = {"bptt": rules.bptt(), "bptt, remat": rules.bptt(remat=True), "sltt": rules.sltt()}
LAYERWISE = {"bptt, layerwise": rules.bptt(layerwise=True), "exodus": rules.exodus(), "slayer": rules.slayer()}
ACCUMULATING = {name: make() for name, make in rules.RULES.items() if make().propagation.accumulates}
EVERY = {**STEPWISE, **LAYERWISE, **ACCUMULATING}
MOMENTUM, EPSILON, DEVIATION = 0.8, 1e-3, 1.3


def norm(features, over, seed=0, **options):
    options = {"momentum": MOMENTUM, "epsilon": EPSILON, "deviation": DEVIATION, **options}
    layer, rng = BatchNorm(features, over=over, param_dtype=nets.DTYPE, **options), np.random.default_rng(seed)
    for variable, low, high in (
        (layer.scale, 0.6, 1.2),
        (layer.bias, -0.1, 0.9),
        (layer.mean, -1, 1),
        (layer.var, 1, 2),
    ):
        variable[...] = jnp.asarray(rng.uniform(low, high, features))
    return layer


class Net(nnx.Module):
    """Two hidden layers, a convolution and a dense one, both normalised."""

    def __init__(self, make=norm, over="step", second=True):
        rngs = nnx.Rngs(0)
        # A bias before a normalisation has no gradient.
        made = {"use_bias": False, "param_dtype": nets.DTYPE, "rngs": rngs}
        self.first, self.lif1 = Synapse(nnx.Sequential(nnx.Conv(2, 4, (3, 3), **made), make(4, over))), LIF()
        dense = nnx.Sequential(lambda x: x.reshape(len(x), -1), nnx.Linear(6 * 6 * 4, 8, **made))
        self.second = Synapse(nnx.Sequential(*dense.layers, make(8, over, 1)) if second else dense)
        self.lif2, self.last, self.readout = LIF(), Synapse(nets._dense(8, nets.CLASSES, rngs)), LeakyReadout(0.5)

    def __call__(self, x):
        return self.readout(self.last(self.lif2(self.second(self.lif1(self.first(x))))))


INPUTS = {"image": (nets.image, nets.STEPS), "sequence": (nets.video, None)}


def trained(net, rule, kind="sequence"):
    """The value, the outputs, the gradient and the running statistics after one batch."""
    make, steps = INPUTS[kind]
    (value, aux), grads = safjax.value_and_grad(nets.loss, rule, steps)(net, make(), nets.labels())
    nets.assert_fires(aux.rates)
    return (value, aux.outputs), grads, statistics(net)


def statistics(net):
    return nnx.as_pure(nnx.state(net, nnx.BatchStat))


def assert_same(actual, expected, rtol=1e-12):
    (run, grads, stats), (expected_run, expected_grads, expected_stats) = actual, expected
    for a, b in zip(jax.tree.leaves(run), jax.tree.leaves(expected_run), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)
    nets.assert_trees_close(grads, expected_grads, rtol)
    nets.assert_trees_close(stats, expected_stats, rtol)


@functools.cache
def step_by_step(kind):
    return trained(Net(), rules.bptt(), kind)


@pytest.mark.parametrize("kind", INPUTS)
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


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize(("over", "name"), [("step", "bptt"), ("step", "exodus"), ("time", "exodus"), ("time", "bptt")])
def test_the_equations(over, name, kind):
    make, steps = INPUTS[kind]
    if (over, name, kind) == ("time", "bptt", "sequence"):
        pytest.skip("refused, see below")
    net = nnx.Sequential(Synapse(norm(2, over)), LeakyReadout(0.0))
    x = np.asarray(make())
    outputs, mean, var = reference(x if steps is None else np.stack([x] * steps), over, net.layers[0].layer, nets.STEPS)
    (_, aux), _ = safjax.value_and_grad(lambda o: jnp.mean(o**3), EVERY[name], steps)(net, x)
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
    safjax.value_and_grad(jnp.mean, EVERY[name])(net, x)
    expected = momentum**5 * before
    expected += sum((1 - momentum) * momentum ** (4 - t) * np.asarray(x[t]).mean((0, 1, 2)) for t in range(5))
    np.testing.assert_allclose(layer.mean[...], expected, rtol=1e-12)


class Around(nnx.Module):
    """Normalised before the first synapse and after the readout, in plain code."""

    def __init__(self, over="step", front=norm):
        self.front, self.net, self.after = front(7, over), nets.Dense(), norm(nets.CLASSES, over, 1)

    def __call__(self, x):
        return self.after(self.net(2 * jnp.tanh(self.front(x))))


@pytest.mark.parametrize("steps", [nets.STEPS, None], ids=["image", "sequence"])
def test_outside_of_synapses(steps):
    shape = (nets.BATCH, 7) if steps else (nets.STEPS, nets.BATCH, 7)
    x = jnp.asarray(np.random.default_rng(0).normal(0, 1, shape))
    results = []
    for rule in (rules.bptt(), rules.exodus(), rules.bptt(layerwise=True)):
        net = Around()
        (value, aux), grads = safjax.value_and_grad(nets.loss, rule, steps)(net, x, nets.labels())
        nets.assert_fires(aux.rates)
        # The readout's bias only moves what is normalised.
        del grads["net"]["last"]["layer"]["bias"]
        results.append(((value, aux.outputs), grads, statistics(net)))
    for result in results[1:]:
        assert_same(result, results[0], 1e-11)


@pytest.mark.parametrize("name", EVERY)
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
    of_bias = expected["second"]["layer"]["layers"][1]["bias"]
    nets.assert_trees_close(grads["second"]["layer"]["layers"][2]["bias"], of_bias, 1e-9)
    nets.assert_trees_close(grads["last"], expected["last"], 1e-10)


def test_evaluation_is_one_map_for_all():
    for over in ("time", "step"):
        layer, x = norm(2, over), nets.image()
        layer.eval()
        scale, bias, mean, var = (np.asarray(v[...]) for v in (layer.scale, layer.bias, layer.mean, layer.var))
        np.testing.assert_allclose(layer(x), normalised(np.asarray(x), scale, bias, mean, var), rtol=1e-12)
    outputs = [safjax.predict(Net(over=over), nets.video()) for over in ("time", "step")]
    np.testing.assert_array_equal(*outputs)


def tried(make, rule, kind="sequence"):
    """As when it is called, but nothing is compiled."""
    inputs, steps = INPUTS[kind]
    return jax.eval_shape(lambda: safjax.value_and_grad(nets.loss, rule, steps)(make(), inputs(), nets.labels())[1])


@pytest.mark.parametrize("name", STEPWISE)
@pytest.mark.parametrize(("kind", "path"), [("sequence", "first.layer.layers.1"), ("image", "second.layer.layers.2")])
def test_steps_to_come_are_refused(name, kind, path):
    rule = EVERY[name].name
    with pytest.raises(
        ValueError, match=rf"over='time'\) at '{path}' .*'{rule}' goes step by step.*exodus.*over='step'"
    ):
        tried(lambda: Net(over="time"), EVERY[name], kind)


@pytest.mark.parametrize("over", ["time", "step"])
@pytest.mark.parametrize("name", ACCUMULATING)
def test_rules_that_accumulate_refuse_training_statistics(name, over):
    with pytest.raises(ValueError, match=rf"at 'first.layer.layers.1' is in training.*'{name}'.*net.eval\(\).*WSConv"):
        tried(lambda: Net(over=over), EVERY[name], "image")


class OwnNorm(nnx.BatchNorm):
    """A layer of one's own."""


class Counted(nnx.Module):
    """Keeps a statistic that is no normalisation's."""

    def __init__(self, features):
        self.largest = nnx.BatchStat(jnp.zeros(features))

    def __call__(self, x):
        self.largest[...] = jnp.maximum(self.largest[...], x.reshape(-1, x.shape[-1]).max(0))
        return x


@pytest.mark.parametrize("name", {**STEPWISE, **LAYERWISE})
@pytest.mark.parametrize("kind", INPUTS)
def test_a_stock_batch_norm_is_told_to_name_its_steps(name, kind):
    for stock in (nnx.BatchNorm, OwnNorm):
        make = functools.partial(Net, lambda features, *_, stock=stock: stock(features, rngs=nnx.Rngs(0)))
        says = rf"{stock.__name__} at 'first.layer.layers.1'.*BatchNorm\(4, over='step'\).*\(4, over='time'\)"
        with pytest.raises(ValueError, match=says):
            tried(make, EVERY[name], kind)

    def evaluated():
        net = make()
        net.eval()
        return net

    tried(evaluated, EVERY[name], kind)


class Spectral(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.norm = nnx.SpectralNorm(nnx.Linear(7, 7, rngs=rngs), rngs=rngs)

    def __call__(self, x):
        return self.norm(x, update_stats=True)


@pytest.mark.parametrize("name", ["bptt", "exodus"])
def test_other_statistics_that_would_depend_on_the_rule(name):
    with pytest.raises(ValueError, match=r"Counted at 'first.layer.layers.1' changes its statistics 'largest'"):
        tried(lambda: Net(lambda features, *_: Counted(features)), EVERY[name])
    with pytest.raises(ValueError, match=r"SpectralNorm at 'layers.0.layer.norm' changes its statistics.*Change them"):
        net = nnx.Sequential(Synapse(Spectral()), LIF(), LeakyReadout())
        safjax.value_and_grad(jnp.mean, EVERY[name])(net, jnp.ones((3, 2, 7)))


def test_stock_layers_in_front_are_refused_too():
    """Even of a static image: its statistics are the same, but would count T times or once."""
    stock = functools.partial(Around, front=lambda features, _: nnx.BatchNorm(features, rngs=nnx.Rngs(0)))
    for rule in (rules.bptt(), rules.exodus(), rules.saf_f()):
        with pytest.raises(ValueError, match=r"BatchNorm at 'front' .*over='step'"):
            safjax.value_and_grad(nets.loss, rule, 3)(stock(), jnp.ones((3, 7)), nets.labels())


class Stacked(nnx.Module):
    """Blocks of one shape, in nnx.scan or one by one."""

    def __init__(self, over, scanned=True):
        rngs, self.scanned = nnx.Rngs(1), scanned
        self.first, self.lif = Synapse(nets._dense(7, 9, nnx.Rngs(0))), LIF()
        self.last, self.readout = Synapse(nets._dense(9, nets.CLASSES, nnx.Rngs(2))), LeakyReadout(0.5)

        def make(rngs):
            dense = nnx.Linear(9, 9, use_bias=False, param_dtype=nets.DTYPE, rngs=rngs)
            return nnx.Sequential(Synapse(nnx.Sequential(dense, norm(9, over))), LIF())

        self.blocks = nnx.split_rngs(splits=2)(nnx.vmap(make, in_axes=(0,), out_axes=0))(rngs)
        if not scanned:
            graphdef, state = nnx.split(self.blocks)
            self.blocks = nnx.List([nnx.merge(graphdef, jax.tree.map(lambda a, i=i: a[i], state)) for i in range(2)])

    def __call__(self, x):
        x = self.lif(self.first(x))
        if self.scanned:
            x = nnx.scan(lambda block, x: block(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)(self.blocks, x)
        else:
            x = functools.reduce(lambda x, block: block(x), self.blocks, x)
        return self.readout(self.last(x))


def spike_trains():
    return jnp.asarray(np.random.default_rng(0).normal(0.5, 1.5, (nets.STEPS, nets.BATCH, 7)))


@pytest.mark.parametrize(("over", "name"), [("step", "bptt"), ("step", "exodus"), ("time", "exodus")])
def test_in_a_loop_over_layers(over, name):
    results = []
    for scanned in (True, False):
        net = Stacked(over, scanned)
        (_, aux), grads = safjax.value_and_grad(nets.loss, EVERY[name])(net, spike_trains(), nets.labels())
        nets.assert_fires({path: jnp.mean(rate) for path, rate in aux.rates.items()})
        trees = grads["blocks"], statistics(net)["blocks"]
        if not scanned:
            trees = [jax.tree.map(lambda *a: jnp.stack(a), *(tree[i] for i in range(2))) for tree in trees]
        results.append((aux.outputs, *map(dict, trees)))
    assert_same(results[0], results[1], 1e-11)


def test_in_a_loop_over_layers_nobody_knows_whether_steps_are_alike():
    with pytest.raises(ValueError, match=r"layer at 'blocks.layers.0.layer.layers.1' needs all .*inside a loop"):
        safjax.value_and_grad(nets.loss, rules.bptt(), 4)(Stacked("time"), spike_trains()[0], nets.labels())


@pytest.mark.parametrize("name", ["bptt", "exodus"])
def test_an_axis_that_is_not_the_batch(name):
    """Steps that a layer mixes into its batch could not be told apart."""

    def net(x):
        layers = nnx.Sequential(lambda x: x.reshape(-1, 7), norm(7, "step"), lambda x: x.reshape(-1, 14))
        return safjax.value_and_grad(jnp.mean, EVERY[name], 2)(nnx.Sequential(Synapse(layers), LeakyReadout(0.5)), x)

    with pytest.raises(ValueError, match=r"at 'layers.0.layer.layers.1' .* \[6, 7\], but its leading axis .* batch, 3"):
        net(jnp.ones((3, 14)))


def test_a_single_value_has_no_statistics():
    for rule in (rules.bptt(), rules.exodus()):
        with pytest.raises(ValueError, match=r"over='step'\) at 'layers.0.layer' .* single value .* over='time'"):
            safjax.value_and_grad(jnp.mean, rule)(
                nnx.Sequential(Synapse(norm(7, "step")), LeakyReadout(0.5)), jnp.ones((4, 1, 7))
            )


def test_half_precision():
    """Statistics of many values, and small differences from a large mean, are taken in float32."""
    layer = BatchNorm(2, over="time", dtype=jnp.bfloat16)
    net = nnx.Sequential(Synapse(layer), LeakyReadout(0.0))
    x = jnp.asarray(1000 + np.random.default_rng(0).normal(0, 8, (3, 400, 2)), jnp.bfloat16)
    (_, aux), _ = safjax.value_and_grad(lambda o: jnp.mean(o**2), rules.exodus())(net, x)
    exact = np.asarray(x, np.float64).reshape(-1, 2)
    np.testing.assert_allclose(layer.mean[...], 0.01 * exact.mean(0), rtol=1e-5)
    np.testing.assert_allclose(layer.var[...], 0.99 + 0.01 * exact.var(0), rtol=1e-4)
    expected = (exact - exact.mean(0)) / exact.std(0)
    np.testing.assert_allclose(aux.outputs.reshape(-1, 2), expected, rtol=2**-7, atol=1e-3)
    assert layer(x[0]).dtype == jnp.bfloat16 if layer.eval() is None else False


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"over": "batch"}, "over='batch'.*'time'.*'step'"),
        ({"over": "step", "momentum": 1.5}, "momentum=1.5.*in \\[0, 1\\]"),
        ({"over": "step", "deviation": 0}, "deviation=0.*positive"),
        ({"over": "step", "epsilon": -1}, "epsilon=-1.*positive"),
        ({"over": "step", "features": 0}, "features=0.*whole number"),
    ],
)
def test_bad_arguments(options, says):
    with pytest.raises(ValueError, match=says):
        BatchNorm(**{"features": 3, **options})
    with pytest.raises(ValueError, match=re.escape("shape [3, 4], but expected is [B, ..., 3]")):
        BatchNorm(3, over="step")(jnp.ones((3, 4)))
