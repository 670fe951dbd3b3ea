"""What is written as a NIR graph means what the net computes: by NIR's own equations in NumPy, and read back."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax.models import SEWResNet, SpikingVGG
from safjax.nn import (
    IF,
    LIF,
    PLIF,
    AfterDecay,
    AxonalDelay,
    BatchNorm,
    CurrentLIF,
    Delay,
    InstantReadout,
    LeakyReadout,
    Recurrent,
    ResetTo,
    Synapse,
    WSConv,
    concatenate,
)
from safjax.ops import avg_pool, global_avg_pool
from tests import nets
from tests.nets import assert_fires
from tests.nir_reference import Simulator

nir = pytest.importorskip("nir")
from safjax.nir import ResetLost, from_nir, to_nir  # noqa: E402

pytestmark = pytest.mark.usefixtures("x64")

DT, STEPS, BATCH = 1e-4, 10, 2
ZERO = {"reset": ResetTo(0.0)}


def draw(*shape, low=0.0, high=1.0, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(low, high, shape))


def dense(given, made, seed=0, **options):
    normal = nnx.initializers.normal
    init = {"kernel_init": normal(1.6 / given**0.5), "bias_init": normal(0.3), "param_dtype": jnp.float64}
    return nnx.Linear(given, made, rngs=nnx.Rngs(seed), **{**init, **options})


def conv(given, made, kernel, seed=0, **options):
    normal = nnx.initializers.normal(1.6 / (given * np.prod(kernel)) ** 0.5)
    init = {"kernel_init": normal, "bias_init": nnx.initializers.normal(0.2), "param_dtype": jnp.float64}
    return nnx.Conv(given, made, kernel, rngs=nnx.Rngs(seed), **{**init, **options})


def kinds(graph):
    return [type(node).__name__ for node in graph.nodes.values()]


def first(x):
    """[T, B, ..., C] ↦ [T, B, C, ...]."""
    return np.moveaxis(np.asarray(x), -1, 2)


def agree(net, x, delayed=(), file=None, **options):
    """NumPy's outputs of the graph, and those of what is read back, are the net's; the graph."""
    graph = to_nir(net, x, DT, **options)
    run = safjax.simulate(net, x)
    assert_fires({path: float(np.mean(np.asarray(s) > 0)) for path, s in run.spikes.items()})
    expected = np.asarray(run.outputs)
    found = Simulator(graph, DT, delayed).run(first(x))["output"]
    np.testing.assert_allclose(np.moveaxis(found, 2, -1), expected, rtol=1e-10, atol=1e-12)
    if file is not None:
        nir.write(file, graph)
        graph = nir.read(file, type_check=False)
    np.testing.assert_allclose(safjax.predict(from_nir(graph), x), expected, rtol=1e-10, atol=1e-12)
    return graph


def images():
    """Asymmetric padding, dilation, groups, a net's own numbers for each neuron, functions of many kinds."""
    decays = nnx.Variable(draw(5, 6, 6, low=0.5, high=0.9))
    pooled = nnx.Sequential(lambda x: 2.0 * avg_pool(x, (3, 2), (2, 2), ((1, 1), (0, 0))), conv(6, 4, (2, 3)))
    return nnx.Sequential(
        Synapse(conv(4, 6, (3, 2), strides=(2, 2), kernel_dilation=(1, 2), feature_group_count=2)),
        LIF(decays, nnx.Variable(draw(6, low=0.6, high=1.0)), reset=ResetTo(nnx.Variable(draw(6, low=-0.2, high=0.1)))),
        Synapse(pooled),
        CurrentLIF(0.3, 0.6, 1.1, **ZERO),
        Synapse(nnx.Linear(4, 5, kernel_init=nnx.initializers.normal(1.0), param_dtype=jnp.float64, rngs=nnx.Rngs(2))),
        PLIF(0.7, decay_input=True, threshold=0.3, **ZERO),
        Synapse(nnx.Sequential(lambda x: x.reshape(len(x), -1), dense(45, 6))),
        IF(1.2, **ZERO),
        InstantReadout(),
    )


@pytest.mark.parametrize("gain", ["membrane", pytest.param("current", marks=pytest.mark.slow)])
def test_images(gain, tmp_path):
    graph = agree(images(), draw(STEPS, BATCH, 9, 12, 4, high=1.5), gain=gain, file=tmp_path / "net.nir")
    r = {
        name: np.asarray(node.r)
        for name, node in graph.nodes.items()
        if hasattr(node, "tau") or hasattr(node, "tau_mem")
    }
    assert all(np.all(v == 1) if gain == "current" else np.all(v > 1) for v in r.values())
    # Factors are in the weights, which every reader knows; but those of single places cannot be in a convolution's.
    assert kinds(graph).count("Scale") == (gain == "current")


