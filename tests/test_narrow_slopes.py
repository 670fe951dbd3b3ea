"""Back-propagation through time with the slopes of neurons kept in another number format."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax.rules import bptt
from safjax.surrogate import Rectangle, Sigmoid
from tests import nets

BF16 = jnp.bfloat16


def sequence():
    return jnp.asarray(np.random.default_rng(0).normal(0.5, 2.0, (6, nets.BATCH, 7)))


def grads(rule, surrogate):
    (value, aux), found = nets.value_and_grad(nets.loss, rule)(
        nets.Dense(surrogate=surrogate), sequence(), nets.labels()
    )
    nets.assert_fires(aux.rates)
    return value, found


@pytest.mark.usefixtures("x64")
def test_slopes_that_the_format_holds_exactly_give_the_same_gradient():
    """Those of a rectangle are 0 and 1."""
    (value, found), (expected, exact) = (grads(rule, Rectangle()) for rule in (bptt(slopes=BF16), bptt()))
    assert value == expected
    nets.assert_trees_close(found, exact, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_other_slopes_are_rounded():
    """By 1 part in 256 each at most; a product over T = 6 steps and two layers has a few of them."""
    _, exact = grads(bptt(), Sigmoid())
    _, found = grads(bptt(slopes=BF16), Sigmoid())
    nets.assert_trees_close(found, exact, rtol=0.02)
    off = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max() / jnp.abs(b).max()), found, exact)
    assert max(jax.tree.leaves(off)) > 1e-5


@pytest.mark.usefixtures("x64")
def test_second_derivatives_in_a_wide_format():
    """Kept as they are, but by the operations of slopes that are rounded: the same derivatives of derivatives."""
    net, x, y = nets.Dense(sizes=(7, 4, 4)), sequence(), nets.labels()

    def second(rule):
        gradient = safjax.value_and_grad(nets.loss, rule)

        def size(x):
            return sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient(net, x, y)[1]))

        return jax.jit(jax.grad(size))(x)

    nets.assert_trees_close(second(bptt(slopes=jnp.float64)), second(bptt()), rtol=1e-12)


def test_what_the_time_loop_keeps():
    """Of two layers of 2048 neurons each, 24 steps. `tests/aot` reads from a compiled program what that saves."""
    net = safjax.models.SpikingVGG(3, cfg=(8, 8), in_features=1, rngs=nnx.Rngs(0))
    arguments = jax.ShapeDtypeStruct((8, 16, 16, 1), jnp.float32), jax.ShapeDtypeStruct((8,), jnp.int32)

    def kept(rule):
        step = safjax.train_step(nets.loss, rule, optax.sgd(0.1), steps=24)
        text = step.lower(net, step.init(net), *arguments).as_text()
        return {kind for kind in ("bf16", "f32") if f"tensor<24x8x2048x{kind}>" in text}

    assert (kept(bptt()), kept(bptt(slopes=BF16))) == ({"f32"}, {"bf16"})


@pytest.mark.parametrize("slopes", [jnp.int8, "no format", 3.5])
def test_no_format_of_real_numbers(slopes):
    with pytest.raises(ValueError, match=r"expected a format of real numbers.*jnp\.bfloat16"):
        bptt(slopes=slopes)


def test_not_layer_by_layer():
    with pytest.raises(ValueError, match="only where the net is computed step by step"):
        bptt(layerwise=True, slopes=BF16)
