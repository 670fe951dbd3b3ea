"""Axonal delays are the sums over time that they say, under every rule that goes back in time; others refuse them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, AxonalDelay, Delay, InstantReadout, LeakyReadout, Synapse
from safjax.surrogate import Sigmoid
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")

STEPS, DECAY, SIZES = 9, 0.6, (7, 12, 10, 9, nets.CLASSES)
FIXED = np.array([0, 1, 2, 3, 5, 0, 1, 2, 4, 5, 3, 2])
LINEAR, GAUSSIAN, WIDTH = np.linspace(0.15, 3.85, 10), np.linspace(0.3, 4.8, 9), 0.8
REACH = [rules.bptt(), rules.bptt(layerwise=True), rules.exodus()]


def param(value):
    return nnx.Param(jnp.asarray(value, nets.DTYPE))


class Delayed(nnx.Module):
    """A delay of each kind: of the input by one step, behind each layer of neurons by a number for each."""

    def __init__(self):
        rngs = nnx.Rngs(2)
        self.dense = nnx.List([Synapse(nets._dense(a, b, rngs)) for a, b in itertools.pairwise(SIZES)])
        self.lifs = nnx.List([LIF(DECAY) for _ in range(3)])
        self.input = AxonalDelay(1)
        self.delays = nnx.List(
            [
                AxonalDelay(FIXED),
                AxonalDelay(param(LINEAR), max_delay=4),
                AxonalDelay(param(GAUSSIAN), max_delay=5, width=WIDTH),
            ]
        )
        self.readout = LeakyReadout(DECAY)

    def __call__(self, x):
        x = self.input(x)
        for dense, lif, delay in zip(self.dense, self.lifs, self.delays, strict=False):
            x = delay(lif(dense(x)))
        return self.readout(self.dense[-1](x))


def inputs(steps=STEPS):
    return jnp.asarray(np.random.default_rng(1).normal(0.6, 1.2, (steps, nets.BATCH, SIZES[0])))


def kernels(params):
    """w[K + 1, n] of each delay, written down anew."""
    linear, gaussian = (params["delays"][i]["delays"] for i in (1, 2))
    bell = jnp.exp(-((jnp.arange(6.0)[:, None] - gaussian) ** 2) / (2 * WIDTH**2))
    return [
        jnp.asarray(np.arange(2)[:, None] == 1, nets.DTYPE) * jnp.ones(SIZES[0]),
        jnp.asarray(np.arange(6)[:, None] == FIXED, nets.DTYPE),
        jnp.maximum(0, 1 - jnp.abs(jnp.arange(5.0)[:, None] - linear)),
        bell / bell.sum(0),
    ]


def reference(params, x):
    """Outputs of all steps, one loop in Python over each; nothing but the spike function is shared."""
    spike, outputs = Sigmoid(), []
    sent, membranes, total, gain = [[] for _ in range(4)], [0.0, 0.0, 0.0], 0.0, 0.0
    weighing = kernels(params)

    def received(layer, t):
        return sum(w * sent[layer][t - k] for k, w in enumerate(weighing[layer]) if k <= t)

    for t in range(len(x)):
        sent[0].append(x[t])
        for layer in range(3):
            dense = params["dense"][layer]["layer"]
            u = DECAY * membranes[layer] + received(layer, t) @ dense["kernel"] + dense["bias"]
            spikes = spike(u - 1.0)
            membranes[layer] = u - spikes
            sent[layer + 1].append(spikes)
        dense = params["dense"][3]["layer"]
        total, gain = DECAY * total + received(3, t) @ dense["kernel"] + dense["bias"], DECAY * gain + 1
        outputs.append(total / gain)
    return jnp.stack(outputs)


def test_the_rules_that_go_back_in_time_agree_with_plain_autodiff():
    net, x = Delayed(), inputs()
    params = nnx.as_pure(nnx.state(net, nnx.Param))

    @jax.jit
    def expect(params):
        outputs = reference(params, x)
        return jnp.mean(jnp.stack([nets.loss(o, nets.labels()) for o in outputs])), outputs

    (value, outputs), expected = jax.value_and_grad(expect, has_aux=True)(params)
    for rule in REACH:
        (ours, aux), grads = safjax.value_and_grad(nets.loss, rule, outputs="all")(net, x, nets.labels())
        nets.assert_fires(aux.rates)
        np.testing.assert_allclose(aux.outputs, outputs, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(ours, value, rtol=1e-12)
        nets.assert_trees_close(grads, expected, rtol=1e-12)
    everything = [
        safjax.value_and_grad(nets.loss, rule)(net, x, nets.labels())[1]
        for rule in (rules.slayer(), rules.bptt(detach_reset=True))
    ]
    nets.assert_trees_close(*everything, rtol=1e-12)
    assert nets.distance(everything[0], expected) > 0.01


def test_delays_of_channels_and_of_a_static_image():
    """A delay for each channel of a map, and one for all that has not begun before its time."""
    net = nnx.Sequential(AxonalDelay(2), Synapse(lambda x: 2 * x), AxonalDelay(np.array([0, 3])), InstantReadout())
    x = nets.image()
    expected = np.stack([2 * x * (t >= np.array([2, 5])) for t in range(7)])
    for rule in (rules.bptt(), rules.exodus()):
        (_, aux), _ = safjax.value_and_grad(lambda o: jnp.mean(o), rule, 7, outputs="all")(net, x)
        np.testing.assert_array_equal(aux.outputs, expected)


class Recurring(nnx.Module):
    """Neurons that receive their own spikes of 1 + d steps before."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first, self.own = Synapse(nets._dense(7, 9, rngs)), Synapse(nets._dense(9, 9, rngs))
        self.axon, self.delay = AxonalDelay(param(LINEAR[1:]), max_delay=4, width=WIDTH), Delay()
        self.lif, self.readout = LIF(DECAY), InstantReadout()

    def __call__(self, x):
        spikes = self.lif(self.first(x) + self.own(self.delay.recall()))
        self.delay.keep(self.axon(spikes))
        return self.readout(spikes)


