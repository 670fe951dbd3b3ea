"""The recurrent net for spike trains."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.models import SpikingRNN
from safjax.nn import ALIF, LIF, CurrentLIF, LeakyReadout, Neuron
from tests import nets
from tests.tables import families, some_slow

STEPS, BATCH, CLASSES = 15, 8, 4
NEURONS = {
    "LIF": lambda n: LIF(0.8),
    "ALIF, a decay for each": lambda n: ALIF(nnx.Param(jnp.linspace(0.7, 0.9, n)), adaptation_decay=0.9),
    "CurrentLIF, both for each": lambda n: CurrentLIF(
        nnx.Param(jnp.linspace(0.2, 0.5, n)), nnx.Param(jnp.linspace(0.5, 0.7, n)), decay_input=True, threshold=0.5
    ),
}


def test_the_published_net():
    """700-128-20 with recurrence: every input, every neuron and every readout has its own weights, and there are no
    biases."""
    net = SpikingRNN((700, 128, 20), rngs=nnx.Rngs(0))
    weights = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(net, nnx.Param)))
    assert weights == 128 * (700 + 128 + 20) == 108_544
    assert [path for path, m in nnx.iter_modules(net) if isinstance(m, Neuron)] == [("features", "layers", 1, "neuron")]


def trains(rate=0.1, units=140):
    """Poisson trains of four classes, each with a quarter of its inputs twice as active."""
    rng, labels = np.random.default_rng(0), np.arange(BATCH) % CLASSES
    rates = rate * (1 + (np.arange(units) % CLASSES == labels[:, None]))
    return jnp.asarray(rng.random((STEPS, BATCH, units)) < rates, jnp.float32), jnp.asarray(labels)


def test_layers_fire_at_the_start():
    for neuron in (*NEURONS.values(), None):
        options = {} if neuron is None else {"neuron": neuron}
        net = SpikingRNN((140, 64, 32, CLASSES), rngs=nnx.Rngs(0), **options)
        nets.assert_fires({path: s.mean() for path, s in safjax.simulate(net, trains()[0]).spikes.items()})


def fit(neuron, name, updates=25):
    """Losses of a small net over some updates."""
    readout = LeakyReadout() if neuron == "LIF" else None
    net = SpikingRNN((40, 16, CLASSES), neuron=NEURONS[neuron], readout=readout, rngs=nnx.Rngs(1))
    x, labels = trains(0.2, 40)
    loss = lambda output, labels: optax.softmax_cross_entropy_with_integer_labels(output, labels).mean()  # noqa: E731
    rule = rules.RULES[name]()
    step = safjax.train_step(loss, rule, optax.adam(0.02 / rule.schedule.updates(STEPS) ** 0.5))
    before = [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(net, nnx.Param))]
    opt_state, values = step.init(net), []
    for _ in range(updates):
        net, opt_state, (value, aux) = step(net, opt_state, x, labels)
        values.append(float(value))
    nets.assert_fires(aux.rates, high=0.7)
    after = jax.tree.leaves(nnx.state(net, nnx.Param))
    assert all(np.abs(a - b).max() > 0 for a, b in zip(before, after, strict=True))
    return values


ALLOWED = {
    "LIF": {
        "bptt",
        "sltt",
        "stllr",
        "ottt_a",
        "ottt_o",
        "approx_otpe",
        "saf_e",
        "saf_f",
        "spike_representation",
        "ide",
        "ostl",
        "otpe",
        "eprop",
    },
    "ALIF, a decay for each": {"bptt", "sltt", "ostl", "eprop"},
    "CurrentLIF, both for each": {"bptt", "sltt", "ostl", "eprop"},
}


@pytest.mark.parametrize("neuron", NEURONS)
def test_the_rules_that_train_it(neuron):
    net = SpikingRNN((40, 16, CLASSES), neuron=NEURONS[neuron], readout=LeakyReadout(0.8), rngs=nnx.Rngs(1))
    assert set(safjax.check(net, trains(0.2, 40)[0]).trained_by) == ALLOWED[neuron]


QUICK = {
    "LIF": families({name: make for name, make in rules.RULES.items() if name in ALLOWED["LIF"]}),
    "ALIF, a decay for each": ["eprop"],
    "CurrentLIF, both for each": ["sltt"],
}


@pytest.mark.parametrize(
    "neuron, name",
    some_slow(
        [(neuron, name) for neuron, names in ALLOWED.items() for name in sorted(names)],
        lambda neuron, name: name in QUICK[neuron],
    ),
)
def test_every_rule_that_trains_it_learns(neuron, name):
    values = fit(neuron, name)
    assert np.mean(values[-3:]) < 0.8 * values[0], values


@pytest.mark.parametrize("sizes", [(20, 10), (20, 0, 10), (20, "M", 10)])
def test_bad_sizes(sizes):
    with pytest.raises(ValueError, match=r"SpikingRNN\(sizes="):
        SpikingRNN(sizes, rngs=nnx.Rngs(0))
