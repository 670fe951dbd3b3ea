"""Bad arguments of the public constructors and entry points are refused at once, with what to write instead."""

import functools

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import surrogate
from safjax.models import SpikingMLP, SpikingResNet, SpikingVGG, SpikingVGGF, cifar_resnet18
from safjax.nn import ALIF, IF, LIF, PLIF, PSN, SPSN, CurrentLIF, Dropout, LeakyReadout, SlidingPSN, Synapse, WSConv
from safjax.ops.standardisation import standardise

NOT_A_NUMBER, INFINITE = float("nan"), float("inf")
BAD_DECAYS = [-0.1, 2, NOT_A_NUMBER, "0.5", True]
BAD_POSITIVES = [-1, 0, NOT_A_NUMBER, INFINITE, "1", True]
BAD_FLOORS = [0.5, NOT_A_NUMBER, "0", False]
BAD_COUNTS = [0, -1, 2.5, "3", True]


def rngs():
    return nnx.Rngs(0)


DECAYS = [
    (LIF, "decay"),
    (PLIF, "decay"),
    (CurrentLIF, "decay"),
    (CurrentLIF, "synaptic_decay"),
    (ALIF, "decay"),
    (ALIF, "adaptation_decay"),
    (LeakyReadout, "decay"),
    (functools.partial(SPSN, rngs=rngs()), "synaptic_decay"),
    (functools.partial(SPSN, rngs=rngs()), "membrane_decay"),
]
POSITIVES = [
    *((neuron, "threshold") for neuron in (LIF, IF, PLIF, CurrentLIF, ALIF)),
    (LIF, "reset"),
    (ALIF, "strength"),
    (surrogate.Sigmoid, "alpha"),
    (surrogate.Triangle, "width"),
    (surrogate.Rectangle, "width"),
    (surrogate.Arctan, "alpha"),
    (surrogate.Exponential, "width"),
    (surrogate.Exponential, "scale"),
    (surrogate.Gaussian, "sigma"),
]
COUNTS = [
    (LIF, "max_spikes"),
    (SlidingPSN, "order"),
    (functools.partial(PSN, rngs=rngs()), "steps"),
    (functools.partial(PSN, steps=3, rngs=rngs()), "order"),
    (functools.partial(SpikingVGG, rngs=rngs()), "num_classes"),
    (functools.partial(cifar_resnet18, rngs=rngs()), "num_classes"),
    (functools.partial(WSConv, out_features=4, rngs=rngs()), "in_features"),
    (functools.partial(WSConv, 4, rngs=rngs()), "out_features"),
    (functools.partial(WSConv, 4, 4, rngs=rngs()), "strides"),
]


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        *((make, name, value) for make, name in DECAYS for value in BAD_DECAYS),
        *((make, name, value) for make, name in POSITIVES for value in BAD_POSITIVES),
        *((make, name, value) for make, name in COUNTS for value in BAD_COUNTS),
        *((LIF, "floor", value) for value in BAD_FLOORS),
    ],
)
def test_numbers_out_of_range(make, name, value):
    with pytest.raises(ValueError, match=rf"{name}.*expected|{name}.*must"):
        make(**{name: value})


@pytest.mark.parametrize("neuron", [LIF, PLIF, CurrentLIF, ALIF, functools.partial(SlidingPSN, 3)])
@pytest.mark.parametrize("value", [None, "sigmoid", surrogate.Sigmoid])
def test_surrogates_that_are_none(neuron, value):
    with pytest.raises(TypeError, match=r"surrogate=.*expected a spike function"):
        neuron(surrogate=value)


@pytest.mark.parametrize("width", [0, -1, NOT_A_NUMBER, INFINITE])
@pytest.mark.parametrize("model", [SpikingVGG, SpikingVGGF, cifar_resnet18])
def test_widths(model, width):
    with pytest.raises(ValueError, match="positive factor"):
        model(10, width=width, rngs=rngs())