def test_delays_on_the_way_back():
    net, x = Recurring(), inputs()
    params = nnx.as_pure(nnx.state(net, nnx.Param))

    @jax.jit
    def expect(params):
        bell = jnp.exp(-((jnp.arange(5.0)[:, None] - params["axon"]["delays"]) ** 2) / (2 * WIDTH**2))
        kernel, membrane, spikes = bell / bell.sum(0), 0.0, []
        for x_t in x:
            received = sum((kernel[k] * spikes[-1 - k] for k in range(min(5, len(spikes)))), jnp.zeros((3, 9)))
            first, own = params["first"]["layer"], params["own"]["layer"]
            u = DECAY * membrane + x_t @ first["kernel"] + first["bias"] + received @ own["kernel"] + own["bias"]
            spikes.append(Sigmoid()(u - 1.0))
            membrane = u - spikes[-1]
        return jnp.mean(jnp.stack(spikes)[..., ::2] ** 2)

    value, expected = jax.value_and_grad(expect)(params)
    (ours, aux), grads = safjax.value_and_grad(lambda o: jnp.mean(o[..., ::2] ** 2), rules.bptt())(net, x)
    nets.assert_fires(aux.rates)
    np.testing.assert_allclose(ours, value, rtol=1e-12)
    nets.assert_trees_close(grads, expected, rtol=1e-11)


def one_delay(start, width):
    return nnx.Sequential(AxonalDelay(param([start]), max_delay=12, width=width), InstantReadout())


def pulse(at):
    return jnp.zeros((16, 1, 1), nets.DTYPE).at[at].set(1.0)


def test_a_delay_is_learned_where_only_a_wide_gaussian_feels_it():
    """From 9.2 to 3, which a shrinking Gaussian finds and two neighbours do not."""
    found = {}
    for width in (6.0, None):
        net, target = one_delay(9.2, width), safjax.losses.Timed(pulse(4))
        step = safjax.train_step(lambda o, y: jnp.mean((o - y) ** 2), rules.exodus(), optax.adam(0.15))
        opt_state = step.init(net)
        for _ in range(150):
            net, opt_state, _ = step(net, opt_state, pulse(1), target)
            if width is not None:
                net.layers[0].width.set_value(jnp.maximum(0.4, 0.97 * net.layers[0].width[...]))
        found[width] = float(net.layers[0].delays[0])
    assert abs(found[6.0] - 3) < 0.05 < 5 < abs(found[None] - 3)


def test_in_evaluation_delays_are_whole():
    trained = safjax.value_and_grad(lambda o: o.sum(), rules.bptt(), outputs="all")
    for width in (None, 0.7):
        for start, whole in ((2.4, 2), (2.6, 3), (11.9, 12)):
            net = one_delay(start, width)
            np.testing.assert_array_equal(safjax.predict(net, pulse(1)), pulse(1 + whole))
            (_, aux), grads = trained(net, pulse(1))
            assert np.count_nonzero(aux.outputs > 1e-3) >= 2
            net.eval()
            (_, aux), grads = trained(net, pulse(1))
            np.testing.assert_array_equal(aux.outputs, pulse(1 + whole))
            assert not grads["layers"][0]["delays"][...].any()


