"""Nets with feedback and recurrence: every step-wise rule against loops and formulas written out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, Delay, InstantReadout, LeakyReadout, Recurrent, Synapse
from tests import nets
from tests.tables import some_slow

pytestmark = pytest.mark.usefixtures("x64")


def gradients(net, rule, x, steps=None):
    (value, aux), grads = nets.value_and_grad(nets.loss, rule, steps, outputs="all")(net, x, nets.labels())
    nets.assert_fires(aux.rates)
    return value, aux, grads


@pytest.mark.parametrize("given, readout", [("static", LeakyReadout), ("sequence", InstantReadout)])
def test_theorem_1_holds_with_feedback_recurrence_and_skips(given, readout):
    """SAF paper, Sec. 4.3: SAF-E hands back a[t−1] / Λ[t], OTTT (s[t−1], a[t−1]); spikes and gradients are equal."""
    x, steps = (nets.image(), nets.STEPS) if given == "static" else (nets.video(), None)
    value, aux, grads = gradients(nets.Feedback(readout), rules.saf_e(), x, steps)
    expected_value, expected_aux, expected = gradients(nets.Feedback(readout), rules.ottt_o(), x, steps)
    np.testing.assert_allclose(value, expected_value, rtol=1e-12)
    np.testing.assert_allclose(aux.outputs, expected_aux.outputs, rtol=1e-11, atol=1e-13)
    assert jax.tree.map(float, aux.rates) == jax.tree.map(float, expected_aux.rates)
    nets.assert_trees_close(grads, expected, rtol=1e-12)
    plain = safjax.simulate(nets.Feedback(readout), x, steps)
    np.testing.assert_allclose(aux.outputs, plain.outputs, rtol=1e-11, atol=1e-13)


class Loops(nnx.Module):
    """Layer 1 hears its own spikes, and layer 2's *current*, of the step before; the input is delayed as well."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first, self.late = Synapse(nets._dense(7, 9, rngs)), Synapse(nets._dense(7, 9, rngs))
        self.one, self.two = Recurrent(LIF(0.7), Synapse(nets._dense(9, 9, rngs))), LIF(0.7)
        self.second, self.back = Synapse(nets._dense(9, 8, rngs)), Synapse(nets._dense(8, 9, rngs))
        self.last, self.readout = Synapse(nets._dense(8, nets.CLASSES, rngs)), InstantReadout()
        self.inputs, self.currents = Delay(), Delay()

    def __call__(self, x):
        current = self.first(x) + self.late(self.inputs.recall()) + 0.3 * self.back(self.currents.recall())
        self.inputs.keep(x)
        between = self.second(self.one(current))
        self.currents.keep(between)
        return self.readout(self.last(self.two(between)))


def sequence(steps=6):
    return jnp.asarray(np.random.default_rng(1).normal(0.1, 0.8, (steps, nets.BATCH, 7)))


SYNAPSES = ("first", "late", "loop", "back", "second", "last")


def weights_of(tree):
    flat = {name: tree[name]["layer"] for name in SYNAPSES if name != "loop"}
    flat["loop"] = tree["one"]["synapse"]["layer"]
    return {name: (flat[name]["kernel"], flat[name]["bias"]) for name in SYNAPSES}


def by_hand(weights, xs, constant_past, offsets=None):
    """The net as a Python loop: (losses, inputs of every synapse at every step, rates).

    `constant_past`: what the step before hands over is a constant. `offsets[t][name]` is added to a synapse's result.
    """
    past = jax.lax.stop_gradient if constant_past else lambda x: x
    spike = safjax.surrogate.Sigmoid()
    m1, m2, s1, x0, i2 = jnp.zeros((3, 9)), jnp.zeros((3, 8)), jnp.zeros((3, 9)), jnp.zeros((3, 7)), jnp.zeros((3, 8))
    losses, inputs, fired = [], [], []
    for t, x in enumerate(xs):
        seen = {"first": x, "late": past(x0), "loop": past(s1), "back": past(i2)}

        def apply(name, value, t=t):
            kernel, bias = weights[name]
            return value @ kernel + bias + (0 if offsets is None else offsets[t][name])

        u1 = 0.7 * past(m1) + apply("first", x) + apply("late", seen["late"]) + 0.3 * apply("back", seen["back"])
        u1 = u1 + apply("loop", seen["loop"])
        s1 = spike(u1 - 1)
        m1 = u1 - s1
        i2 = apply("second", s1)
        u2 = 0.7 * past(m2) + i2
        s2 = spike(u2 - 1)
        m2, x0 = u2 - s2, x
        losses.append(nets.loss(apply("last", s2), nets.labels()))
        inputs.append({**seen, "second": s1, "last": s2})
        fired += [s1.mean(), s2.mean()]
    return jnp.stack(losses), inputs, jnp.stack(fired)


