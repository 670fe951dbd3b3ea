"""The residual networks: published sizes, variances, and every rule on a small one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.models import SpikingResNet, cifar_resnet18, nf_resnet34
from safjax.models.resnet import Block, SkipInit
from safjax.nn import LIF, WSConv
from tests import nets
from tests.tables import BROAD, families, rule_by_rule


def shapes(make, *args, **options):
    return nnx.eval_shape(lambda: make(*args, rngs=nnx.Rngs(0), **options))


def parameters(net):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(net, nnx.Param)))


def count(net, kind):
    return sum(isinstance(module, kind) for _, module in nnx.iter_modules(net))


def test_published_nf_resnet34():
    net = shapes(nf_resnet34)
    assert parameters(net) == 21_797_688
    assert (count(net, LIF), count(net, WSConv), count(net, SkipInit)) == (32, 36, 16)
    variances = [round(block.beta**2, 6) for block in net.blocks.layers]
    assert variances == [
        1, 1.04, 1.08, 1.12, 1.04, 1.08, 1.12, 1.16, 1.04, 1.08, 1.12, 1.16, 1.2, 1.24, 1.04, 1.08,
    ]  # fmt: skip


def test_resnet18_has_the_parameters_of_the_usual_one_and_a_gain_a_block():
    net = shapes(cifar_resnet18)
    assert parameters(net) == 11_173_962 + 8
    assert (count(net, LIF), count(net, SkipInit)) == (16, 8)
    assert parameters(shapes(cifar_resnet18, 100, in_features=1)) == 11_173_970 + 90 * 513 - 2 * 9 * 64


@pytest.mark.parametrize(
    ("make", "size", "sizes"),
    [
        (nf_resnet34, 64, [16] * 7 + [8] * 8 + [4] * 12 + [2] * 5),
        (cifar_resnet18, 32, [32] * 5 + [16] * 4 + [8] * 4 + [4] * 3),
    ],
)
def test_resolution_of_every_neuron(make, size, sizes):
    """The neuron that opens a stage still works at the resolution of the stage before."""
    graphdef, state = nnx.split(shapes(make, 7, width=1 / 32))
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    run = jax.eval_shape(lambda state, x: safjax.simulate(nnx.merge(graphdef, state), x, 2), state, images)
    assert run.outputs.shape == (2, 2, 7)
    assert sorted((spikes.shape[2] for spikes in run.spikes.values()), reverse=True) == sizes


def small():
    """Two blocks, one with a projection, whose gains and readout are not at their initial zero."""
    rngs, rng = nnx.Rngs(0), np.random.default_rng(0)
    stem = WSConv(2, 4, param_dtype=nets.DTYPE, rngs=rngs)
    net = SpikingResNet(nets.CLASSES, stem, stages=(1, 1), widths=(4, 6), param_dtype=nets.DTYPE, rngs=rngs)
    for _, module in nnx.iter_modules(net):
        if isinstance(module, SkipInit):
            module.gain[...] = jnp.asarray(1.5, nets.DTYPE)
    dense = net.classifier.layer.layers[-1]
    dense.kernel[...] = jnp.asarray(rng.normal(0, 0.5, dense.kernel[...].shape), nets.DTYPE)
    return net


@pytest.mark.usefixtures("x64")
def test_theorem_1():
    net, x = small(), nets.image(size=8)
    (online, ottt), (accumulated, saf) = (
        safjax.value_and_grad(nets.loss, rule, 4, outputs="all")(net, x, nets.labels())
        for rule in (rules.ottt_o(), rules.saf_e())
    )
    nets.assert_fires(accumulated[1].rates)
    assert list(accumulated[1].rates) == [f"blocks.layers.{b}.lif{n}" for b in (0, 1) for n in (1, 2)]
    np.testing.assert_allclose(accumulated[1].outputs, online[1].outputs, rtol=1e-12)
    nets.assert_trees_close(saf, ottt, rtol=1e-12)
    assert jax.tree.structure(saf) == jax.tree.structure(nnx.state(net, nnx.Param))


@pytest.mark.parametrize("rule", rule_by_rule(BROAD, families))
@pytest.mark.usefixtures("x64")
def test_every_rule_takes_it(rule):
    """The optimizer's tree maps would refuse gradients of another tree."""
    net = small()
    step = safjax.train_step(nets.loss, rules.RULES[rule](), optax.sgd(0.1), steps=2, outputs="all")
    step.lower(net, jax.eval_shape(step.init, net), nets.image(size=8), nets.labels())


@pytest.mark.usefixtures("x64")
def test_a_block_is_its_shortcut_until_its_gain_is_learned():
    net = small()
    x, current = nets.image(size=8, channels=4), []
    for gain in (0.0, 1.5):
        block = net.blocks.layers[0]
        block.conv2.layer.layers[-1].gain[...] = jnp.asarray(gain, nets.DTYPE)
        current.append(safjax.predict(nnx.Sequential(block, safjax.nn.InstantReadout()), x, 1)[0])
    np.testing.assert_array_equal(current[0], x)
    assert float(jnp.abs(current[1] - x).max()) > 0.1


def test_only_blocks_that_change_the_stream_have_a_projection():
    blocks = shapes(nf_resnet34).blocks.layers
    assert [place for place, block in enumerate(blocks) if block.projection is not None] == [3, 7, 13]
    assert all(isinstance(block, Block) for block in blocks)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"num_classes": 0}, "num_classes"),
        ({"stages": ()}, "stages"),
        ({"stages": (1, 0)}, "stages"),
        ({"stages": (1,)}, "as many"),
        ({"widths": (4, 2.5)}, "widths"),
        ({"widths": (4, True)}, "widths"),
        ({"decay": 2.0}, "decay"),
        ({"threshold": 0}, "threshold"),
    ],
)
def test_bad_options(options, word):
    good = {"num_classes": 3, "stem": lambda x: x, "stages": (1, 1), "widths": (4, 6)}
    with pytest.raises(ValueError, match=word):
        SpikingResNet(**{**good, **options}, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("make", [nf_resnet34, cifar_resnet18])
def test_bad_width(make):
    with pytest.raises(ValueError, match="width is 0; expected a positive factor"):
        make(width=0, rngs=nnx.Rngs(0))


def test_bad_stem():
    with pytest.raises(TypeError, match="expected a layer or a function"):
        SpikingResNet(3, 7, stages=(1,), widths=(4,), rngs=nnx.Rngs(0))
