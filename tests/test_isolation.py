"""What is not a number in one example at one step stays in that example and its later steps, and shows there.

Not isolated, by what they are: the mean over the batch, so the loss, the rates in `aux` and the weights' gradient; all
that comes after an update by such a gradient, at the next step under OTTT_O and SAF-E; and of the spoilt example itself
the gradient at earlier steps, which looks ahead, and a full PSN, each step of which sees all others.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, Delay, Dropout, LeakyReadout, Recurrent, Synapse, WSConv
from tests import nets
from tests.neuron_kinds import NEURONS, PER_WEIGHT, RULES, Net, inputs

pytestmark = pytest.mark.usefixtures("x64")

BATCH = nets.BATCH
NUMBERS = [np.nan, np.inf, -np.inf]


def spoilt(x, where, number):
    x = np.array(x)
    x[where] = number
    return jnp.asarray(x)


class Offset(nnx.Module):
    """x + p with a p for each example, whose gradient is the input's."""

    def __init__(self, *shape):
        self.value = nnx.Param(jnp.zeros((BATCH, *shape), nets.DTYPE))

    def __call__(self, x):
        return (x.reshape(-1, *self.value.shape) + self.value[...]).reshape(x.shape)


class Wide(nnx.Module):
    """Convolutions wide enough for minimal filtering, dropout; with recurrence and feedback if asked for."""

    def __init__(self, feedback):
        rngs = nnx.Rngs(0)
        conv, wide = functools.partial(nnx.Conv, param_dtype=nets.DTYPE, rngs=rngs), (3, 3)
        self.first = Synapse(nnx.Sequential(Offset(8, 8, 64), conv(64, 128, wide)))
        self.second = Synapse(WSConv(128, 64, wide, param_dtype=nets.DTYPE, rngs=rngs))
        self.second.layer.bias[...] += 0.3
        self.lif1, self.lif2, self.drop = LIF(), LIF(), Dropout(0.2, rngs=rngs)
        self.back, self.delay = nnx.data(None), nnx.data(None)
        if feedback:
            self.lif2 = Recurrent(self.lif2, Synapse(conv(64, 64, (1, 1))))
            self.back, self.delay = Synapse(conv(64, 128, (1, 1))), Delay()
        self.head = Synapse(nets._pooled_dense(64, rngs))
        self.readout = LeakyReadout()

    def __call__(self, x):
        current = self.first(x)
        if self.delay is not None:
            current = current + 0.5 * self.back(self.delay.recall())
        spikes = self.lif2(self.second(self.drop(self.lif1(current))))
        if self.delay is not None:
            self.delay.keep(spikes)
        return self.readout(self.head(spikes))


def images(*lead):
    return jnp.asarray(np.random.default_rng(0).normal(0.5, 1.5, (*lead, BATCH, 8, 8, 64)))


def outputs_and_gradients(name, x, steps=None):
    """Of each example: the outputs [T, B, ...] and the gradient for the input, [B, ...]."""
    rule = RULES[name]
    net = Wide(feedback=rule.propagation.recalls)
    (value, aux), grads = nets.value_and_grad(nets.loss, rule, steps, outputs="all")(net, x, nets.labels())
    grads = nnx.as_pure(grads)
    weights = [leaf for path, leaf in jax.tree.leaves_with_path(grads) if path[-1].key != "value"]
    return aux, grads["first"]["layer"]["layers"][0]["value"], (value, weights)


# Example, step; the entry is the first or the last one of that image.
PLACES = [(0, 0, 0), (1, 2, 0), (2, 1, -1)]


def assert_isolated(name, x, steps=None):
    aux, gradient, _ = outputs_and_gradients(name, x, steps)
    nets.assert_fires(aux.rates)
    for number, (example, step, entry) in zip([np.nan, np.inf, np.nan], PLACES, strict=True):
        where = (example, 0, 0, entry) if steps else (step, example, entry, entry, entry)
        after, gradient_after, sums = outputs_and_gradients(name, spoilt(x, where, number), steps)
        others = np.arange(BATCH) != example
        np.testing.assert_array_equal(after.outputs[:, others], aux.outputs[:, others])
        # The fixed point of IDE is found to rounding error, for the whole batch at once.
        rtol = 1e-10 if name == "ide" else 0
        np.testing.assert_allclose(gradient_after[others], gradient[others], rtol, rtol * np.abs(gradient).max())
        assert np.abs(gradient[others]).max() > 0
        start = 0 if steps else step
        np.testing.assert_array_equal(after.outputs[:start], aux.outputs[:start])
        assert np.isnan(after.outputs[start:, example]).all()
        assert all(np.isnan(leaf).any() for leaf in jax.tree.leaves(sums))