@pytest.mark.parametrize("name", ["bptt", "sltt"])
def test_spike_rules_equal_the_loop_by_hand(name):
    """BPTT differentiates through the delays; SLTT takes what comes back for a constant."""
    net = Loops()
    weights = weights_of(nnx.as_pure(nnx.state(net, nnx.Param)))
    value, _, grads = gradients(net, rules.RULES[name](), sequence())
    losses, _, fired = by_hand(weights, sequence(), False)
    expected = jax.grad(lambda w: by_hand(w, sequence(), name == "sltt")[0].mean())(weights)
    np.testing.assert_allclose(value, losses.mean(), rtol=1e-12)
    assert 0.05 < fired.mean() < 0.6
    nets.assert_trees_close(weights_of(grads), expected, rtol=1e-11)


@pytest.mark.parametrize("name", ["ottt_a", "saf_e"])
def test_ottt_equals_traces_by_hand(name):
    """dW = Σ_t δ[t] ⊗ (trace of the synapse's own, possibly delayed, input), db = Σ_t Λ[t] δ[t].

    δ[t] is the error at the synapse's result at step t, spatial only. A current that comes back carries its bias along:
    the trace of its bias lags one step.
    """
    net, xs, decay = Loops(), sequence(), 0.7
    weights = weights_of(nnx.as_pure(nnx.state(net, nnx.Param)))
    zeros = [{n: jnp.zeros((3, weights[n][0].shape[1])) for n in SYNAPSES} for _ in xs]
    deltas = jax.grad(lambda o: by_hand(weights, xs, True, o)[0].mean())(zeros)
    _, inputs, _ = by_hand(weights, xs, True)
    traces = {n: jnp.zeros_like(inputs[0][n]) for n in SYNAPSES}
    expected = {n: tuple(jnp.zeros_like(w) for w in weights[n]) for n in SYNAPSES}
    gain = 0.0
    for t in range(len(xs)):
        gain = decay * gain + 1
        for n in SYNAPSES:
            traces[n] = decay * traces[n] + inputs[t][n]
            kernel, bias = expected[n]
            delta = deltas[t][n]
            expected[n] = kernel + traces[n].T @ delta, bias + gain * delta.sum(0)
    _, _, grads = gradients(net, rules.RULES[name](), xs)
    nets.assert_trees_close(weights_of(grads), expected, rtol=1e-11)


def test_saf_f_takes_what_comes_back_for_a_constant_rate():
    """SAF-F's gradient on a feedback net is that of its rate network at the last step, whose fed-back rate
    a[T−1] / Λ[T] is a constant input: no error passes through the feedback, but its weights learn."""
    net, steps, decay = nets.Feedback(), 6, 0.5
    _, _, grads = gradients(net, rules.saf_f(), nets.image(), steps)
    spikes = safjax.simulate(net, nets.image(), steps).spikes
    powers = decay ** jnp.arange(steps - 1, -1, -1)
    gain = powers.sum()
    accumulated = {name: jnp.tensordot(powers, s, 1) for name, s in spikes.items()}
    before = {name: jnp.tensordot(powers[1:], s[:-1], 1) for name, s in spikes.items()}
    graphdef, params = nnx.split(net)

    def neuron(v, name):
        slope = safjax.surrogate.Sigmoid().slope(gain * v - decay * before[name] - 1)
        return accumulated[name] / gain + jax.lax.stop_gradient(slope) * (v - jax.lax.stop_gradient(v))

    def objective(params):
        net = nnx.merge(graphdef, params)
        loops = 0.5 * net.back.layer(before["lif2"] / gain) + net.lif1.synapse.layer(before["lif1.neuron"] / gain)
        one = neuron(net.first.layer(nets.image()) + loops, "lif1.neuron")
        two = neuron(net.second.layer(one), "lif2")
        return nets.loss(net.head.layer(two) + net.ahead.layer(one), nets.labels())

    nets.assert_trees_close(grads, nnx.as_pure(jax.grad(objective)(params)), rtol=1e-11)


class Line(nnx.Module):
    """Two delays in a row, the only way from the input to the output."""

    def __init__(self):
        self.one, self.two, self.readout = Delay(), Delay(), InstantReadout()

    def __call__(self, x):
        between, late = self.one.recall(), self.two.recall()
        self.one.keep(x)
        self.two.keep(between)
        return self.readout(late)