def test_learned_delays_stay_between_0_and_the_longest():
    """And what another optimizer has let out acts as the nearest end."""
    for sign, end in ((1, 12.0), (-1, 0.0)):
        net, target = one_delay(6.0, 3.0), safjax.losses.Timed(pulse(7 + sign))
        step = safjax.train_step(lambda o, y: jnp.mean((o - y) ** 2), rules.exodus(), optax.sgd(1e5))
        net, *_ = step(net, step.init(net), pulse(1), target)
        assert float(net.layers[0].delays[0]) == end
        outside = one_delay(end, 3.0)
        outside.layers[0].delays[...] += 5 * sign
        compute = safjax.value_and_grad(lambda o, y: jnp.mean((o - y) ** 2), rules.bptt(), outputs="all")
        (_, aux), grads = compute(outside, pulse(1), target)
        (_, inside), expected = compute(one_delay(end, 3.0), pulse(1), target)
        np.testing.assert_array_equal(aux.outputs, inside.outputs)
        nets.assert_trees_close(grads, expected)
    assert jnp.isfinite(safjax.value_and_grad(lambda o: o.sum(), rules.bptt())(one_delay(12.0, None), pulse(1))[0][0])


SINGLE = "takes its gradient within single steps.*before the AxonalDelay at 'layers.2' would learn nothing"
MEANS = "differentiates means .* do not tell when a spike comes, but the AxonalDelay at 'layers.2' hands on later"


@pytest.mark.usefixtures("advice")
@pytest.mark.parametrize(
    ("rule", "words"),
    [
        *((rules.RULES[name](), SINGLE) for name in ("sltt", "ottt_o", "saf_f")),
        *((rules.rate_backprop(layerwise=layerwise), MEANS) for layerwise in (False, True)),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_rules_that_do_not_go_back_in_time_refuse_them(rule, words):
    net = nnx.Sequential(Synapse(nets._dense(7, 4, nnx.Rngs(0))), LIF(), AxonalDelay(2), LeakyReadout())
    advice = r"Rules that train this net as it is: bptt, exodus, slayer, bptt\(layerwise=True\)\."
    with pytest.raises(ValueError, match=f"rule '{rule.name}' {words}.*{advice}"):
        safjax.value_and_grad(nets.loss, rule)(net, inputs(), nets.labels())


def test_check_tells_of_them():
    net = nnx.Sequential(Synapse(nets._dense(7, 4, nnx.Rngs(0))), LIF(), AxonalDelay(2), LeakyReadout())
    report = safjax.check(net, inputs())
    assert report.trained_by == ("bptt", "exodus", "slayer", "bptt(layerwise=True)")
    # EventProp is for other neurons.
    others = [verdict for name, verdict in report.items() if name != "eventprop"]
    assert {path for verdict in others for path, _ in verdict.reasons} == {"layers.2"}


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: AxonalDelay(-1), ValueError, "between 0 and max_delay"),
        (lambda: AxonalDelay(np.array([0, 7]), max_delay=5), ValueError, "max_delay = 5, but range from 0 to 7"),
        (lambda: AxonalDelay(param([0.5])), ValueError, "need to be told the largest"),
        (lambda: AxonalDelay(param([np.nan]), max_delay=4), ValueError, "range from nan"),
        (lambda: AxonalDelay(param([0.5]), max_delay=0), ValueError, "at least 1"),
        (lambda: AxonalDelay(param([0.5]), max_delay=4.0), ValueError, "expected a whole number of steps"),
        (lambda: AxonalDelay(param([0.5]), max_delay=4, width=0.0), ValueError, "expected a positive, finite"),
        (lambda: AxonalDelay(3, width=2.0), ValueError, "whole delays are exact"),
        (lambda: AxonalDelay(2.5), TypeError, "real-valued delays in an nnx.Param"),
        (lambda: AxonalDelay(np.array([0.5])), TypeError, "real-valued delays in an nnx.Param"),
        (lambda: AxonalDelay(nnx.Param(jnp.array([1, 2]))), TypeError, "learned are real numbers"),
    ],
)
def test_what_are_no_delays_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_net_may_be_made_inside_a_compiled_function():
    layer = nnx.eval_shape(lambda: AxonalDelay(FIXED))
    assert layer.max_delay == 5 and layer.delays.shape == FIXED.shape
    made = nnx.jit(lambda: AxonalDelay(nnx.Param(jnp.full(3, 0.5)), max_delay=2))()
    assert made.max_delay == 2
    with pytest.raises(ValueError, match="so do whole ones that are made inside a compiled function"):
        nnx.eval_shape(lambda: AxonalDelay(jnp.arange(3) + jax.random.randint(jax.random.key(0), (3,), 0, 2)))


def test_delays_of_another_shape_than_a_sample():
    net = nnx.Sequential(AxonalDelay(np.arange(5)), InstantReadout())
    with pytest.raises(ValueError, match=r"AxonalDelay at 'layers.0' has delays of shape \[5\].*one sample, \[7\]"):
        safjax.predict(net, inputs())
