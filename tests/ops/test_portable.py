"""Programs for other compilers hold JAX's own operations only, and compute the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend.core import jaxpr_as_fun

import safjax
from safjax.nn import LIF, InstantReadout, Synapse, WSConv
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")


def _pooled(x):
    return safjax.ops.avg_pool(safjax.ops.max_pool(x, (2, 2)), (2, 2))


def net():
    first = WSConv(2, 5, param_dtype=nets.DTYPE, rngs=nnx.Rngs(0))
    second = nnx.Conv(5, 4, (3, 3), param_dtype=nets.DTYPE, rngs=nnx.Rngs(0))
    return nnx.Sequential(Synapse(first), LIF(), Synapse(nnx.Sequential(second, _pooled)), InstantReadout())


def program(net, x):
    return jax.make_jaxpr(lambda x: safjax.predict(net, x, 3))(x)


def test_programs_choose_nothing_by_platform():
    """Also where the same net has been traced before."""
    layers, x = net(), nets.image(size=8)
    before = str(program(layers, x))
    with safjax.ops.portable():
        closed = program(layers, x)
    assert all(name in before and name not in str(closed) for name in ("platform_index", "spike["))
    assert str(program(layers, x)) == before
    outputs, expected = jaxpr_as_fun(closed)(x)[0], safjax.predict(layers, x, 3)
    np.testing.assert_allclose(outputs, expected, rtol=1e-12, atol=1e-12)
    assert float(jnp.abs(expected).mean()) > 0.01


def test_spikes_are_not_differentiated_there():
    """Their slope would be lost without a sign."""
    x = jnp.ones((2, 3))
    with safjax.ops.portable(), pytest.raises(TypeError, match="is run, not trained"):
        jax.grad(lambda x: safjax.predict(nnx.Sequential(LIF(), InstantReadout()), x, 3).sum())(x)
