"""Rules that go layer by layer: EXODUS, SLAYER, and BPTT with time folded into the batch."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import IF, LIF, PLIF, CurrentLIF, Dropout, InstantReadout, LeakyReadout, Synapse
from safjax.surrogate import Exponential
from tests import nets
from tests.tables import BROAD, rule_by_rule

pytestmark = [pytest.mark.usefixtures("x64"), pytest.mark.device]

NETS = {"conv": nets.Conv, "residual": nets.Residual, "hybrid": nets.Hybrid}
INPUTS = {"static": (nets.image, nets.STEPS), "sequence": (nets.video, None)}


def gradients(net, rule, x, steps=None, loss=nets.loss, targets=None):
    (value, aux), grads = nets.value_and_grad(loss, rule, steps, outputs="all")(
        net, x, nets.labels() if targets is None else targets
    )
    nets.assert_fires(aux.rates)
    return value, aux, grads


@pytest.mark.parametrize("net, given", [("conv", "static"), ("residual", "sequence"), ("hybrid", "static")])
def test_layer_by_layer_equals_step_by_step(net, given):
    """Loss, outputs, rates and gradients; a static image's first synapse stays at B."""
    make, steps = INPUTS[given]
    value, aux, expected = gradients(NETS[net](), rules.bptt(), make(), steps)
    for rule in (rules.bptt(layerwise=True), rules.exodus()):
        ours, ours_aux, grads = gradients(NETS[net](), rule, make(), steps)
        np.testing.assert_allclose(ours, value, rtol=1e-13)
        np.testing.assert_allclose(ours_aux.outputs, aux.outputs, rtol=1e-12, atol=1e-14)
        assert jax.tree.map(float, ours_aux.rates) == pytest.approx(jax.tree.map(float, aux.rates), rel=1e-14)
        nets.assert_trees_close(grads, expected, rtol=1e-12)


@pytest.mark.parametrize("rule", [rules.bptt(layerwise=True, detach_reset=True), rules.slayer()])
def test_slayer_is_bptt_with_a_constant_reset(rule):
    *_, expected = gradients(nets.Conv(), rules.bptt(detach_reset=True), nets.video())
    *_, grads = gradients(nets.Conv(), rule, nets.video())
    nets.assert_trees_close(grads, expected, rtol=1e-12)


def test_exodus_slayer_and_sltt_differ():
    """In the first of three layers of neurons that remember long: no two of the gradients are within 0.95 in cosine."""
    grads = [
        gradients(nets.Dense(decay=0.95), rule, dense_input(40, mean=0.0))[2]["first"]
        for rule in (rules.exodus(), rules.slayer(), rules.sltt())
    ]
    for i, a in enumerate(grads):
        for b in grads[i + 1 :]:
            assert nets.cosine(a, b) < 0.95


def dense_input(steps=12, seed=0, mean=0.3):
    return jnp.asarray(np.random.default_rng(seed).normal(mean, 1.2, (steps, nets.BATCH, 7)))


