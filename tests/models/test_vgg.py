"""The published VGG."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.models import SpikingVGG
from safjax.nn import LIF
from tests import nets


def parameters(**options):
    net = nnx.eval_shape(lambda: SpikingVGG(rngs=nnx.Rngs(0), **options))
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(net, nnx.Param)))


def test_published_parameter_counts():
    assert parameters(num_classes=10) == 9_228_362
    assert parameters(num_classes=100) == 9_274_532
    assert parameters(num_classes=10, in_features=2) == 9_227_786


def test_layers_and_shapes():
    net = SpikingVGG(7, width=1 / 16, rngs=nnx.Rngs(0))
    assert sum(isinstance(m, LIF) for _, m in nnx.iter_modules(net)) == 8
    spikes = safjax.simulate(net, jnp.ones((2, 32, 32, 3)), 3)
    assert spikes.outputs.shape == (3, 2, 7)
    shapes = [s.shape[2:] for s in spikes.spikes.values()]
    assert sorted(shapes, reverse=True) == [
        (32, 32, 8), (32, 32, 4), (16, 16, 16), (16, 16, 16), (8, 8, 32), (8, 8, 32), (4, 4, 32), (4, 4, 32),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_a_narrow_vgg_keeps_theorem_1():
    """Eight layers deep, with scaled spikes and pooling, every layer firing."""
    net = SpikingVGG(nets.CLASSES, width=1 / 16, decay=0.8, threshold=0.5, param_dtype=nets.DTYPE, rngs=nnx.Rngs(0))
    x = nets.image(size=16, channels=3)
    results = [
        safjax.value_and_grad(nets.loss, rule, 4)(net, x, nets.labels()) for rule in (rules.saf_e(), rules.ottt_o())
    ]
    nets.assert_fires(results[0][0][1].rates, low=0.05)
    nets.assert_trees_close(results[0][1], results[1][1], rtol=1e-11)


@pytest.mark.parametrize(
    "options, word",
    [
        ({"num_classes": 0}, "num_classes"),
        ({"width": 0}, "width"),
        ({"cfg": ()}, "cfg"),
        ({"cfg": ("M",)}, "cfg"),
        ({"cfg": (8, "P")}, "cfg"),
        ({"cfg": (8, -1)}, "cfg"),
        ({"decay": 2.0}, "decay"),
    ],
)
def test_bad_options(options, word):
    with pytest.raises(ValueError, match=word):
        SpikingVGG(rngs=nnx.Rngs(0), **options)


def test_flattened_map():
    """Each place of the last map, of 5 × 6 pixels pooled twice, has weights of its own."""
    net = SpikingVGG(3, cfg=(2, "M", 4, "M"), in_features=1, flatten=(5, 6), rngs=nnx.Rngs(0))
    assert net.classifier.layer.layers[-1].kernel.shape == (1 * 1 * 4, 3)
    net = SpikingVGG(3, cfg=(2, "M", 4), in_features=1, flatten=(5, 6), rngs=nnx.Rngs(0))
    assert net.classifier.layer.layers[-1].kernel.shape == (2 * 3 * 4, 3)
    assert safjax.predict(net, jnp.ones((2, 5, 6, 1)), steps=2).shape == (2, 2, 3)
    with pytest.raises(ValueError, match=r"flatten=\(3, 6\).*divide both sides by 4"):
        SpikingVGG(3, cfg=(2, "M", 4, "M"), flatten=(3, 6), rngs=nnx.Rngs(0))