def test_each_delay_is_one_step_late():
    x = jnp.arange(1.0, 9.0).reshape(4, 2, 1)
    np.testing.assert_array_equal(safjax.predict(Line(), x), np.concatenate([np.zeros((2, 2, 1)), x[:-2]]))


@pytest.mark.parametrize("name", ["ottt_a", "saf_f", "bptt"])
def test_updates_reach_the_feedback_weights(name):
    """The published VGG-F starts with feedback weights of zero; a training step moves them and lowers the loss."""
    net = safjax.models.SpikingVGGF(
        nets.CLASSES, cfg=(6, "M", 8), in_features=2, param_dtype=jnp.float64, rngs=nnx.Rngs(0)
    )
    step = safjax.train_step(nets.loss, rules.RULES[name](), optax.adam(1e-2), nets.STEPS, outputs="all")
    opt_state, values = step.init(net), []
    for _ in range(4):
        net, opt_state, (value, _) = step(net, opt_state, nets.image(), nets.labels())
        values.append(float(value))
    assert values[-1] < values[0]
    assert float(jnp.abs(net.feedback.layer.layers[1].kernel[...]).max()) > 1e-3


def test_vgg_f_has_the_published_size():
    net = nnx.eval_shape(lambda: safjax.models.SpikingVGGF(100, rngs=nnx.Rngs(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(net, nnx.Param))) == 9_569_508
    assert net.pooling == 8


def test_vgg_f_refuses_images_that_cannot_be_enlarged_again():
    net = safjax.models.SpikingVGGF(3, cfg=(4, "M", 4), in_features=2, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="multiples of 2"):
        safjax.predict(net, jnp.ones((2, 7, 6, 2)), 2)


LAYERWISE = [rules.exodus(), rules.slayer(), rules.bptt(layerwise=True)]


def vgg():
    return safjax.models.SpikingVGGF(3, cfg=(4,), in_features=2, rngs=nnx.Rngs(0))


@pytest.mark.usefixtures("advice")
@pytest.mark.parametrize(
    "rule, make",
    some_slow(
        [*((rule, nets.Feedback) for rule in LAYERWISE), (rules.exodus(), vgg)],
        # All refuse in the same words.
        lambda rule, make: rule == rules.exodus() and make is nets.Feedback,
    ),
)
def test_layer_by_layer_rules_refuse_feedback(rule, make):
    with pytest.raises(
        ValueError,
        match=rf"'{rule.name}' computes each layer over all.*Delay at '.*delay'.*Rules that train .*bptt, sltt",
    ):
        safjax.value_and_grad(nets.loss, rule, 3, outputs="all")(make(), nets.image(), nets.labels())


class Odd(nnx.Module):
    def __init__(self, call):
        self.call, self.delay, self.lif, self.readout = call, Delay(), LIF(), LeakyReadout()

    def __call__(self, x):
        return self.readout(self.lif(self.call(self, x)))


def test_wrong_uses_of_a_delay():
    def run(call, rule=None):
        safjax.value_and_grad(lambda o: jnp.sum(o), rules.saf_f() if rule is None else rule, 2, outputs="all")(
            Odd(call), jnp.ones((2, 3))
        )

    with pytest.raises(ValueError, match="recalled, but nothing is kept"):
        run(lambda net, x: net.delay.recall() + net.delay.message(x))

    def circular(net, x):
        back = net.delay.recall()
        net.delay.keep(back)
        return back + net.delay.message(x)

    with pytest.raises(ValueError, match="nothing is kept in it .*nothing but what comes from itself"):
        run(circular)

    def twice(net, x):
        net.delay.keep(x)
        net.delay.keep(x)
        return x

    with pytest.raises(ValueError, match="Delay at 'delay' is called twice"):
        run(twice)
    with pytest.raises(TypeError, match=r"Recurrent\(synapse=\.\.\.\): expected a Synapse.*given one of type Linear"):
        Recurrent(LIF(), nnx.Linear(3, 3, rngs=nnx.Rngs(0)))
    with pytest.raises(TypeError, match="What a Delay hands back was given to a plain function.*safjax.nn.Synapse"):
        run(lambda net, x: jnp.repeat(net.delay.recall(), 2), rules.bptt())
    with pytest.raises(TypeError, match="asks for '.reshape', met what a Delay hands back.*safjax.nn.Synapse"):
        run(lambda net, x: net.delay.recall().reshape(2, 3), rules.bptt())
    with pytest.raises(RuntimeError, match="was called by itself"):
        Delay().recall()
