"""Rules that go layer by layer, in segments of the sequence: the gradient of all steps at once, in less memory."""

import functools

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, PSN, AcrossTime, AxonalDelay, BatchNorm, LeakyReadout, StepWeights, Synapse
from tests import nets
from tests.tables import some_slow
from tests.test_chunks import TOPOLOGIES, Normalised, same_state, vectors

x64 = pytest.mark.usefixtures("x64")
pytestmark = pytest.mark.device
BY_LAYER = {"exodus": rules.exodus, "slayer": rules.slayer, "bptt": functools.partial(rules.bptt, layerwise=True)}
ROWS = [
    ("exodus", "convolution", {"segments": 2}),
    ("slayer", "filter, dropout, decays", {"segments": 4}),
    ("slayer", "residual", {"segments": 3, "remat": True}),
    ("exodus", "filter, dropout, decays", {"segments": 2, "remat": True}),
    ("bptt", "convolution", {"segments": 2}),
    ("bptt", "refractory", {"segments": 2}),
    ("exodus", "window", {"segments": 7}),
    ("slayer", "convolution", {"segments": 1}),
]
"""Five steps in parts of three and two, of two, two and one, of one each, and in one part."""


def gradients(net, rule, x, steps=None, **options):
    compute = nets.value_and_grad(nets.loss, rule, steps, outputs="all", record=("spikes",))
    (value, aux), grads = compute(net, x, nets.labels(), **options)
    return (value, aux.outputs, aux.rates, aux.records), grads, aux.state


def same(net, name, in_segments, x, steps=None, **options):
    """The results of both, which are compared."""
    expected = gradients(nnx.clone(net), BY_LAYER[name](), x, steps, **options)
    nets.assert_fires(expected[0][2])
    found = gradients(net, BY_LAYER[name](**in_segments), x, steps, **options)
    nets.assert_trees_close(found[:2], expected[:2], rtol=1e-12, atol=1e-14)
    return found, expected


@x64
@pytest.mark.parametrize("name, topology, in_segments", some_slow(ROWS, lambda *row: row in ROWS[:2]))
def test_the_gradient_is_that_of_all_steps(name, topology, in_segments):
    """Loss, outputs of all steps, rates and spikes too."""
    make, inputs = TOPOLOGIES[topology]
    same(make(), name, in_segments, inputs())


@x64
@pytest.mark.slow
@pytest.mark.parametrize("segments", [2, 5])
def test_of_a_static_image(segments):
    same(nets.Conv(), "exodus", {"segments": segments}, nets.image(), nets.STEPS)


@x64
def test_from_one_state_to_the_next():
    """The state that is handed on is the same, too."""
    net, x, state = nets.Dense(), vectors(), safjax.start(nets.Dense(), vectors(), rules.exodus())
    state = gradients(net, rules.exodus(), x, state=state)[2]
    found, expected = same(net, "exodus", {"segments": 2}, x, state=state)
    same_state(found[2], expected[2])


def test_the_results_are_not_differentiated_once_more():
    compute = safjax.value_and_grad(nets.loss, rules.exodus(segments=2))
    with pytest.raises(TypeError, match=r"'exodus' .* layer by layer within a loop over time.* use bptt\(segments=K\)"):
        jax.grad(lambda x: compute(nets.Dense(), x, nets.labels())[0][0])(vectors().astype(jnp.float32))


@x64
def test_of_members_of_several_lengths():
    """One of which ends in the first segment."""
    x, lengths = vectors(), jnp.array([5, 2, 4])
    same(nets.Dense(), "exodus", {"segments": 2}, x.at[2:, 1].set(jnp.nan), lengths=lengths)


