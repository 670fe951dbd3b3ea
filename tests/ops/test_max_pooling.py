"""Max pooling equals flax's, also where entries tie; its refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from safjax.affine import nonaffine_operation
from safjax.ops import max_pool
from tests.ops.test_pooling import assert_equal, value_and_gradient


@st.composite
def cases(draw):
    spatial = draw(st.integers(1, 3))
    axes = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(spatial))  # noqa: E731
    window, strides = axes(1, 3), draw(st.sampled_from([None, axes(1, 3)]))
    image = tuple(k + m for k, m in zip(window, axes(0, 4), strict=True))
    padding = draw(st.sampled_from(["VALID", "SAME", tuple((0, min(1, k - 1)) for k in window)]))
    return (2, *image, 3), window, strides, padding, draw(st.booleans())


@settings(max_examples=20, deadline=None, derandomize=True)
@given(cases())
def test_equals_flax_where_spikes_tie_and_where_currents_do_not(case):
    shape, window, strides, padding, spikes = case
    with jax.enable_x64(True):
        draw = np.random.default_rng(0)
        x = jnp.asarray(draw.random(shape) < 0.4 if spikes else draw.normal(size=shape), jnp.float64)
        ours = jax.jit(lambda x: value_and_gradient(lambda x: max_pool(x, window, strides, padding), x))(x)
        flax = jax.jit(lambda x: value_and_gradient(lambda x: nnx.max_pool(x, window, strides or window, padding), x))(
            x
        )
        assert_equal(ours, flax)


def test_the_first_of_several_largest_gets_the_gradient():
    """A plain loop says which: rows first, then columns."""
    x = np.random.default_rng(0).integers(0, 2, (1, 6, 4, 2)).astype(np.float32)
    expected = np.zeros_like(x)
    for i in range(3):
        for j in range(2):
            for c in range(2):
                block = x[0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
                row, column = divmod(int(block.argmax()), 2)
                expected[0, 2 * i + row, 2 * j + column, c] = 1
    np.testing.assert_array_equal(jax.grad(lambda x: max_pool(x, (2, 2)).sum())(jnp.asarray(x)), expected)


@pytest.mark.parametrize("kind", ["explicit", "shard_map"])
def test_where_types_say_how_values_are_placed(kind):
    """There the gradient has no loop over blocks of images, whose state would have another type, and no tiles."""
    axis = jax.sharding.AxisType.Explicit if kind == "explicit" else jax.sharding.AxisType.Auto
    mesh, x = jax.make_mesh((1,), ("data",), axis_types=(axis,)), jnp.arange(128.0).reshape(4, 4, 4, 2) % 5
    gradient = jax.grad(lambda x: (max_pool(x, (2, 2)) ** 2).sum())
    assert "scan" in str(jax.make_jaxpr(gradient)(x))
    placed = gradient
    if kind == "shard_map":
        placed = jax.shard_map(gradient, mesh=mesh, in_specs=jax.P("data"), out_specs=jax.P("data"))
    with jax.set_mesh(mesh):
        there = jax.device_put(x, jax.sharding.NamedSharding(mesh, jax.P("data")))
        np.testing.assert_array_equal(jax.jit(placed)(there), gradient(x))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.int8, jnp.bool_])
def test_keeps_the_dtype(dtype):
    x = jnp.ones((2, 4, 5, 3), dtype)
    assert max_pool(x, (2, 2)).dtype == max_pool(x, (3, 3), (2, 2), "SAME").dtype == dtype
    assert bool(max_pool(x, (3, 3), (2, 2), "SAME").all())


def test_leading_axes_a_nan_and_second_derivatives():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 6, 5)), jnp.float32)
    np.testing.assert_array_equal(max_pool(x, (2, 3))[1, 2], max_pool(x[1, 2], (2, 3)))
    pooled = max_pool(x.at[0, 0, 1, 1, 0].set(jnp.nan), (2, 2))
    assert bool(jnp.isnan(pooled[0, 0, 0, 0, 0])) and int(jnp.isnan(pooled).sum()) == 1
    twice = jax.grad(lambda x: (jax.grad(lambda x: (max_pool(x, (2, 2)) ** 3).sum())(x) ** 2).sum())(x[0])
    flax = jax.grad(lambda x: (jax.grad(lambda x: (nnx.max_pool(x, (2, 2), (2, 2)) ** 3).sum())(x) ** 2).sum())(x[0])
    np.testing.assert_allclose(twice, flax, rtol=1e-5)


def test_it_is_no_affine_map_and_is_called_by_its_name():
    assert nonaffine_operation(lambda _, x: max_pool(x, (2, 2)), (), jnp.ones((1, 4, 4, 1))) == "max pooling"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((2, 2, 2, 2),), "max_pool takes .* one window size for each spatial axis"),
        (((2, 2), (2,)), "one stride"),
        (((2, 2), None, "FULL"), '"VALID", "SAME"'),
        (((5, 2),), "fit into the padded input"),
        (((2, 2), None, ((2, 0), (0, 0))), "nothing but padding"),
        (((17, 16), None, ((8, 8), (8, 8))), "more than the 256"),
    ],
)
def test_unfit_arguments_say_what_is_expected(arguments, message):
    with pytest.raises(ValueError, match=message):
        max_pool(jnp.ones((2, 4, 4, 3)), *arguments)
