"""An initialiser of kernels: neurons fire at the rate that it was asked for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax.nn import LIF, LeakyReadout, Synapse, lif_init

CASES = [
    # inputs, their rate, decay, rate, threshold
    (18, 0.02, 0.5, 0.1, 1.0),
    (100, 0.05, 0.95, 0.05, 0.4),
    (64, 0.3, 0.0, 0.2, 1.0),
    (600, 0.1, 1.0, 0.1, 1.0),
]


def rates(layers, x):
    return [float(s.mean()) for s in safjax.simulate(nnx.Sequential(*layers, LeakyReadout(0.5)), x).spikes.values()]


@pytest.mark.parametrize(("inputs", "input_rate", "decay", "rate", "threshold"), CASES)
def test_a_layer_fires_as_predicted(inputs, input_rate, decay, rate, threshold):
    init = lif_init(input_rate, rate=rate, decay=decay, threshold=threshold)
    dense = nnx.Linear(inputs, 300, kernel_init=init, rngs=nnx.Rngs(3))
    x = jax.random.bernoulli(jax.random.key(5), input_rate, (50, 8, inputs)).astype(jnp.float32)
    (found,) = rates([Synapse(dense), LIF(decay, threshold)], x)
    assert abs(found / rate - 1) < 0.2


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_the_next_layers_too(decay):
    """Where inputs differ in their rates, and have memory, within a third; Flax's own weights leave them silent."""
    x = jax.random.bernoulli(jax.random.key(5), 0.03, (40, 4, 8, 8, 8)).astype(jnp.float32)

    def layers(first, others):
        # A border of zeros would give a part of the neurons fewer inputs.
        conv = functools.partial(nnx.Conv, kernel_size=(3, 3), padding="CIRCULAR")
        made = [conv(8, 32, kernel_init=first, rngs=nnx.Rngs(0))]
        made += [conv(32, 32, kernel_init=others, rngs=nnx.Rngs(k)) for k in (1, 2)]
        return [layer for conv in made for layer in (Synapse(conv), LIF(decay))]

    init = functools.partial(lif_init, rate=0.1, decay=decay, steps=40)
    found = rates(layers(init(0.03), init(0.1)), x)
    assert all(abs(rate / 0.1 - 1) < 0.34 for rate in found), found
    stock = nnx.initializers.lecun_normal()
    assert rates(layers(stock, stock), x)[-1] < 0.01


def test_the_variance_of_a_membrane_that_is_never_reset():
    """As the docstring derives it: n Var[w] (r (1 − r) / (1 − λ²) + r² / (1 − λ)²)."""
    r, n, decay, rng = 0.2, 300, 0.8, np.random.default_rng(0)
    currents = (rng.random((60, 8, n)) < r) @ rng.normal(0, 1, (n, 1500))
    u = 0.0
    for current in currents:
        u = decay * u + current
    expected = n * (r * (1 - r) / (1 - decay**2) + r**2 / (1 - decay) ** 2)
    np.testing.assert_allclose(u.var(), expected, rtol=0.05)


def test_it_is_an_initialiser_like_others():
    init = lif_init(0.1)
    kernel = jax.jit(lambda key: init(key, (3, 3, 4, 8)))(jax.random.key(0))
    assert kernel.shape == (3, 3, 4, 8) and kernel.dtype == jnp.float32
    np.testing.assert_allclose(kernel, init(jax.random.key(0), (3, 3, 4, 8)), rtol=1e-5)
    assert init(jax.random.key(0), (36, 8), jnp.bfloat16).dtype == jnp.bfloat16
    stacked = jax.vmap(lambda key: init(key, (36, 8)))(jax.random.split(jax.random.key(0), 3))
    assert stacked.shape == (3, 36, 8)
    stronger = lif_init(0.1, threshold=2.0)(jax.random.key(0), (36, 8))
    np.testing.assert_allclose(stronger, 2 * init(jax.random.key(0), (36, 8)), rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"input_rate": 0}, r"input_rate=0\): .*\(0, 1\]"),
        ({"input_rate": 0.1, "rate": 0.5}, r"rate=0.5.*\(0, 0.4\]"),
        ({"input_rate": 0.1, "decay": 1.1}, r"decay=1.1.*\[0, 1\]"),
        ({"input_rate": 0.1, "threshold": -1}, "threshold=-1.*positive"),
        ({"input_rate": 0.1, "steps": 0}, "steps=0.*whole number"),
        ({"input_rate": 0.01, "rate": 0.3, "decay": 0.0}, "with 4 such inputs fire at .* at most"),
    ],
)
def test_what_cannot_be(arguments, says):
    with pytest.raises(ValueError, match=says):
        lif_init(**arguments)(jax.random.key(0), (4, 3))