class Loops(nnx.Module):
    """Recurrent weights with a bias, and feedback of the last layer to the first."""

    def __init__(self):
        self.first, self.second = Synapse(dense(5, 6, 1)), Synapse(dense(6, 4, 2))
        self.lif1 = Recurrent(LIF(0.6, **ZERO), Synapse(dense(6, 6, 3, bias_init=nnx.initializers.normal(1.0))))
        self.lif2 = CurrentLIF(0.2, 0.5, **ZERO)
        self.back, self.delay = Synapse(dense(4, 6, 4)), Delay()
        self.axon, self.last, self.readout = (
            AxonalDelay(jnp.array([0, 1, 2, 1])),
            Synapse(dense(4, 3, 5)),
            InstantReadout(),
        )

    def __call__(self, x):
        one = self.lif1(self.first(x) + 0.5 * self.back(self.delay.recall()))
        two = self.lif2(self.second(one))
        self.delay.keep(two)
        return self.readout(self.last(self.axon(two)))


@pytest.mark.parametrize("gain", [pytest.param("membrane", marks=pytest.mark.slow), "current"])
def test_loops(gain):
    x, delayed = draw(STEPS, BATCH, 5, high=2), [("lif1_synapse", "lif1_neuron"), ("back", "lif1_neuron")]
    graph = agree(Loops(), x, delayed, gain=gain)
    assert "Scale" not in kinds(graph) and kinds(graph).count("Delay") == 1
    # At the first step readers of NIR let no recurrent bias act.
    assert not np.any(graph.nodes["lif1_synapse"].bias) and not np.any(graph.nodes["back"].bias)


class Skip(nnx.Module):
    """A residual stream, two inputs of one synapse, and one step of delay that is in no loop."""

    def __init__(self):
        self.first, self.lif1, self.lif2 = Synapse(dense(5, 6, 1)), LIF(0.8, **ZERO), LIF(0.5, 0.8, **ZERO)
        self.both = Synapse(lambda a, b: jnp.concatenate([a, b], -1) @ draw(12, 4, low=-0.6, high=1.2))
        self.side, self.lif3 = Synapse(dense(10, 4, 3)), LIF(0.7, 3.0, **ZERO)
        self.second, self.delay = Synapse(dense(6, 6, 2)), Delay()
        self.readout = InstantReadout()

    def __call__(self, x):
        current = self.first(x)
        one = self.lif1(current)
        self.delay.keep(one)
        two = self.lif2(self.second(one) - 0.5 * current + self.delay.recall())
        three = self.lif3(self.side(concatenate(two, self.both(one, two))))
        return self.readout(2.0 * three + self.both(one, two))


def test_lines():
    """Along one axis, and matrices along the last of several."""
    net = nnx.Sequential(
        Synapse(conv(3, 4, (3,), strides=2, padding=((2, 0),))),
        LIF(0.8, 0.5, **ZERO),
        Synapse(dense(4, 5)),
        LIF(0.5, 0.9, **ZERO),
        Synapse(nnx.Sequential(lambda x: 0.7 * x, lambda x: x.reshape(len(x), -1), dense(30, 4))),
        InstantReadout(),
    )
    graph = agree(net, draw(STEPS, BATCH, 11, 3, high=1.5))
    assert "Scale" not in kinds(graph)
    assert kinds(graph)[1:4] == ["Conv1d", "LIF", "Conv1d"]


def test_sums():
    agree(Skip(), draw(STEPS, BATCH, 5, high=2))


RESETS = [1.0, 0.8, AfterDecay(), ResetTo(-0.3), None]


