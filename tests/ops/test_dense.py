"""Dense layers on inputs of several leading axes: as the stock product, without a transposed copy of the input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import safjax
from safjax.nn import LIF, InstantReadout, Synapse
from safjax.ops.dense import dot_general
from tests.nets import assert_trees_close

RNG = np.random.default_rng(0)
LAST = (((2,), (0,)), ((), ()))


@pytest.mark.parametrize(
    "shapes, numbers",
    [
        (((3, 4, 5), (5, 6)), LAST),
        (((4, 5), (5, 6)), (((1,), (0,)), ((), ()))),
        (((3, 4, 5), (6, 5)), (((2,), (1,)), ((), ()))),
        (((3, 4, 5), (4, 6)), (((1,), (0,)), ((), ()))),
        (((3, 4, 5), (4, 5, 6)), (((1, 2), (0, 1)), ((), ()))),
        (((3, 4, 5), (3, 5, 6)), (((2,), (1,)), ((0,), (0,)))),
    ],
)
def test_it_is_the_stock_product(x64, shapes, numbers):
    x, w = (jnp.asarray(RNG.normal(size=shape)) for shape in shapes)

    def both(product):
        y, pull = jax.vjp(lambda x, w: product(x, w, numbers), x, w)
        return y, pull(jnp.cos(y)), jax.jvp(lambda x: product(x, w, numbers), (x,), (jnp.sin(x),))

    assert_trees_close(both(dot_general), both(lax.dot_general), 1e-12)


def test_options_are_handed_on():
    x, w = jnp.ones((2, 3, 4), jnp.bfloat16), jnp.ones((4, 5), jnp.bfloat16)
    assert dot_general(x, w, LAST, preferred_element_type=jnp.float32).dtype == jnp.float32
    assert "HIGHEST" in str(jax.make_jaxpr(lambda: dot_general(x, w, LAST, precision="highest"))())


@pytest.mark.parametrize("rule", [safjax.rules.bptt(), safjax.rules.exodus(), safjax.rules.saf_f()])
def test_tokens_meet_dense_layers_as_one_matrix(x64, rule):
    """Every product of the training program is of two matrices; of the stock layer's weight gradient it is not."""
    rngs = nnx.Rngs(0)
    layers = [
        nnx.Linear(6, 8, param_dtype=jnp.float64, rngs=rngs),
        nnx.Linear(8, 3, param_dtype=jnp.float64, rngs=rngs),
    ]
    net = nnx.Sequential(Synapse(layers[0]), LIF(0.5), Synapse(layers[1]), InstantReadout())
    x = jnp.asarray(RNG.normal(size=(5, 4, 6)))
    compute = safjax.value_and_grad(lambda o, y: jnp.sum(o * y), rule, 3)

    def ranks(net):
        text = str(jax.make_jaxpr(lambda x: compute(net, x, jnp.ones((5, 4, 3)))[0])(x))
        lines = [line for line in text.splitlines() if " dot_general" in line]
        return {line.split("f64[")[1].split("]")[0].count(",") + 1 for line in lines}

    assert ranks(net) == {2}
