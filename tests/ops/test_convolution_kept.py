"""Where the stock convolution is kept: other layouts, numbers and platforms; and its place in `nnx.Conv`."""

import re
from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from safjax.ops import conv_general_dilated
from tests.convolutions import NHWC, SAME, all_three, assert_equal, normal

FALLBACKS = {
    "channels first": ((2, 3, 6, 5), (4, 3, 3, 3), {}),
    "other kernel layout": ((2, 6, 5, 3), (4, 3, 3, 3), {"dimension_numbers": ("NHWC", "OIHW", "NHWC")}),
    "lhs_dilation": ((2, 6, 5, 3), (3, 3, 3, 4), {"lhs_dilation": (2, 1), "dimension_numbers": NHWC}),
    "batch groups": ((4, 6, 5, 3), (3, 3, 3, 4), {"batch_group_count": 2, "dimension_numbers": NHWC}),
    "no spatial axis": ((2, 3), (3, 4), {"window_strides": (), "padding": (), "dimension_numbers": ("NC", "IO", "NC")}),
    "empty output": ((2, 6, 2, 3), (3, 3, 3, 4), {"padding": "VALID", "dimension_numbers": NHWC}),
    "no images": ((0, 6, 5, 3), (3, 3, 3, 4), {"dimension_numbers": NHWC}),
}


@pytest.mark.parametrize("name", FALLBACKS)
def test_falls_back_to_the_stock_convolution(x64, name):
    x_shape, w_shape, options = FALLBACKS[name]
    options = {"window_strides": (1, 1), "padding": ((1, 1), (0, 1)), **options}
    x, w = normal(*x_shape), normal(*w_shape, seed=1)
    δ = normal(*jax.eval_shape(partial(lax.conv_general_dilated, **options), x, w).shape, seed=2)
    assert "custom_vjp" not in str(jax.make_jaxpr(partial(conv_general_dilated, **options))(x, w))
    assert_equal(
        all_three(conv_general_dilated, x, w, δ, **options), all_three(lax.conv_general_dilated, x, w, δ, **options)
    )


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.complex64])
def test_falls_back_for_other_numbers(dtype):
    x, w = (10 * normal(2, 4, 4, 1)).astype(dtype), (10 * normal(3, 3, 1, 2)).astype(dtype)
    assert "custom_vjp" not in str(jax.make_jaxpr(partial(conv_general_dilated, **SAME))(x, w))
    np.testing.assert_allclose(conv_general_dilated(x, w, **SAME), lax.conv_general_dilated(x, w, **SAME), rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"padding": "SAME"},
        {"padding": "CIRCULAR", "use_bias": False},
        {"strides": (2, 1), "padding": ((1, 0), (0, 2)), "kernel_dilation": (1, 2)},
        {"strides": 2, "feature_group_count": 2, "precision": "highest"},
        {"input_dilation": 2, "padding": ((1, 1), (1, 0))},
        {"preferred_element_type": jnp.float32, "dtype": jnp.bfloat16},
    ],
)
def test_drops_into_nnx_conv(options):
    def gradients(convolution, x):
        layer = nnx.Conv(
            4, 6, (3, 2), rngs=nnx.Rngs(0), **{"padding": "SAME", **options}, conv_general_dilated=convolution
        )
        return nnx.value_and_grad(lambda layer, x: (layer(x) ** 2).sum(), argnums=(0, 1))(layer, x)

    x = normal(2, 3, 6, 5, 4, dtype=jnp.float32)
    rtol = 2e-2 if options.get("dtype") else 1e-4
    assert_equal(gradients(conv_general_dilated, x), gradients(lax.conv_general_dilated, x), rtol=rtol, atol=rtol)


def convolutions(text):
    """The layouts and windows of all convolutions in a StableHLO module."""
    return sorted(re.findall(r"stablehlo\.convolution.*?(dim_numbers = .*?) : ", text))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("strides", [(1, 1), (2, 1)])
def test_accelerators_keep_the_stock_gradients(platform, strides):
    options = {**SAME, "window_strides": strides}
    x, w = jax.ShapeDtypeStruct((2, 6, 6, 16), jnp.float32), jax.ShapeDtypeStruct((3, 3, 16, 4), jnp.float32)
    δ = jax.eval_shape(partial(lax.conv_general_dilated, **options), x, w)

    def module(convolution):
        program = jax.jit(lambda x, w, δ: all_three(convolution, x, w, δ, **options))
        return jax.export.export(program, platforms=[platform])(x, w, δ).mlir_module()

    ours, stock = module(conv_general_dilated), module(lax.conv_general_dilated)
    assert len(convolutions(stock)) == 3
    assert convolutions(ours) == convolutions(stock)
    assert "dot_general" not in ours


def test_unfit_arguments_raise_as_the_stock_convolution_does():
    x, w = normal(2, 6, 6, 3), normal(3, 3, 2, 4)
    for options in (SAME, {**SAME, "window_strides": (1,)}, {**SAME, "dimension_numbers": ("NHWC", "HW", "NHWC")}):
        with pytest.raises((TypeError, ValueError)) as stock:
            lax.conv_general_dilated(x, w, **options)
        with pytest.raises(stock.type, match=re.escape(str(stock.value)[:40])):
            conv_general_dilated(x, w, **options)