ALIKE = ("saf_e", "ottt_o", "sltt", "slayer", "spike_representation", "bptt, layerwise")
"""Rules whose propagation another one of the table has, or nearly so: among the slow tests."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in ALIKE else []) for n in RULES if n not in PER_WEIGHT]
)
def test_every_rule_on_a_sequence(name):
    assert_isolated(name, images(4))


@pytest.mark.parametrize(
    "name",
    ["ottt_a", "exodus", pytest.param("saf_f", marks=pytest.mark.slow), pytest.param("bptt", marks=pytest.mark.slow)],
)
def test_rules_on_a_static_image(name):
    assert_isolated(name, images(), 4)


WHOLE = ["PSN", "masked PSN", "SPSN"]
"""The kinds that need all steps at once."""


@pytest.mark.parametrize("topology", ["feed-forward", "recurrent and feedback"])
def test_simulation_of_every_neuron(topology):
    """Outputs and every layer's spikes; layer by layer and step by step."""
    kinds = [k for k in NEURONS if k != "PSN" and (topology == "feed-forward" or k not in WHOLE)]
    net, x = Net(kinds, topology), inputs()
    run = safjax.simulate(net, x)
    for number, (example, step, entry) in zip(NUMBERS, PLACES, strict=True):
        after = safjax.simulate(net, spoilt(x, (step, example, entry), number))
        for array, clean in zip(jax.tree.leaves(after), jax.tree.leaves(run), strict=True):
            np.testing.assert_array_equal(np.delete(array, example, 1), np.delete(clean, example, 1))
            np.testing.assert_array_equal(array[:step], clean[:step])
        assert not np.isnan(number) or np.isnan(after.outputs[step:, example]).all()
    assert {path.split(".")[1] for path in run.spikes} == {str(i) for i in range(len(kinds))}


def test_a_stream():
    """Its state carries the number on in the one example only."""
    net, x = Net([k for k in NEURONS if k not in WHOLE], "recurrent and feedback"), inputs()[:6]
    stream = safjax.stream(net)

    def outputs(x):
        state, found = stream.start(x[0]), []
        for image in x:
            state, output = stream(state, image)
            found.append(output)
        return np.stack(found)

    clean, after = outputs(x), outputs(spoilt(x, (2, 0, 0), np.nan))
    np.testing.assert_array_equal(after[:, 1:], clean[:, 1:])
    np.testing.assert_array_equal(after[:2], clean[:2])
    assert np.isnan(after[2:, 0]).all()


def test_prediction_of_a_wide_net():
    """One pixel that is not a number, the first of all, once made every output of the others zero."""
    net, x = Wide(feedback=False), images()
    clean, after = (safjax.predict(net, a, 4) for a in (x, spoilt(x, (0, 0, 0, 0), np.nan)))
    np.testing.assert_array_equal(after[:, 1:], clean[:, 1:])
    assert np.isnan(after[:, 0]).all() and np.abs(clean).min() > 0


def test_a_number_that_is_none_is_dropped_by_no_mask():
    """Dropout of the one entry that is not a number hides nothing: 0 · NaN is NaN. The others keep their masks."""
    x = jnp.ones((nets.STEPS, BATCH, 40))
    make = lambda: nnx.Sequential(Dropout(0.9, rngs=nnx.Rngs(0)), LeakyReadout(0.5))  # noqa: E731
    outputs = [
        safjax.value_and_grad(jnp.mean, rules.bptt(), outputs="all")(make(), a)[0][1].outputs
        for a in (x, spoilt(x, (2, 1, slice(None)), np.nan))
    ]
    assert np.isnan(outputs[1][2:, 1]).all() and (outputs[0][2:, 1] == 0).any()
    np.testing.assert_array_equal(outputs[1][:, [0, 2]], outputs[0][:, [0, 2]])
    np.testing.assert_array_equal(outputs[1][:2], outputs[0][:2])