class Delayed(nnx.Module):
    """Statistics and weights of each step, and learned delays that reach over the border of segments."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        norm = BatchNorm(12, over="step", steps=nets.STEPS, param_dtype=nets.DTYPE)
        weights = StepWeights(nets.STEPS, 12, param_dtype=nets.DTYPE)
        self.first, self.lif = Synapse(nnx.Sequential(nets._dense(7, 12, rngs), norm, weights)), LIF()
        self.delay = AxonalDelay(nnx.Param(jnp.linspace(0.2, 2.7, 12, dtype=nets.DTYPE)), max_delay=3)
        self.last, self.readout = Synapse(nets._dense(12, nets.CLASSES, rngs)), LeakyReadout()

    def __call__(self, x):
        return self.readout(self.last(self.delay(self.lif(self.first(x)))))


@x64
@pytest.mark.slow
@pytest.mark.parametrize("make", [Normalised, Delayed])
def test_layers_that_know_the_step_go_on_over_the_border(make):
    """Running statistics move as they do without segments."""
    net, other = make(), make()
    same(net, "exodus", {"segments": 2}, vectors())
    gradients(other, rules.exodus(), vectors())
    statistics = [nnx.as_pure(nnx.state(n, nnx.BatchStat)) for n in (net, other)]
    nets.assert_trees_close(*statistics, rtol=1e-12)


def _centred(x):
    return x - x.mean(0)


def over_time():
    rngs = nnx.Rngs(0)
    return Synapse(nnx.Sequential(nnx.Linear(7, 7, rngs=rngs), BatchNorm(7, over="time")))


REFUSED = {
    "attention": (
        lambda: (LIF(), AcrossTime(_centred)),
        r"AcrossTime at 'layers.1'.* was told to go in segments. Leave",
    ),
    "statistics": (lambda: (over_time(), LIF()), r"BatchNorm\(over='time'\) at 'layers.0.layer.layers.1' .*segments"),
    "psn": (
        lambda: (PSN(5, rngs=nnx.Rngs(0)),),
        r"PSN at 'layers.0'.* all steps .* go in segments; leave segments out",
    ),
    "weights": (
        lambda: (Synapse(StepWeights(4, 7)), LIF()),
        r"StepWeights\(steps=4\) at 'layers.0.layer' is made for sequences of 4 steps at most.* T = 5",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_needs_all_steps_is_refused_by_name(case):
    layers, words = REFUSED[case]
    net = nnx.Sequential(*layers(), LeakyReadout())
    with pytest.raises(ValueError, match=words):
        safjax.value_and_grad(nets.loss, rules.exodus(segments=2))(net, vectors().astype(jnp.float32), nets.labels())


@pytest.mark.parametrize("rule", [rules.exodus, rules.slayer])
def test_arguments_that_are_none(rule):
    for segments in (0, True, 2.0):
        with pytest.raises(ValueError, match=rf"{rule.__name__}\(segments={segments}\): expected a whole number ≥ 1"):
            rule(segments=segments)
    with pytest.raises(ValueError, match=rf"Write {rule.__name__}\(segments=10, remat=True\)"):
        rule(remat=True)


def temporary(rule, steps, sizes=(7, 64, 64)):
    net = nets.Dense(sizes=sizes)
    step = safjax.train_step(nets.loss, rule, optax.sgd(0.1))
    x, y = jax.ShapeDtypeStruct((steps, 32, 7), jnp.float32), jax.ShapeDtypeStruct((32,), jnp.int32)
    return step.lower(net, step.init(net), x, y).compile().memory_analysis().temp_size_in_bytes


def test_of_all_steps_potentials_alone_are_kept():
    """Of two layers of 64 neurons; of what the rule without segments keeps it is a half or less."""
    steps = 256
    potentials = 4 * steps * 32 * (64 + 64)
    assert temporary(rules.exodus(segments=32), steps) < 1.25 * potentials
    assert temporary(rules.exodus(), steps) > 1.75 * potentials


def test_computed_again_memory_grows_with_the_root_of_time():
    few, many = (temporary(rules.exodus(segments=k, remat=True), t) for k, t in ((8, 64), (16, 256)))
    assert many < 2.4 * few
