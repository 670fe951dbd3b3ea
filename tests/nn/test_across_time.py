"""Layers that see all steps at once: the gradient of plain autodiff, and what cannot have them is told so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, AcrossTime, Delay, LeakyReadout, Synapse
from safjax.surrogate import Sigmoid
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")

STEPS, DECAY, UNITS = 6, 0.6, 10
LAYERWISE = [rules.bptt(layerwise=True), rules.exodus(), rules.slayer()]
STEPWISE = [rules.bptt(), rules.ottt_a(), rules.saf_f()]


class Attention(nnx.Module):
    """A weight for each step of a sample, made of its mean over the neurons at all steps; and a residual."""

    def __init__(self, rngs, steps=STEPS):
        self.squeeze, self.excite = nets._dense(steps, 4, rngs), nets._dense(4, steps, rngs)

    def __call__(self, x):
        means = x.mean(tuple(range(2, x.ndim))).T
        weights = jax.nn.sigmoid(self.excite(nnx.tanh(self.squeeze(means)))).T
        return x + 2 * weights.reshape(*weights.shape, *(1,) * (x.ndim - 2)) * x


class Convolution(nnx.Module):
    """Of each neuron over the step before and the step after, another number of features behind it."""

    def __init__(self, rngs):
        self.kernel = nnx.Param(nnx.initializers.normal(0.4)(rngs.params(), (3, UNITS, 8), nets.DTYPE))

    def __call__(self, x):
        around = jnp.pad(x, ((1, 1), (0, 0), (0, 0)))
        return sum(around[k : k + len(x)] @ self.kernel[k] for k in range(3))


class Net(nnx.Module):
    """Attention before and behind neurons, a convolution over time in the place of a synapse."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first, self.last = Synapse(nets._dense(7, UNITS, rngs)), Synapse(nets._dense(8, nets.CLASSES, rngs))
        self.before, self.behind = AcrossTime(Attention(rngs)), AcrossTime(Attention(rngs))
        self.over, self.lif1, self.lif2 = AcrossTime(Convolution(rngs)), LIF(DECAY), LIF(DECAY, threshold=0.8)
        self.readout = LeakyReadout(DECAY)

    def __call__(self, x):
        spikes = self.behind(self.lif1(self.first(self.before(x))))
        return self.readout(self.last(self.lif2(self.over(spikes))))


def inputs(steps=STEPS):
    return jnp.asarray(np.random.default_rng(1).normal(0.4, 1.0, (steps, nets.BATCH, 7)))


def fire(currents, threshold=1.0):
    membrane, spikes = 0.0, []
    for current in currents:
        u = DECAY * membrane + current
        spikes.append(Sigmoid()(u - threshold))
        membrane = u - threshold * spikes[-1]
    return jnp.stack(spikes)


def reference(net, x):
    """The same layers called on arrays, a Python loop for each layer of neurons."""
    x = net.behind.layer(fire(net.first.layer(net.before.layer(x))))
    currents = net.last.layer(fire(net.over.layer(x), 0.8))
    total, gain, outputs = 0.0, 0.0, []
    for current in currents:
        total, gain = DECAY * total + current, DECAY * gain + 1
        outputs.append(total / gain)
    return jnp.stack(outputs)


@pytest.mark.parametrize("still", [False, True])
def test_layer_by_layer_it_is_what_jax_differentiates(still):
    x, steps = (inputs()[0], STEPS) if still else (inputs(), None)
    sequence = jnp.broadcast_to(x, (STEPS, *x.shape)) if still else x

    @nnx.jit
    def expect(net):
        return nnx.value_and_grad(
            lambda net: jnp.mean(jax.vmap(nets.loss, (0, None))(reference(net, sequence), nets.labels()))
        )(net)

    value, expected = expect(Net())
    for rule in LAYERWISE[:2]:
        (ours, aux), grads = safjax.value_and_grad(nets.loss, rule, steps, outputs="all")(Net(), x, nets.labels())
        nets.assert_fires(aux.rates)
        np.testing.assert_allclose(ours, value, rtol=1e-12)
        nets.assert_trees_close(grads, expected, rtol=1e-12)
    np.testing.assert_allclose(safjax.predict(Net(), x, steps), aux.outputs, rtol=1e-12)
    spikes = safjax.simulate(Net(), x, steps).spikes
    assert {path: s.shape for path, s in spikes.items()} == {"lif1": (STEPS, 3, UNITS), "lif2": (STEPS, 3, 8)}


