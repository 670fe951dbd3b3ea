"""Decays of many neurons: distributions of time constants, bounds of one's own, and their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from scipy import stats

import safjax
from safjax import rules
from safjax.nn import ALIF, LIF, AxonalDelay, CurrentLIF, LeakyReadout, Synapse
from safjax.nn.time_constants import bounded, decays, gamma, log_uniform, normal, uniform
from safjax.surrogate import Sigmoid
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")

STEPS, UNITS = 7, 9
LOW, HIGH = np.exp(-1 / 5), np.exp(-1 / 25)
DISTRIBUTIONS = {
    "uniform": (uniform(5, 25), stats.uniform(5, 20)),
    "log_uniform": (log_uniform(2, 40), stats.loguniform(2, 40)),
    "normal": (normal(10, 8), stats.truncnorm(-10 / 8, np.inf, 10, 8)),
    "gamma": (gamma(20), stats.gamma(3, scale=20 / 3)),
    "gamma of an order": (gamma(6, order=1.5), stats.gamma(1.5, scale=4)),
}


def drawn(low, high, seed):
    number = decays(UNITS, uniform(low, high), (low, high), param_dtype=nets.DTYPE, rngs=nnx.Rngs(seed))
    assert jnp.ptp(number[...]) > 0
    return number


class Net(nnx.Module):
    """Layers of the given neurons, a decay for each of them."""

    def __init__(self, *neurons):
        rngs = nnx.Rngs(0)
        sizes = (7, *[UNITS] * len(neurons))
        pairs = zip(sizes, sizes[1:], strict=False)  # noqa: RUF007
        self.dense = nnx.List([Synapse(nets._dense(a, b, rngs)) for a, b in pairs])
        self.neurons, self.last = nnx.List(neurons), Synapse(nets._dense(UNITS, nets.CLASSES, rngs))
        self.readout = LeakyReadout(0.9)

    def __call__(self, x):
        for dense, neuron in zip(self.dense, self.neurons, strict=True):
            x = neuron(dense(x))
        return self.readout(self.last(x))


def inputs():
    return jnp.asarray(np.random.default_rng(0).normal(0.2, 0.8, (STEPS, nets.BATCH, 7)))


def reference(params, x):
    """The current-based layer and the leaky one, in a loop over time."""
    dense = [params["dense"][i]["layer"] for i in range(2)] + [params["last"]["layer"]]
    fast, slow = params["neurons"][0]["synaptic_decay"], [params["neurons"][i]["decay"] for i in range(2)]
    filtered, membranes, total, gain, outputs = 0.0, [0.0, 0.0], 0.0, 0.0, []
    for x_t in x:
        filtered = fast * filtered + x_t @ dense[0]["kernel"] + dense[0]["bias"]
        current = filtered
        for i in range(2):
            u = slow[i] * membranes[i] + current
            spikes = Sigmoid()(u - 1.5)
            membranes[i] = u - 1.5 * spikes
            current = spikes @ dense[i + 1]["kernel"] + dense[i + 1]["bias"]
        total, gain = 0.9 * total + current, 0.9 * gain + 1
        outputs.append(total / gain)
    return jnp.mean(jnp.stack([nets.loss(o, nets.labels()) for o in outputs]))


def test_gradients_of_decays_for_each_neuron():
    """Those of plain autodiff; of decays that another optimizer has let out, those at the nearest end."""
    net = Net(CurrentLIF(drawn(1, 4, 0), drawn(5, 25, 1), 1.5), LIF(drawn(5, 25, 2), 1.5))
    params = nnx.as_pure(nnx.state(net, nnx.Param))
    expected = jax.jit(jax.grad(reference))(params, inputs())
    for rule in (rules.bptt(), rules.bptt(layerwise=True), rules.exodus()):
        (_, aux), grads = safjax.value_and_grad(nets.loss, rule)(net, inputs(), nets.labels())
        nets.assert_fires(aux.rates)
        nets.assert_trees_close(grads, expected, rtol=1e-11)
    outside = nnx.clone(net)
    outside.neurons[1].decay[...] = outside.neurons[1].decay[...].at[:3].set(jnp.array([0.2, 0.99, 1.3]))
    inside = nnx.clone(net)
    inside.neurons[1].decay[...] = inside.neurons[1].decay[...].at[:3].set(jnp.array([LOW, HIGH, HIGH]))
    exodus = safjax.value_and_grad(nets.loss, rules.exodus())
    nets.assert_trees_close(*(exodus(n, inputs(), nets.labels())[1] for n in (outside, inside)))


def test_of_adaptive_neurons():
    def adaptive():
        slow = decays(UNITS, uniform(30, 120), (30, 120), param_dtype=nets.DTYPE, rngs=nnx.Rngs(3))
        return Net(ALIF(drawn(5, 25, 1), 1.5, slow, bounded(jnp.linspace(0.1, 0.5, UNITS), 0.05, 0.6)))

    grads = []
    for rule in (rules.bptt(), rules.bptt(layerwise=True)):
        (_, aux), gradient = safjax.value_and_grad(nets.loss, rule)(adaptive(), inputs(), nets.labels())
        nets.assert_fires(aux.rates)
        grads.append(gradient)
    nets.assert_trees_close(*grads, rtol=1e-12)


def test_training_keeps_them_between_their_own_bounds():
    """Of neurons, of delays, and where a layer holds one that is no neuron; as drawn where they are not learned."""

    class Scaled(nnx.Module):
        def __init__(self):
            self.factor = bounded(1.0, 0.5, 1.5)

        def __call__(self, x):
            return self.factor[...] * x

    fixed = decays(7, gamma(20), (5, 25), learned=False, rngs=nnx.Rngs(5))
    delay = AxonalDelay(bounded(np.linspace(1.2, 1.8, 7), 1, 2), max_delay=5)
    threshold = bounded(np.full(UNITS, 0.6), 0.5, 2)
    lif, first = LIF(drawn(5, 25, 1), threshold), Synapse(nets._dense(7, UNITS, nnx.Rngs(0)))
    net = nnx.Sequential(LIF(fixed), delay, Synapse(Scaled()), first, lif, LeakyReadout(0.9))
    reached, x = 0, jnp.full((STEPS, 3, 7), 1.5)
    for sign in (1, -1):
        step = safjax.train_step(lambda o: sign * jnp.mean(o), rules.exodus(), optax.sgd(30.0))  # noqa: B023
        trained = nnx.clone(net)
        opt_state = step.init(trained)
        for _ in range(3):
            trained, opt_state, _ = step(trained, opt_state, x)
            for i, name, low, high in ((1, "delays", 1, 2), (4, "decay", LOW, HIGH), (4, "threshold", 0.5, 2)):
                values = np.asarray(getattr(trained.layers[i], name)[...])
                assert (values >= low - 1e-12).all() and (values <= high + 1e-12).all(), f"{name} {values}"
                reached += np.sum((values <= low + 1e-12) | (values >= high - 1e-12))
            assert 0.5 <= trained.layers[2].layer.factor[...] <= 1.5
        np.testing.assert_array_equal(trained.layers[0].decay[...], fixed[...])
    assert reached > 0 and not isinstance(fixed, nnx.Param)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_they_are_drawn_from_their_distributions(name):
    distribution, expected = DISTRIBUTIONS[name]
    taus = distribution(jax.random.key(0), (4000,), jnp.float32)
    assert taus.dtype == jnp.float32 and (taus > 0).all()
    assert stats.kstest(np.asarray(taus, np.float64), expected.cdf).pvalue > 0.01
    number = decays((40, 100), distribution, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    assert isinstance(number, nnx.Param) and number.shape == (40, 100)
    assert stats.kstest(-1 / np.log(number[...].ravel()), expected.cdf).pvalue > 0.01


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, jnp.bfloat16])
def test_what_is_drawn_outside_is_put_at_the_nearest_end(dtype):
    """And taken by a neuron in every number format, rounded as its bounds are."""
    number = decays(400, gamma(15), between=(5, 25), param_dtype=dtype, rngs=nnx.Rngs(0))
    LIF(number)
    np.testing.assert_allclose(number[...].min().astype(float), LOW, rtol=float(jnp.finfo(dtype).eps))
    np.testing.assert_allclose(number[...].max().astype(float), HIGH, rtol=float(jnp.finfo(dtype).eps))
    np.testing.assert_array_equal(
        decays(3, lambda *_: jnp.array([2.0, 3, np.inf]), (4, np.inf), rngs=nnx.Rngs(0))[2], 1
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LIF(bounded(0.5, 0.1, 1.2)), r"LIF\(decay=bounded.*\[0.1, 1.2\] must lie in \[0, 1\]"),
        (lambda: LIF(threshold=bounded(0.5, -1, 2)), r"bounds \[-1, 2\] must lie in \[0.001, inf\]"),
        (lambda: bounded(0.5, 1.0, 1.0), "expected low < high"),
        (lambda: bounded(np.nan, 0.0, np.nan), "expected low < high"),
        (lambda: LIF(bounded(np.nan, 0.0, 1.0)), r"\[0, 1\], but range from nan"),
        (lambda: uniform(0, 5), r"uniform\(0, 5\): expected 0 < low"),
        (lambda: log_uniform(5, 2), "log_uniform.*expected 0 < low"),
        (lambda: normal(5, 0), "a mean and a deviation above 0"),
        (lambda: gamma(-3), "an order above 0"),
        (lambda: decays(3, gamma(3), (5, 5), rngs=nnx.Rngs(0)), "0 < τ_min < τ_max"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_streams_of_keys_are_asked_for():
    with pytest.raises(TypeError, match=r"decays\(rngs=...\): expected streams of random keys"):
        decays(3, gamma(3), rngs=0)