class Learned(nnx.Module):
    """Learned decay, learned thresholds one for each neuron, a synaptic filter, a clamp, several spikes a step."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        sigma = Exponential(0.8)
        self.layers = nnx.List(
            [
                Synapse(nets._dense(7, 9, rngs)),
                PLIF(0.8, surrogate=sigma, shape=(9,), param_dtype=jnp.float64, floor=-0.5),
                Synapse(nets._dense(9, 8, rngs)),
                CurrentLIF(
                    nnx.Param(jnp.asarray(0.6, jnp.float64)),
                    0.7,
                    nnx.Param(jnp.linspace(1.3, 2.2, 8, dtype=jnp.float64)),
                    sigma,
                    max_spikes=2,
                ),
                Synapse(nets._dense(8, 8, rngs)),
                IF(nnx.Param(jnp.asarray(1.2, jnp.float64)), sigma, scaled=True, reset=0.9),
                Synapse(nets._dense(8, nets.CLASSES, rngs)),
                LeakyReadout(nnx.Param(jnp.asarray(0.9, jnp.float64))),
            ]
        )

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.mark.parametrize("pair", ["exodus", "exodus, associative scan", "slayer"])
def test_learned_constants(pair):
    """Decay, thresholds, synaptic decay, readout decay: through the closed form as through the loop."""
    ours, theirs = {
        "exodus": (rules.exodus(), rules.bptt()),
        "exodus, associative scan": (rules.exodus(parallel=True), rules.bptt(layerwise=True)),
        "slayer": (rules.slayer(), rules.bptt(detach_reset=True)),
    }[pair]
    value, _, expected = gradients(Learned(), theirs, dense_input())
    ours_value, _, grads = gradients(Learned(), ours, dense_input())
    np.testing.assert_allclose(ours_value, value, rtol=1e-13)
    nets.assert_trees_close(grads, expected, rtol=1e-12)


def test_the_sequence_mask_of_dropout_is_the_same_either_way():
    class Net(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0, dropout=1)
            self.inputs, self.drop = Dropout(0.2, rngs=rngs), Dropout(0.4, rngs=rngs)
            self.first, self.lif = Synapse(nets._dense(7, 20, rngs)), LIF()
            self.last, self.readout = Synapse(nets._dense(20, nets.CLASSES, rngs)), LeakyReadout()

        def __call__(self, x):
            return self.readout(self.last(self.drop(self.lif(self.first(self.inputs(x))))))

    for x, steps in ((dense_input(), None), (dense_input()[0], 6)):
        *_, expected = gradients(Net(), rules.bptt(), x, steps)
        *_, grads = gradients(Net(), rules.exodus(), x, steps)
        nets.assert_trees_close(grads, expected, rtol=1e-12)


class TwoStages(nnx.Module):
    """A readout in the middle: what comes after it changes with time, though the image does not.

    What stands before learns only if it is `learned`: rules that accumulate refuse it (tests/nn/test_front_kinds.py).
    """

    def __init__(self, learned):
        rngs = nnx.Rngs(6)
        self.first, self.lif1, self.between = Synapse(nets._dense(7, 9, rngs)), LIF(), InstantReadout()
        self.plain = nets._dense(9, 9, rngs)
        self.second, self.lif2 = Synapse(nets._dense(9, 8, rngs)), LIF()
        self.skip = Synapse(nets._dense(7, 8, rngs))
        for layer in () if learned else (self.first.layer, self.plain):
            layer.kernel, layer.bias = nnx.Variable(layer.kernel[...]), nnx.Variable(layer.bias[...])
        self.last, self.readout = Synapse(nets._dense(8, nets.CLASSES, rngs)), LeakyReadout()

    def __call__(self, x):
        middle = jax.nn.tanh(self.plain(self.between(self.lif1(self.first(x)))))
        return self.readout(self.last(self.lif2(self.second(middle) + self.skip(x))))


@pytest.mark.parametrize(
    "name", rule_by_rule({n: make for n, make in BROAD.items() if n != "bptt" and not make().schedule.of_mean_output})
)
def test_a_readout_in_the_middle(name):
    """Every rule fires the spikes of plain simulation, whatever it takes for static; EXODUS is BPTT."""
    x, rule = dense_input()[0], rules.RULES[name]()
    learned = not rule.propagation.accumulates
    _, expected_aux, expected = gradients(TwoStages(learned), rules.bptt(), x, 7)
    _, aux, grads = gradients(TwoStages(learned), rule, x, 7)
    np.testing.assert_allclose(aux.outputs, expected_aux.outputs, rtol=1e-11, atol=1e-13)
    if name == "exodus":
        nets.assert_trees_close(grads, expected, rtol=1e-12)


def test_rematerialisation_changes_no_gradient():
    *_, expected = gradients(nets.Conv(), rules.bptt(), nets.video())
    *_, grads = gradients(nets.Conv(), rules.bptt(remat=True), nets.video())
    nets.assert_trees_close(grads, expected, rtol=1e-12)
    with pytest.raises(
        ValueError, match=r"bptt\(layerwise=True, remat=True\).*Write bptt\(remat=True\), or exodus\(\)"
    ):
        rules.bptt(layerwise=True, remat=True)


def temporary(rule, net):
    """Temporary bytes of a training step on T = 100, B = 16."""
    step = safjax.train_step(nets.loss, rule, optax.sgd(0.1), outputs="all")
    lowered = step.lower(net, step.init(net), jnp.ones((100, 16, 100), jnp.float32), jnp.zeros(16, jnp.int32))
    return lowered.compile().memory_analysis().temp_size_in_bytes


def test_memory_of_the_whole_sequence_rules():
    """EXODUS keeps the potentials only, no more than BPTT's loop keeps; rematerialisation saves more."""
    net = safjax.models.SpikingMLP((100, 64, 64, 64, 5), rngs=nnx.Rngs(0))
    bptt = temporary(rules.bptt(), net)
    assert temporary(rules.exodus(), net) <= bptt
    assert temporary(rules.slayer(), net) <= bptt
    assert temporary(rules.bptt(remat=True), net) < 0.75 * bptt


