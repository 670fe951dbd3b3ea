"""The theorems of spike accumulation forwarding (arXiv 2310.02772) and other identities between rules, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, InstantReadout, LeakyReadout
from tests import nets
from tests.tables import BROAD, families, rule_by_rule

pytestmark = [pytest.mark.usefixtures("x64"), pytest.mark.device]

NETS = {"conv": nets.Conv, "residual": nets.Residual, "hybrid": nets.Hybrid}
READOUTS = {"leaky": LeakyReadout, "instant": InstantReadout}


def gradients(net, rule, x, steps=None, labels=None):
    labels = nets.labels() if labels is None else labels
    (value, aux), grads = nets.value_and_grad(nets.loss, rule, steps, outputs="all")(net, x, labels)
    nets.assert_fires(aux.rates)
    return value, aux, grads


SLOW = [
    ("residual", True, "instant"),
    ("hybrid", True, "instant"),
    ("conv", False, "leaky"),
]
CASES = [
    (net, static, readout)
    for net in NETS
    for static in (True, False)
    for readout in READOUTS
    # What a stock layer makes of a sequence has no trace, see tests/nn/test_front.py.
    if static or net != "hybrid"
]


@pytest.mark.parametrize(
    "net, static, readout",
    [
        pytest.param(
            *c, marks=[pytest.mark.slow] if c in SLOW else [], id=f"{c[0]}-{'static' if c[1] else 'sequence'}-{c[2]}"
        )
        for c in CASES
    ],
)
def test_theorem_1_saf_e_equals_ottt_o(net, static, readout):
    """At given weights SAF-E and OTTT_O fire the same spikes and have the same gradient, biases included."""
    net = NETS[net](READOUTS[readout])
    x, steps = (nets.image(), nets.STEPS) if static else (nets.video(), None)
    value, aux, grads = gradients(net, rules.saf_e(), x, steps)
    expected_value, expected_aux, expected = gradients(net, rules.ottt_o(), x, steps)
    np.testing.assert_allclose(value, expected_value, rtol=1e-12)
    np.testing.assert_allclose(aux.outputs, expected_aux.outputs, rtol=1e-11, atol=1e-13)
    assert jax.tree.map(float, aux.rates) == jax.tree.map(float, expected_aux.rates)
    nets.assert_trees_close(grads, expected, rtol=1e-12)


def test_theorem_1_gap_of_updated_weights_is_first_order():
    """With an update at every step the two parameter changes differ by a fraction that falls linearly with the rate.

    OTTT's membrane remembers currents that older weights made; SAF reads the whole accumulation with the present ones.
    """

    def changes(rule, rate):
        net = nets.Conv()
        before = nnx.state(net, nnx.Param)
        optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=rate)
        step = safjax.train_step(nets.loss, rule, optimizer, nets.STEPS, outputs="all")
        after, _, _ = step(net, step.init(net), nets.image(), nets.labels())
        return optax.tree.sub(nnx.as_pure(nnx.state(after, nnx.Param)), nnx.as_pure(before))

    rates = [4e-4, 2e-4, 1e-4]
    gaps = [nets.distance(changes(rules.saf_e(), r), changes(rules.ottt_o(), r)) for r in rates]
    assert gaps[-1] > 1e-9
    np.testing.assert_allclose([gaps[0] / gaps[1], gaps[1] / gaps[2]], 2.0, rtol=0.05)


def representation_gradient(net, x, steps, slope):
    """The gradient of the rate network r_out = φ(f(r_in)), evaluated at the rates of a plain spiking simulation.

    Independent of the accumulation code: spikes come from `simulate`, the chain rule is written out here. `slope` maps
    (weighted mean current v, membrane before reset u, gain Λ) to φ′(v).
    """
    spikes = safjax.simulate(net, x, steps).spikes
    decay, threshold = net.lif1.decay, net.lif1.threshold
    weights = decay ** jnp.arange(steps - 1, -1, -1)
    gain = weights.sum()
    graphdef, params = nnx.split(net)

    def currents(params):
        """v of every synapse at the simulated rates, each a function of its own parameters and of its input rate."""
        net = nnx.merge(graphdef, params)
        return net.first.layer, net.second.layer, net.last.layer

    def rate(path):
        return jnp.tensordot(weights, spikes[path], 1) / gain

    def before_last(path):
        """a[T−1], for u[T] = Λ v − θ λ a[T−1]."""
        return jnp.tensordot(weights[1:], spikes[path][:-1], 1)

    def network(params):
        first, second, last = currents(params)
        r1 = with_slope(first(x), rate("lif1"), before_last("lif1"))
        r2 = with_slope(second(r1), rate("lif2"), before_last("lif2"))
        return nets.loss(last(r2), nets.labels())

    def with_slope(v, r, before):
        """Value r, derivative φ′ with respect to v."""
        u = gain * v - threshold * decay * before
        local = jax.lax.stop_gradient(slope(v, u, gain))
        return r + local * (v - jax.lax.stop_gradient(v))

    return nnx.as_pure(jax.grad(network)(params))


@pytest.mark.parametrize("net", [nets.Conv, lambda: nets.Conv(decay=0.8), lambda: nets.Conv(decay=1.0)])
def test_theorem_2_saf_f_equals_spike_representation(net):
    """SAF-F is the spike representation whose slope is the surrogate's at u[T] − θ: dr/dv = σ(u − θ) Λ / Λ."""
    net = net()
    *_, grads = gradients(net, rules.saf_f(), nets.image(), nets.STEPS)
    expected = representation_gradient(
        net, nets.image(), nets.STEPS, lambda v, u, gain: net.lif1.surrogate.slope(u - 1)
    )
    nets.assert_trees_close(grads, expected, rtol=1e-12)