@pytest.mark.parametrize("padding", ["same", "", ((1, 1),), ((1, 1), (1, 1), (1, 1))])
def test_paddings(padding):
    with pytest.raises(ValueError, match="padding"):
        WSConv(2, 3, padding=padding, rngs=rngs())


@pytest.mark.parametrize("rate", [-0.1, 1, 2, NOT_A_NUMBER, "0.1", None])
def test_dropout_rates(rate):
    with pytest.raises(ValueError, match="rate"):
        Dropout(rate, rngs=rngs())


def test_a_single_weight_has_no_variance():
    with pytest.raises(ValueError, match="no variance"):
        WSConv(1, 8, (1, 1), rngs=rngs())
    with pytest.raises(ValueError, match="variance"):
        standardise(jnp.ones((1, 1, 1, 8)), jnp.ones(8))
    assert np.isfinite(WSConv(2, 8, (1, 1), rngs=rngs())(jnp.ones((1, 2, 2, 2)))).all()
    with pytest.raises(ValueError, match="no variance"):
        cifar_resnet18(width=0.01, rngs=rngs())


@pytest.mark.parametrize("sizes", [(3, 4), (3, 0, 2), (3, 2.5, 2), (3, "4", 2)])
def test_sizes(sizes):
    with pytest.raises(ValueError, match="sizes"):
        SpikingMLP(sizes, rngs=rngs())


def test_stages():
    with pytest.raises(ValueError, match="stages"):
        SpikingResNet(3, WSConv(1, 4, rngs=rngs()), stages=(1, 0), widths=(4, 8), rngs=rngs())


def net():
    return nnx.Sequential(Synapse(nnx.Linear(3, 2, rngs=rngs())), LIF(), LeakyReadout())


def loss(output, labels):
    return optax.softmax_cross_entropy_with_integer_labels(output, labels).mean()


@pytest.mark.parametrize("steps", [*BAD_COUNTS])
def test_steps(steps):
    for entry in (
        lambda: safjax.train_step(loss, safjax.rules.saf_f(), optax.sgd(0.1), steps=steps),
        lambda: safjax.value_and_grad(loss, safjax.rules.saf_f(), steps=steps),
        lambda: safjax.predict(net(), jnp.ones((2, 3)), steps=steps),
        lambda: safjax.simulate(net(), jnp.ones((2, 3)), steps=steps),
    ):
        with pytest.raises(ValueError, match=r"steps=.*whole number ≥ 1"):
            entry()


def test_sequences_without_steps_or_examples():
    for x, message in (
        (jnp.ones((0, 2, 3)), "T ≥ 1"),
        (jnp.ones((4, 0, 3)), "x is empty"),
        (jnp.ones(()), "T ≥ 1"),
        ({"sound": jnp.ones((4, 2, 3)), "sight": jnp.ones((5, 2, 3))}, r"leading axes are \[4, 5\]"),
    ):
        with pytest.raises(ValueError, match=message):
            safjax.predict(net(), x)
    with pytest.raises(ValueError, match="x is empty"):
        safjax.value_and_grad(loss, safjax.rules.bptt(), steps=2)(net(), jnp.ones((0, 3)), jnp.zeros(0, int))


@pytest.mark.parametrize("optimizer", [None, "adam", optax.adam])
def test_optimizers_that_are_none(optimizer):
    with pytest.raises(TypeError, match=r"optimizer must be .* optax.adam\(1e-3\)"):
        safjax.train_step(loss, safjax.rules.saf_f(), optimizer, steps=2)


def test_rules_and_losses_that_are_none():
    with pytest.raises(TypeError, match=r"Write saf_f\(\)"):
        safjax.train_step(loss, safjax.rules.saf_f, optax.sgd(0.1), steps=2)
    with pytest.raises(TypeError, match="loss must be a function"):
        safjax.train_step("cross-entropy", safjax.rules.saf_f(), optax.sgd(0.1), steps=2)
