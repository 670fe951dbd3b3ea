"""SEW-ResNet, MS-ResNet and Spikformer: published sizes, equations, and training under every rule that takes them."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import models, rules
from safjax.models import MSResNet, SEWResNet, Spikformer, sew_add, sew_and, sew_iand
from safjax.nn import LIF, BatchNorm
from tests import nets

RULES = {
    **{name: make() for name, make in rules.RULES.items()},
    "bptt(layerwise=True)": rules.bptt(layerwise=True),
    "rate_backprop(layerwise=True)": rules.rate_backprop(layerwise=True),
}


def shapes(make, *args, **options):
    return nnx.eval_shape(lambda: make(*args, rngs=nnx.Rngs(0), **options))


def parameters(net):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(net, nnx.Param)))


def normalised(inputs, outputs, size):
    """A convolution without bias, and scale and bias of its normalisation."""
    return size * size * inputs * outputs + 2 * outputs


def resnet(stages, strides, classes=1000, channels=64):
    """The parameters of a ResNet of two 3×3 convolutions a block, as PyTorch's torchvision counts them."""
    total = normalised(3, channels, 7)
    for count, stride, width in zip(stages, strides, (64, 128, 256, 512), strict=True):
        for block in range(count):
            total += normalised(channels, width, 3) + normalised(width, width, 3)
            if block == 0 and (stride > 1 or channels != width):
                total += normalised(channels, width, 1)
            channels = width
    return total + (channels + 1) * classes


@pytest.mark.parametrize(
    ("make", "stages", "strides", "published", "millions"),
    [
        (models.sew_resnet18, (2, 2, 2, 2), (1, 2, 2, 2), 11_689_512, "11.69"),
        (models.sew_resnet34, (3, 4, 6, 3), (1, 2, 2, 2), 21_797_672, "21.80"),
        (models.ms_resnet18, (2, 2, 2, 2), (2, 2, 2, 2), 11_693_736, "11.69"),
        (models.ms_resnet34, (3, 4, 6, 3), (2, 2, 2, 2), 21_801_896, "21.80"),
    ],
)
def test_published_resnets(make, stages, strides, published, millions):
    """SEW-ResNets have the parameters of torchvision's; the paper cuts 21.797 to 21.79."""
    net = shapes(make)
    assert parameters(net) == resnet(stages, strides) == published
    assert f"{published / 1e6:.2f}" == millions


SIZES_18 = {models.sew_resnet18: {2: 5, 4: 5, 8: 5, 16: 4, 32: 1}, models.ms_resnet18: {2: 4, 4: 4, 8: 4, 16: 4, 32: 1}}


@pytest.mark.parametrize("make", [models.sew_resnet18, models.ms_resnet18])
def test_resolution_of_the_neurons(make):
    """Halved by the stem, and four times more by the stages, or by the pooling and three of them."""
    graphdef, state = nnx.split(shapes(make, 7, width=1 / 32))
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    run = jax.eval_shape(lambda state, x: safjax.simulate(nnx.merge(graphdef, state), x, 2), state, images)
    assert run.outputs.shape == (2, 2, 7)
    sizes = [spikes.shape[2] for spikes in run.spikes.values()]
    assert {size: sizes.count(size) for size in sorted(set(sizes))} == SIZES_18[make]


def spikformer(features, depth=4):
    """The parameters of the published code for CIFAR-10."""
    widths = (3, features // 8, features // 4, features // 2, features, features)
    patches = sum(normalised(a, b, 3) for a, b in itertools.pairwise(widths))
    dense = lambda a, b: (a + 1) * b + 2 * b  # noqa: E731
    block = 4 * dense(features, features) + dense(features, 4 * features) + dense(4 * features, features)
    return patches + depth * block + (features + 1) * 10


@pytest.mark.parametrize(("features", "published", "printed"), [(256, 4_155_178, "4.15"), (384, 9_324_730, "9.32")])
def test_published_spikformers(features, published, printed):
    """Spikformer-4-256 and 4-384; the paper's figures are cut after the second digit."""
    net = shapes(Spikformer, features=features, heads=8)
    assert parameters(net) == spikformer(features) == published
    assert str(published / 1e6)[:4] == printed
    run = jax.eval_shape(
        lambda x: safjax.simulate(Spikformer(features=16, depth=1, heads=2, rngs=nnx.Rngs(0)), x, 2),
        jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32),
    )
    assert run.spikes["blocks.layers.0.attended"].shape == (2, 2, 64, 16)