def test_theorem_2_with_the_clamp_slope():
    """`spike_representation` is that of the published clamp: dr/dv = 1[0 < v < θ] / θ."""
    net = nets.Conv()
    for layer in (net.lif1, net.lif2):
        layer.threshold = 1.3
    *_, grads = gradients(net, rules.spike_representation(), nets.image(), nets.STEPS)

    def inside(v, u, gain):
        return jnp.logical_and(v > 0, v < 1.3) / 1.3

    nets.assert_trees_close(grads, representation_gradient(net, nets.image(), nets.STEPS, inside), rtol=1e-12)
    *_, surrogate = gradients(net, rules.saf_f(), nets.image(), nets.STEPS)
    assert nets.cosine(grads, surrogate) < 0.999


def test_the_rate_approaches_its_clamp():
    """Theorem 2's limit: for large Λ the simulated rate of one layer is clamp(v / θ, 0, 1)."""
    net = nets.Dense(decay=1.0, threshold=1.3)
    x, steps = jnp.asarray(np.random.default_rng(0).normal(size=(3, 7))), 400
    rate = safjax.simulate(net, x, steps).spikes["lif1"].mean(0)
    clamped = jnp.clip(net.first.layer(x) / 1.3, 0, 1)
    assert 0.1 < clamped.mean() < 0.9
    np.testing.assert_allclose(rate, clamped, atol=1.0 / steps)


@pytest.mark.parametrize("name", rule_by_rule(BROAD, families))
def test_every_rule_fires_the_spikes_of_plain_inference(name):
    """Outputs, firing rates and hence spikes do not depend on the rule; `predict` gives a SAF-trained net's logits."""
    net = nets.Residual()
    _, aux, _ = gradients(net, rules.RULES[name](), nets.video())
    plain = safjax.simulate(net, nets.video())
    np.testing.assert_allclose(aux.outputs, plain.outputs, rtol=1e-11, atol=1e-13)
    assert {p: float(r) for p, r in aux.rates.items()} == pytest.approx(
        {p: float(s.mean()) for p, s in plain.spikes.items()}, rel=1e-12
    )
    # Several steps at once are rounded in another order.
    np.testing.assert_allclose(safjax.predict(net, nets.video()), plain.outputs, rtol=1e-11, atol=1e-13)


def test_a_saf_trained_net_predicts_as_under_saf():
    net = nets.Conv()
    step = safjax.train_step(nets.loss, rules.saf_f(), optax.adam(1e-2), nets.STEPS, outputs="all")
    opt_state = step.init(net)
    for _ in range(5):
        net, opt_state, _ = step(net, opt_state, nets.image(), nets.labels())
    _, aux, _ = gradients(net, rules.saf_f(), nets.image(), nets.STEPS)
    logits = safjax.predict(net, nets.image(), nets.STEPS)
    np.testing.assert_allclose(logits, aux.outputs, rtol=1e-11, atol=1e-13)


CLAMPED = ("spike_representation", "ide")
ONE_STEP_RULES = [name for name in BROAD if name not in CLAMPED]


@pytest.mark.parametrize("name", rule_by_rule({n: BROAD[n] for n in ONE_STEP_RULES if n != "bptt"}))
def test_at_one_step_all_gradients_agree(name):
    net = nets.Conv()
    net.lif1.threshold = net.lif2.threshold = 0.8
    *_, expected = gradients(net, rules.bptt(), nets.image(), 1)
    *_, grads = gradients(net, rules.RULES[name](), nets.image(), 1)
    nets.assert_trees_close(grads, expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["ottt_a", "ottt_o", "saf_e"])
def test_without_memory_ottt_and_saf_are_sltt(name):
    """At λ = 0 the trace is the spike: OTTT, SAF-E and SLTT coincide."""
    net = nets.Conv(decay=0.0)
    *_, expected = gradients(net, rules.sltt(), nets.image(), nets.STEPS)
    *_, grads = gradients(net, rules.RULES[name](), nets.image(), nets.STEPS)
    nets.assert_trees_close(grads, expected, rtol=1e-12)


def test_the_rules_differ_from_one_another():
    """The equivalences above can fail: with memory, BPTT, SLTT, OTTT, SAF-F and SR are five different gradients."""
    names = ["bptt", "sltt", "ottt_a", "saf_f", "spike_representation"]
    grads = [gradients(nets.Conv(decay=0.8), rules.RULES[n](), nets.video(), None)[2] for n in names]
    for i, a in enumerate(grads):
        for b in grads[i + 1 :]:
            assert nets.distance(a, b) > 1e-3


def test_ottt_equals_bptt_for_a_single_hidden_layer_without_reset_gradient():
    """OTTT is exact for the weights below the last neurons when the readout is instantaneous (Xiao et al., Sec. 4.2).

    Errors reach them without passing another neuron, and with the reset detached the membrane's memory is the trace.
    """

    class OneLayer(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.first = safjax.nn.Synapse(nets._dense(7, 9, rngs))
            self.lif = LIF(0.7)
            self.last = safjax.nn.Synapse(nets._dense(9, nets.CLASSES, rngs))
            self.readout = InstantReadout()

        def __call__(self, x):
            return self.readout(self.last(self.lif(self.first(x))))

    x = jnp.asarray(np.random.default_rng(0).normal(size=(nets.STEPS, 3, 7)))
    *_, exact = gradients(OneLayer(), rules.bptt(detach_reset=True), x)
    *_, traced = gradients(OneLayer(), rules.ottt_a(), x)
    *_, spatial = gradients(OneLayer(), rules.sltt(), x)
    nets.assert_trees_close(traced["first"], exact["first"], rtol=1e-12)
    assert nets.distance(spatial["first"], exact["first"]) > 1e-2
