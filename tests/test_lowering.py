"""Training steps can be lowered for accelerators, without one, and use the accelerators' own convolutions there."""

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from tests.tables import BROAD, families, rule_by_rule


def loss(output, labels):
    return optax.softmax_cross_entropy_with_integer_labels(output, labels).mean()


def program(rule, platform, precision=None):
    """The training step of a net whose one inner convolution is large enough for minimal filtering on CPU, as text."""
    net = safjax.models.SpikingVGG(3, cfg=(64, 128), in_features=1, rngs=nnx.Rngs(0))
    step = safjax.train_step(loss, rule, optax.sgd(0.1), steps=3)
    graphdef, state = nnx.split(net)

    def run(state, opt_state, images, labels):
        net, opt_state, (value, _) = step(nnx.merge(graphdef, state), opt_state, images, labels)
        return nnx.state(net), opt_state, value

    images, labels = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.int32)
    with jax.default_matmul_precision(precision):
        exported = jax.export.export(jax.jit(run), platforms=[platform])(state, step.init(net), images, labels)
    return exported.mlir_module()


@pytest.mark.parametrize("name", rule_by_rule(BROAD, families))
def test_every_rule_is_lowered_for_accelerators(name):
    """There the inner convolution and its gradients are convolutions; on CPU they are products of tiles."""
    cpu, cuda, tpu = (program(rules.RULES[name](), p).count("stablehlo.convolution(") for p in ("cpu", "cuda", "tpu"))
    assert cuda == tpu >= cpu + 3


@pytest.mark.parametrize("name", ["saf_e", "ottt_a", "exodus"])
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_products_are_as_precise_as_a_user_asks(name, platform):
    """Accelerators round float32 factors unless asked: forward and backward, every product must hand that on."""
    lines = program(rules.RULES[name](), platform, "highest").splitlines()
    products = [line for line in lines if "stablehlo.convolution(" in line or "stablehlo.dot_general" in line]
    assert len(products) >= 6
    assert [line for line in products if "HIGHEST" not in line] == []
