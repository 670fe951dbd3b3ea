"""Rate-based back-propagation layer by layer: the numbers of the form that goes step by step, and batch statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, BatchNorm, Synapse
from tests import nets
from tests.test_rate_backprop import FORMS, STEPS, OneLayer, cross_entropy, golden, inputs, published

__all__ = ["golden"]
pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("net", [nets.Conv, nets.Residual])
def test_layer_by_layer_it_is_the_same(net, static):
    x, steps = (nets.image(), nets.STEPS) if static else (nets.video(), None)
    results = []
    for rule in FORMS.values():
        (value, aux), grads = safjax.value_and_grad(nets.loss, rule, steps, outputs="all")(net(), x, nets.labels())
        nets.assert_fires(aux.rates)
        results.append((value, aux.outputs, grads))
    (value, outputs, grads), (expected_value, expected_outputs, expected) = results
    np.testing.assert_allclose(value, expected_value, rtol=1e-13)
    np.testing.assert_allclose(outputs, expected_outputs, rtol=1e-12, atol=1e-13)
    nets.assert_trees_close(grads, expected, rtol=1e-12)


def test_layer_by_layer_refused_by_name():
    rngs = nnx.Rngs(0)

    def tried(first, rule=rules.rate_backprop(layerwise=True), **options):  # noqa: B008 (a frozen value)
        net = OneLayer(LIF(0.6))
        net.first = first
        return safjax.value_and_grad(nets.loss, rule)(net, inputs(3), nets.labels(), **options)

    dense = nets._dense(7, 12, rngs)
    norm = BatchNorm(12, over="step", param_dtype=nets.DTYPE)
    with pytest.raises(ValueError, match=r"BatchNorm\(over='step'\) at 'first.layer.layers.1' .* Write over='time'"):
        tried(Synapse(nnx.Sequential(dense, norm)))
    with pytest.raises(ValueError, match="'rate_backprop' .* Synapse at 'first', so it must be affine in its input"):
        tried(Synapse(nnx.Sequential(dense, nnx.relu)))
    with pytest.raises(ValueError, match="Synapse at 'first' holds what is another map at each step"):
        tried(Synapse(nnx.Sequential(dense, safjax.nn.StepWeights(3))))
    with pytest.raises(ValueError, match="AcrossTime at 'first.layers.1' tells time steps apart"):
        tried(nnx.Sequential(Synapse(dense), safjax.nn.AcrossTime(lambda x: x - x.mean(0))))
    with pytest.raises(ValueError, match="LIF at 'lif': the rule 'rate_backprop' takes .* without lengths"):
        tried(Synapse(dense), lengths=jnp.array([3, 2, 1]))
    with pytest.raises(ValueError, match="BatchNorm.* is in training.* 'rate_backprop' sends sums over time"):
        tried(Synapse(nnx.Sequential(dense, BatchNorm(12, over="time", param_dtype=nets.DTYPE))), rules.rate_backprop())


def test_running_statistics_follow_as_under_other_rules(golden):
    """Those of a sequence are moved once, by all its steps; and a net with them is trained by both forms."""
    (net, x, y), (other, *_) = published(golden, "bn"), published(golden, "bn")
    safjax.value_and_grad(cross_entropy, FORMS["by layer"], STEPS)(net, x, y)
    safjax.value_and_grad(cross_entropy, rules.exodus(), STEPS)(other, x, y)
    ours, theirs = (nnx.as_pure(nnx.state(n, nnx.BatchStat)) for n in (net, other))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), ours, theirs)
    net.eval()
    by_step, by_layer = (safjax.value_and_grad(cross_entropy, rule, STEPS)(net, x, y)[1] for rule in FORMS.values())
    for a, b in zip(jax.tree.leaves(by_step), jax.tree.leaves(by_layer), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
