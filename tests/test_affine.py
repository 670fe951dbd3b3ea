"""The structural check for affine functions, against the definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from safjax import ops
from safjax.affine import nonaffine_operation
from safjax.nn import WSConv

pytestmark = pytest.mark.usefixtures("x64")


def example():
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 3)))


def conv():
    return nnx.Conv(3, 5, (3, 3), rngs=nnx.Rngs(0), param_dtype=jnp.float64)


def running_average_norm():
    norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0), use_running_average=True, param_dtype=jnp.float64)
    norm.mean[...] = jnp.array([0.1, 0.2, 0.3], norm.mean[...].dtype)
    return norm


AFFINE = {
    "conv": conv,
    "strided conv": lambda: nnx.Conv(3, 4, (3, 3), strides=2, rngs=nnx.Rngs(0), param_dtype=jnp.float64),
    "grouped conv": lambda: nnx.Conv(3, 6, (3, 3), feature_group_count=3, rngs=nnx.Rngs(0), param_dtype=jnp.float64),
    "transposed conv": lambda: nnx.ConvTranspose(3, 4, (2, 2), rngs=nnx.Rngs(0), param_dtype=jnp.float64),
    "standardised conv": lambda: WSConv(3, 4, param_dtype=jnp.float64, rngs=nnx.Rngs(0)),
    "dense": lambda: nnx.Linear(3, 4, rngs=nnx.Rngs(0), param_dtype=jnp.float64),
    "flatten": lambda: lambda x: x.reshape(x.shape[0], -1),
    "average pooling": lambda: lambda x: ops.avg_pool(x, (2, 2)),
    "overlapping average pooling": lambda: lambda x: nnx.avg_pool(x, (3, 3), (2, 2), padding="SAME"),
    "global average": lambda: ops.global_avg_pool,
    "upsampling": lambda: lambda x: jnp.repeat(jnp.repeat(x, 2, 1), 2, 2),
    "padding and shifts": lambda: lambda x: jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0))) + 1.5,
    "einsum": lambda: lambda x: jnp.einsum("bhwc,cd->bdhw", x, jnp.ones((3, 2))) / 3.0,
    "split and concatenate": lambda: lambda x: jnp.concatenate(jnp.split(x, 3, -1)[::-1], 1),
    "mask": lambda: lambda x: jnp.where(jnp.arange(3) > 0, x, 0.0),
    "frozen normalisation": running_average_norm,
    "jitted": lambda: jax.jit(lambda x: 2 * x - x.mean()),
    "tiles": lambda: lambda x: jnp.tile(x, (1, 2, 1, 1)),
    "addition at places": lambda: lambda x: jnp.ones((2, 6, 4, 3)).at[:, jnp.array([5, 0, 2, 2])].add(x),
    "remat": lambda: jax.checkpoint(lambda x: 2 * x),
    "constant": lambda: lambda x: jnp.ones(4),
    "cast to another precision": lambda: lambda x: x.astype(jnp.complex128).real,
    "print": lambda: lambda x: (jax.debug.callback(lambda x: None, x), 2 * x)[1],
}
NOT_AFFINE = {
    "ReLU": (lambda x: nnx.relu(x), "maximum"),
    "max pooling": (lambda x: nnx.max_pool(x, (2, 2)), "max pooling"),
    "square": (lambda x: x * x, "a product of two values"),
    "product of two maps": (lambda x: x * x.mean(), "a product of two values"),
    "matrix product of two maps": (lambda x: x @ x.mT, "a matrix product of two values"),
    "softmax": (lambda x: jax.nn.softmax(x), "maximum"),
    "layer norm": (nnx.LayerNorm(3, rngs=nnx.Rngs(0)), "operation"),
    "sign": (jnp.sign, "sign"),
    "threshold": (lambda x: jnp.where(x > 0, x, 0.0), "gt"),
    "division by the input": (lambda x: 1 / (3 + x), "div"),
    "cast to whole numbers": (lambda x: x.astype(jnp.int32).astype(x.dtype), "a cast to int32"),
    "cast to truth values": (lambda x: x.astype(bool).astype(x.dtype), "a cast to bool"),
    "jitted ReLU": (jax.jit(lambda x: jnp.maximum(x, 0.0)), "maximum"),
    "branch on the input": (lambda x: jax.lax.cond(x.sum() > 0, lambda x: x, lambda x: -x, x), "gt"),
    "loop": (lambda x: jax.lax.fori_loop(0, 3, lambda i, y: y * y, x), "loop|scan|while"),
}


@pytest.mark.parametrize("name", AFFINE)
def test_affine_functions_pass(name):
    layer, x = nnx.Sequential(AFFINE[name]()), example()
    graphdef, state = nnx.split(layer)

    def function(state, x):
        return nnx.merge(graphdef, state)(x)

    assert nonaffine_operation(function, state, x) is None
    # By definition: f(2x + 3y − 4z) = 2f(x) + 3f(y) − 4f(z), since the weights add up to one.
    y, z = x[::-1], jnp.flip(x, 1)
    combined = 2 * function(state, x) + 3 * function(state, y) - 4 * function(state, z)
    np.testing.assert_allclose(function(state, 2 * x + 3 * y - 4 * z), combined, atol=1e-10)


@pytest.mark.parametrize("name", NOT_AFFINE)
def test_other_functions_are_named(name):
    function, word = NOT_AFFINE[name]
    operation = nonaffine_operation(lambda _, x: function(x), (), example())
    assert operation is not None and any(w in operation for w in word.split("|")), operation
