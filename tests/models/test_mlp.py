"""The spiking multi-layer perceptron."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax.models import SpikingMLP
from safjax.nn import LIF
from tests import nets


def test_layers_and_parameters():
    net = SpikingMLP((20, 32, 16, 10), rngs=nnx.Rngs(0))
    assert sum(isinstance(m, LIF) for _, m in nnx.iter_modules(net)) == 2
    sizes = [leaf.size for leaf in jax.tree.leaves(nnx.state(net, nnx.Param))]
    assert sum(sizes) == 20 * 32 + 32 + 32 * 16 + 16 + 16 * 10 + 10


def once(steps, units, batch=16):
    """Spike trains of one spike a unit."""
    times = np.random.default_rng(0).integers(0, steps, (batch, units))
    return jnp.asarray(np.arange(steps)[:, None, None] == times, jnp.float32)


@pytest.mark.parametrize("threshold", [1.0, 3.0])
@pytest.mark.parametrize("decay", [0.0, 0.8, 0.95, 1.0])
@pytest.mark.parametrize(("steps", "units"), [(100, 100), (30, 400)])
def test_layers_fire_at_the_start_whatever_size_rate_decay_and_threshold(steps, units, decay, threshold):
    net = SpikingMLP((units, 128, 64, 10), input_rate=1 / steps, decay=decay, threshold=threshold, rngs=nnx.Rngs(0))
    spikes = safjax.simulate(net, once(steps, units)).spikes
    rates = {path: float(s.mean()) for path, s in spikes.items()}
    assert len(rates) == 2
    nets.assert_fires(rates, low=0.05, high=0.3)


@pytest.mark.parametrize(
    ("sizes", "options", "word"),
    [
        ((20, 10), {}, "sizes"),
        ((20, 0, 10), {}, "sizes"),
        ((20, "M", 10), {}, "sizes"),
        ((20, 8, 10), {"input_rate": 0}, "input_rate"),
        ((20, 8, 10), {"input_rate": 1.5}, "input_rate"),
        ((20, 8, 10), {"decay": 2.0}, "decay"),
    ],
)
def test_bad_options(sizes, options, word):
    with pytest.raises(ValueError, match=word):
        SpikingMLP(sizes, rngs=nnx.Rngs(0), **options)