def stem(channels=4):
    return nnx.Conv(3, channels, (3, 3), kernel_init=nnx.initializers.normal(0.5), rngs=nnx.Rngs(7))


def plain(features):
    """In the place of a normalisation: an affine map without statistics."""
    return lambda x: 1.5 * x


SIZES = {"stages": (1, 1), "widths": (4, 6)}
NETS = {
    "SEW-ResNet, ADD": lambda **o: SEWResNet(4, stem(), connect=sew_add, **SIZES, rngs=nnx.Rngs(0), **o),
    "SEW-ResNet, AND": lambda **o: SEWResNet(4, stem(), connect=sew_and, **SIZES, rngs=nnx.Rngs(0), **o),
    "SEW-ResNet, IAND": lambda **o: SEWResNet(4, stem(), connect=sew_iand, **SIZES, rngs=nnx.Rngs(0), **o),
    "MS-ResNet": lambda **o: MSResNet(4, stem(), strides=(1, 2), **SIZES, rngs=nnx.Rngs(0), **o),
    "Spikformer": lambda **o: Spikformer(
        4, features=8, depth=1, heads=2, neuron=functools.partial(LIF, 0.5, 0.3), rngs=nnx.Rngs(0), **o
    ),
}
NORMS = {
    "all steps": {},
    "each step": {"norm": functools.partial(BatchNorm, over="step")},
    "none": {"norm": plain},
}
PRODUCTS = ("SEW-ResNet, AND", "SEW-ResNet, IAND", "Spikformer")


def taken(name, norm):
    """The rules that train the net."""
    by_layer = {name for name, rule in RULES.items() if rule.propagation.whole_sequence}
    summing = {n for n, rule in RULES.items() if rule.propagation.accumulates or rule.schedule.of_mean_output}
    per_weight = {name for name, rule in RULES.items() if rule.propagation.per_weight}
    if norm == "all steps":
        return by_layer - summing if name in PRODUCTS else by_layer
    if norm == "each step":
        return set(RULES) - summing
    # Of rules that sum over time one has products beside the weights.
    return set(RULES) - (summing - {"stllr"}) if name in PRODUCTS else set(RULES) - per_weight


SEEN = {("SEW-ResNet, IAND", "none")}


@pytest.mark.parametrize(
    ("name", "norm"),
    [pytest.param(*c, marks=() if c in SEEN else pytest.mark.slow) for c in itertools.product(NETS, NORMS)],
)
def test_check_lists_the_rules_that_train_it(name, norm):
    report = safjax.check(NETS[name](**NORMS[norm]), image(), steps=3)
    assert set(report.trained_by) == taken(name, norm), report


def image():
    return jnp.asarray(np.random.default_rng(0).normal(0.5, 1.0, (3, 8, 8, 3)), jnp.float32)


# Without a normalisation the published weights of a Spikformer, of deviation 0.02, leave its neurons silent.
TRAINED = [
    (name, norm, rule)
    for name, norm in itertools.product(NETS, NORMS)
    if (name, norm) != ("Spikformer", "none")
    for rule in RULES
    if rule in taken(name, norm)
]
QUICK = {
    *(("SEW-ResNet, IAND", "all steps", "exodus"), ("SEW-ResNet, ADD", "none", "ottt_a")),
    *(("MS-ResNet", "none", "saf_f"), ("Spikformer", "all steps", "exodus")),
}


@pytest.mark.parametrize(
    ("name", "norm", "rule"),
    [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in TRAINED],
)
def test_it_trains(name, norm, rule):
    net = NETS[name](**NORMS[norm])
    before = nnx.as_pure(nnx.state(net, nnx.Param))
    before = jax.tree.map(np.array, before)
    step = safjax.train_step(nets.loss, RULES[rule], optax.adam(1e-2), steps=3)
    opt_state = step.init(net)
    for _ in range(3):
        net, opt_state, (value, aux) = step(net, opt_state, image(), nets.labels())
    assert np.isfinite(value)
    after = nnx.as_pure(nnx.state(net, nnx.Param))
    assert all(map(np.isfinite, map(np.sum, jax.tree.leaves(after))))
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), after, before)
    assert np.mean(jax.tree.leaves(moved)) > 0.7, moved
    assert all(rate > 0 for rate in aux.rates.values()), aux.rates


def test_strides_that_do_not_fit_are_called_strides():
    with pytest.raises(ValueError, match=r"MSResNet\(strides=\(2,\)\): expected the stride .* of the 2 stages"):
        MSResNet(4, stem(), strides=(2,), **SIZES, rngs=nnx.Rngs(0))