@pytest.mark.parametrize("reset", RESETS, ids=str)
def test_every_reset_comes_back(reset, tmp_path):
    """NIR itself knows one; of the others `from_nir` reads the metadata, and others are warned."""
    neuron = LIF(0.8, 1.3, reset=reset) if reset != 0.8 else CurrentLIF(0.3, 0.7, 2.0, reset=reset)
    neuron.threshold *= 2.0 if reset is None else 1.0
    net, x = nnx.Sequential(Synapse(dense(5, 6)), neuron, InstantReadout()), draw(STEPS, BATCH, 5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        graph = to_nir(net, x, DT)
    assert [w.category for w in caught] == ([ResetLost] if isinstance(reset, float | AfterDecay) else [])
    nir.write(tmp_path / "net.nir", graph)
    run = safjax.simulate(net, x)
    np.testing.assert_array_equal(safjax.predict(from_nir(nir.read(tmp_path / "net.nir")), x), run.outputs)
    assert_fires({path: float(s.mean()) for path, s in run.spikes.items()})
    if not caught:
        np.testing.assert_array_equal(Simulator(graph, DT).run(x)["output"], run.outputs)


@pytest.mark.filterwarnings("ignore::safjax.nir.ResetLost")
@pytest.mark.parametrize("make", [nets.Conv, pytest.param(nets.Feedback, marks=pytest.mark.slow)])
def test_nets_of_the_other_tests_come_back(make):
    """Standardised kernels, biases of feedback, a leaky readout."""
    net, x = make(), nets.video()
    graph = to_nir(net, x, DT)
    np.testing.assert_allclose(safjax.predict(from_nir(graph), x), safjax.predict(net, x), rtol=1e-10)
    assert kinds(graph)[-2:] == ["LI", "Output"]
    weights = np.asarray(graph.nodes["first"].weight)
    if make is nets.Conv:
        kernel = safjax.ops.standardisation.standardise(net.first.layer.kernel[...], net.first.layer.gain[...])
        np.testing.assert_allclose(weights, np.transpose(kernel, (3, 2, 0, 1)), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::safjax.nir.ResetLost")
def test_published_nets_come_back():
    """Gains before poolings, residual streams, normalisations; all of it by nodes that other libraries read."""
    floats = {"param_dtype": jnp.float64, "rngs": nnx.Rngs(0)}
    sew = SEWResNet(5, conv(1, 4, (3, 3)), stages=(1, 1), widths=(4, 8), **floats)
    for _, module in nnx.iter_modules(sew):
        if isinstance(module, BatchNorm):
            module.var[...] = draw(*module.var.shape, low=0.05, high=0.2)
    x = draw(6, BATCH, 8, 8, 1, high=5)
    for net in (SpikingVGG(10, cfg=(8, "M", 16), in_features=1, **floats), sew):
        graph = to_nir(net, x, DT)
        run = safjax.simulate(net, x)
        np.testing.assert_allclose(safjax.predict(from_nir(graph), x), run.outputs, rtol=1e-10)
        assert min(float(spikes.mean()) for spikes in run.spikes.values()) > 0.03
        assert "Scale" not in kinds(graph)


def test_a_leaky_readout_is_a_leaky_integrator_for_others():
    """v[t] = (1 − λᵗ) o[t]."""
    net, x = nnx.Sequential(Synapse(dense(3, 4)), LeakyReadout(0.8)), draw(6, BATCH, 3)
    graph = to_nir(net, x, DT)
    weighed = Simulator(graph, DT).run(x)["output"]
    outputs = safjax.predict(net, x)
    gain = 1 - 0.8 ** np.arange(1, 7)[:, None, None]
    np.testing.assert_allclose(weighed, gain * outputs, rtol=1e-12)
    np.testing.assert_allclose(safjax.predict(from_nir(graph), x), outputs, rtol=1e-12)


def test_batch_normalisation_is_folded_and_dropout_is_off():
    norm = BatchNorm(6, over="step", param_dtype=jnp.float64)
    norm.mean[...], norm.var[...] = draw(6), draw(6, low=0.5, high=2)
    dropout = safjax.nn.Dropout(0.5, rngs=nnx.Rngs(0))
    net = nnx.Sequential(Synapse(nnx.Sequential(dense(5, 6), norm)), LIF(0.8, 0.5, **ZERO), dropout, InstantReadout())
    graph = agree(net, draw(STEPS, BATCH, 5, high=2))
    assert kinds(graph) == ["Input", "Affine", "LIF", "Output"]


def test_learned_numbers_are_written_as_they_act():
    net = nnx.Sequential(LIF(nnx.Param(jnp.full(3, 0.5)), nnx.Param(jnp.full(3, 1.0)), **ZERO), InstantReadout())
    net.layers[0].decay[...] = jnp.array([-1.0, 0.5, 0.75])
    net.layers[0].threshold[...] = jnp.array([1.0, -2.0, 1.5])
    node = to_nir(net, jnp.ones((4, 1, 3)), DT).nodes["layers_0"]
    np.testing.assert_allclose(node.tau, DT / (1 - np.array([0.0, 0.5, 0.75])))
    np.testing.assert_allclose(node.v_threshold, [1.0, 1e-3, 1.5])


def test_a_function_is_known_by_what_it_does():
    """Means over space, reshapes in any order, matrices without a name."""
    reordered = Synapse(lambda x: jnp.flip(jnp.moveaxis(x, -1, 1), 2).reshape(len(x), -1))
    net = nnx.Sequential(
        Synapse(lambda x: 3.0 * x),
        LIF(0.5, 2.2, **ZERO),
        reordered,
        LIF(nnx.Variable(draw(24)), 1.2, **ZERO),
        Synapse(lambda x: jnp.cumsum(x, -1)[:, ::4] * 0.2),
        InstantReadout(),
    )
    graph = agree(net, draw(STEPS, BATCH, 3, 4, 2))
    assert kinds(graph) == ["Input", "Scale", "LIF", "Flatten", "LIF", "Linear", "Output"]
    pooled = nnx.Sequential(Synapse(WSConv(2, 4, rngs=nnx.Rngs(0))), Synapse(global_avg_pool), InstantReadout())
    assert kinds(to_nir(pooled, jnp.ones((1, 1, 4, 6, 2)), DT))[2:4] == ["AvgPool2d", "Flatten"]


def test_writing_leaves_the_net_as_it_was():
    net = nnx.Sequential(Synapse(dense(5, 6)), LIF(0.8, **ZERO), InstantReadout())
    before = jax.tree.leaves(nnx.state(net))
    to_nir(net, jnp.ones((2, 1, 5)), DT)
    assert all(a is b for a, b in zip(before, jax.tree.leaves(nnx.state(net)), strict=True))
    assert net.layers[0].binding is None
