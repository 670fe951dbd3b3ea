"""Every recipe's net on every data set's images."""

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import safjax
from experiments import cifar10, cifar100, digits, fashion_mnist
from experiments.config import Config, ConfigError
from experiments.training.losses import mean_loss
from experiments.training.networks import READOUTS, RESNETS, SURROGATES
from safjax.rules import RULES
from tests.experiments.making import net_of

SHAPES = {"cifar10": (32, 32, 3), "fashion_mnist": (28, 28, 1), "digits": (16, 16, 1)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("experiment", [cifar10, fashion_mnist, digits])
def test_recipe_can_be_trained_on_the_data(experiment, shape):
    config = experiment.CONFIG.changed(width=0.125)
    net = nnx.eval_shape(lambda: net_of(config, shape, 10))
    step = safjax.train_step(lambda *args: mean_loss(*args, 0.05), RULES["saf_f"](), optax.sgd(0.1), steps=2)
    images, labels = jax.ShapeDtypeStruct((2, *shape), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.int32)
    step.lower(net, jax.eval_shape(step.init, net), images, labels)


@pytest.mark.parametrize(
    ("experiment", "classes", "parameters"), [(cifar10, 10, 9_228_362), (cifar100, 100, 9_274_532)]
)
def test_published_sizes(experiment, classes, parameters):
    net = nnx.eval_shape(lambda: net_of(experiment.CONFIG, (32, 32, 3), classes))
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(net, nnx.Param))) == parameters


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_neurons_are_those_of_the_flags(surrogate, readout):
    config = Config().changed(layers=(4, "M", 8), decay=0.25, threshold=0.75, surrogate=surrogate, readout=readout)
    net = nnx.eval_shape(lambda: net_of(config, (8, 8, 1), 3))
    neurons = [module for _, module in nnx.iter_modules(net) if isinstance(module, safjax.nn.LIF)]
    assert len(neurons) == 2 and type(net.readout) is READOUTS[readout]
    for neuron in neurons:
        assert (neuron.decay, neuron.threshold, neuron.surrogate) == (0.25, 0.75, SURROGATES[surrogate]())


@pytest.mark.parametrize(("network", "parameters"), [("resnet18", 11_173_970), ("nf_resnet34", 21_284_672 + 5_146)])
def test_cifar10_with_a_residual_network(network, parameters):
    config = cifar10.CONFIG.changed(network=network, decay=0.25, readout="instant")
    net = nnx.eval_shape(lambda: net_of(config, (32, 32, 3), 10))
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(net, nnx.Param))) == parameters
    assert type(net.readout) is READOUTS["instant"]
    assert {module.decay for _, module in nnx.iter_modules(net) if isinstance(module, safjax.nn.LIF)} == {0.25}


@pytest.mark.parametrize("network", RESNETS)
def test_residual_network_takes_the_smallest_images(network):
    config = Config().changed(network=network, width=1 / 32)
    graphdef, state = nnx.split(nnx.eval_shape(lambda: net_of(config, (4, 4, 1), 3)))
    images = jax.ShapeDtypeStruct((2, 4, 4, 1), jnp.float32)
    outputs = jax.eval_shape(lambda state, x: safjax.predict(nnx.merge(graphdef, state), x, 2), state, images)
    assert outputs.shape == (2, 2, 3)


def test_residual_network_is_for_images():
    with pytest.raises(ConfigError, match="--network=resnet18 is for images"):
        net_of(Config().changed(dataset="randman", network="resnet18", layers=(8,)), (20,), 3)


def test_image_too_small_for_the_layers():
    with pytest.raises(ConfigError, match=r"halved 2 times only"):
        net_of(Config().changed(layers=(4, "M", "M", "M")), (4, 28, 1), 10)