def test_golden():
    """sinabs 3.1.3's two LIF layers, whose gradient passes through the reset; its arithmetic is float32 inside."""
    with np.load(pathlib.Path(__file__).parent / "golden" / "sinabs_lif.npz") as file:
        golden = {key: file[key] for key in file.files}
    decay, sigma = (
        float(golden["decay"]),
        Exponential(float(golden["surrogate_width"]), float(golden["surrogate_scale"])),
    )

    class Net(nnx.Module):
        def __init__(self):
            self.synapses = nnx.List([])
            for weight in (golden["w1"], golden["w2"]):
                dense = nnx.Linear(*weight.T.shape, use_bias=False, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
                dense.kernel[...] = jnp.asarray(weight.T)
                self.synapses.append(Synapse(dense))
            self.lifs = nnx.List([LIF(decay, 1.0, sigma), LIF(decay, 1.0, sigma)])
            self.seen = InstantReadout()

        def __call__(self, x):
            # Theirs decays the current too: v[t] = λ (v[t−1] − z[t−1]) + W x[t] with x as it comes.
            one = self.lifs[0](self.synapses[0](x))
            return self.seen(self.lifs[1](self.synapses[1](one)))

    def loss(output, target):
        return jnp.mean((output - target) ** 2)

    x, target = (jnp.asarray(golden[key].swapaxes(0, 1)) for key in ("x", "target"))
    (value, aux), grads = safjax.value_and_grad(loss, rules.exodus(), outputs="all")(
        Net(), x, safjax.losses.Timed(target)
    )
    spikes = safjax.simulate(Net(), x).spikes
    np.testing.assert_array_equal(spikes["lifs.0"].swapaxes(0, 1), golden["z1"])
    np.testing.assert_array_equal(spikes["lifs.1"].swapaxes(0, 1), golden["z2"])
    nets.assert_fires(aux.rates)
    np.testing.assert_allclose(value, golden["loss"], rtol=1e-6)
    for layer, key in enumerate(("grad_w1", "grad_w2")):
        expected = golden[key].T
        actual = grads["synapses"][layer]["layer"]["kernel"]
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    _, slayer = safjax.value_and_grad(loss, rules.slayer(), outputs="all")(Net(), x, safjax.losses.Timed(target))
    assert nets.distance(slayer, grads) > 0.1


def test_what_layer_by_layer_refuses():
    class Net(nnx.Module):
        def __init__(self, after):
            self.first, self.lif, self.readout = Synapse(nets._dense(7, 4, nnx.Rngs(0))), LIF(), InstantReadout()
            self.after = after

        def __call__(self, x):
            return self.after(self, self.lif(self.first(x)))

    def run(after):
        safjax.value_and_grad(lambda o: jnp.sum(o), rules.exodus(), outputs="all")(Net(after), dense_input())

    run(lambda net, s: s)
    with pytest.raises(TypeError, match="of all time steps.*Synapse"):
        run(lambda net, s: jnp.tanh(s))
    with pytest.raises(ValueError, match=r"leading axis, 3 or, with T = 12 folded in, 36"):
        run(lambda net, s: jnp.mean(net.readout(s)))
    with pytest.raises(ValueError, match="LIF at 'lif' is called twice"):
        run(lambda net, s: net.lif(s))