def test_the_order_of_steps_matters():
    """A layer that took one for the other would agree with itself."""
    net, x = Net(), inputs()
    assert np.abs(safjax.predict(net, x)[::-1] - safjax.predict(net, x[::-1])).max() > 0.01


@pytest.mark.parametrize("rule", STEPWISE, ids=lambda rule: rule.name)
def test_rules_that_go_step_by_step_refuse_it(rule):
    with pytest.raises(ValueError, match=rf"AcrossTime at 'before' needs all time .*'{rule.name}' goes step by step"):
        safjax.value_and_grad(nets.loss, rule)(Net(), inputs(), nets.labels())


@pytest.mark.usefixtures("advice")
def test_rules_that_take_it_are_advised():
    advice = r"Rules that train this net as it is: exodus, slayer, bptt\(layerwise=True\)\."
    with pytest.raises(ValueError, match=f"AcrossTime at 'before' needs all time steps.*{advice}"):
        safjax.value_and_grad(nets.loss, rules.ottt_a())(Net(), inputs(), nets.labels())


def test_check_finds_every_one():
    report = safjax.check(Net(), inputs())
    assert report.trained_by == ("exodus", "slayer", "bptt(layerwise=True)")
    assert [path for path, _ in report["sltt"].reasons] == ["before", "behind", "over"]


def test_states_lengths_and_streams_are_refused():
    net, x = Net(), inputs()
    with pytest.raises(ValueError, match="AcrossTime at 'before' needs all time steps.*Give the net whole sequences"):
        safjax.start(net, x, rules.exodus())
    with pytest.raises(ValueError, match="AcrossTime at 'before' needs all time steps"):
        safjax.start(net, x)
    for call in (
        safjax.predict,
        lambda *a, **k: safjax.value_and_grad(nets.loss, rules.exodus())(*a, nets.labels(), **k),
    ):
        with pytest.raises(ValueError, match="AcrossTime at 'before' may mix all time steps.*without lengths"):
            call(net, x, lengths=jnp.array([2, 3, 6]))
    with pytest.raises(ValueError, match="AcrossTime at 'before' computes all steps of a sequence at once"):
        safjax.stream(net)


class Feedback(nnx.Module):
    def __init__(self):
        self.first, self.across = Synapse(lambda x: x), AcrossTime(lambda x: x)
        self.lif, self.delay, self.readout = LIF(), Delay(), LeakyReadout()

    def __call__(self, x):
        spikes = self.lif(self.across(self.first(x) + self.delay.recall()))
        self.delay.keep(spikes)
        return self.readout(spikes)


class Counting(nnx.Module):
    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return x


OUTSIDE = nnx.Param(jnp.ones(7))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nnx.Sequential(AcrossTime(lambda x: x[1:]), LeakyReadout(0.5)), r"made an array of shape \[5, 3, 7\]"),
        (lambda: nnx.Sequential(AcrossTime(LIF()), LeakyReadout(0.5)), "holds a LIF, at 'layer'"),
        (lambda: nnx.Sequential(AcrossTime(Counting()), LeakyReadout(0.5)), "sets the attribute 'calls'"),
        (
            lambda: nnx.Sequential(AcrossTime(lambda x: OUTSIDE[...] * x), LeakyReadout(0.5)),
            "AcrossTime at .* does not hold",
        ),
        (Feedback, "AcrossTime at 'across' has to look at all steps of a sequence at once, but the Delay at 'delay'"),
    ],
)
def test_what_does_not_work_is_told(make, message):
    with pytest.raises(ValueError, match=message):
        safjax.value_and_grad(lambda o: jnp.mean(o), rules.exodus())(make(), inputs())


def test_only_layers_and_functions():
    for wrong, message in ((nnx.Linear, "the class Linear"), (3, "one of type int")):
        with pytest.raises(TypeError, match=f"AcrossTime.*expected a layer or a function.*{message}"):
            AcrossTime(wrong)
