"""The convolution and its gradients equal the stock ones, wherever and however they are asked for."""

import re
from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from safjax.ops import conv_general_dilated, convolution_formulas

NHWC = ("NHWC", "HWIO", "NHWC")
SAME = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": NHWC}


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def normal(*shape, seed=0, dtype=None):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype or float)


def all_three(convolution, x, w, δ, **options):
    """Value, input gradient and weight gradient."""
    y, vjp = jax.vjp(partial(convolution, **options), x, w)
    return y, *vjp(δ)


def assert_equal(ours, stock, rtol=1e-10, atol=1e-11):
    ours, stock = jax.tree.leaves(ours), jax.tree.leaves(stock)
    assert len(ours) == len(stock) > 0
    for a, b in zip(ours, stock, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), rtol=rtol, atol=atol)


@st.composite
def cases(draw):
    """Shapes and options of a covered convolution with a non-empty output."""
    spatial = draw(st.sampled_from([1, 2, 2, 2, 3]))
    axes = partial(st.lists, min_size=spatial, max_size=spatial)
    kernel = draw(axes(st.integers(1, 3)))
    strides, dilation = draw(axes(st.integers(1, 3))), draw(axes(st.integers(1, 2)))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels, features = groups * draw(st.sampled_from([1, 3, 16])), groups * draw(st.integers(1, 3))
    padding = draw(
        st.sampled_from(["SAME", "SAME_LOWER", "VALID"]) | axes(st.tuples(st.integers(-1, 3), st.integers(-1, 3)))
    )
    # Large enough for one window whatever is cropped; sizes that strides do not divide included.
    image = [d * (k - 1) + 3 + draw(st.integers(0, 4)) for k, d in zip(kernel, dilation, strict=True)]
    letters = "ABD"[:spatial]
    options = {
        "window_strides": tuple(strides),
        "padding": padding,
        "rhs_dilation": tuple(dilation),
        "feature_group_count": groups,
        "dimension_numbers": (f"N{letters}C", f"{letters}IO", f"N{letters}C"),
    }
    x, w = (draw(st.integers(1, 3)), *image, channels), (*kernel, channels // groups, features)
    return x, w, options


@settings(max_examples=25, deadline=None, derandomize=True)
@given(cases())
def test_value_and_gradients_equal_the_stock_ones(case):
    x_shape, w_shape, options = case
    with jax.enable_x64(True):
        x, w = normal(*x_shape), normal(*w_shape, seed=1)
        δ = normal(*jax.eval_shape(partial(lax.conv_general_dilated, **options), x, w).shape, seed=2)
        ours = jax.jit(partial(all_three, conv_general_dilated, **options))(x, w, δ)
        stock = jax.jit(partial(all_three, lax.conv_general_dilated, **options))(x, w, δ)
        assert_equal(ours, stock)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(cases().filter(lambda case: len(case[0]) > 3))
def test_single_precision_takes_the_row_formula_and_agrees(case):
    x_shape, w_shape, options = case
    x, w = normal(*x_shape, dtype=jnp.float32), normal(*w_shape, seed=1, dtype=jnp.float32)
    δ = normal(*jax.eval_shape(partial(lax.conv_general_dilated, **options), x, w).shape, seed=2, dtype=jnp.float32)
    ours = jax.jit(partial(all_three, conv_general_dilated, **options))(x, w, δ)
    with jax.enable_x64(True):
        double = [jnp.asarray(a, jnp.float64) for a in (x, w, δ)]
        exact = jax.jit(partial(all_three, lax.conv_general_dilated, **options))(*double)
        assert_equal([jnp.asarray(a, jnp.float64) for a in ours], exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
@pytest.mark.parametrize("groups", [1, 2])
def test_formulas_in_double_precision(double, strides, groups):
    """Those that the public function leaves to other precisions (rows) or to thicker groups (input gradient)."""
    window = convolution_formulas.Window(
        image=(7, 8),
        kernel=(3, 2),
        strides=strides,
        padding=((1, 2), (-1, 2)),
        dilation=(2, 2),
        groups=groups,
        precision=None,
        dtype=None,
    )
    x, w = normal(2, 7, 8, 4), normal(3, 2, 4 // groups, 6)
    y, vjp = jax.vjp(lambda x, w: convolution_formulas.convolve(x, w, window), x, w)
    δ = normal(*y.shape, seed=1)
    dx, dw = vjp(δ)
    assert_equal(convolution_formulas.input_gradient(w, δ, window), dx)
    assert_equal(convolution_formulas.weight_gradient_by_rows(x, δ, window), dw)


@pytest.mark.parametrize("features", [4, 130])
@pytest.mark.parametrize("columns", [7, 10])
def test_long_rows_do_not_change_the_value(double, columns, features):
    x, w = normal(3, 5, columns, 16), normal(3, 3, 16, features)
    options = {"window_strides": (2, 1), "padding": ((0, 1), (2, 0)), "dimension_numbers": NHWC}
    assert_equal(conv_general_dilated(x, w, **options), lax.conv_general_dilated(x, w, **options))


def loss(convolution, x, w):
    return (jnp.sin(convolution(x, w, **SAME)) ** 2).sum()


def in_scan(convolution):
    def total(x, w):
        def step(carry, image):
            carry = jnp.tanh(convolution(carry + image, w, **SAME))
            return carry, carry.sum()

        return lax.scan(step, jnp.zeros_like(x[:1]), x[:, None])[1].sum()

    return jax.jit(jax.grad(total, (0, 1)))


def in_cond_of_while(convolution):
    def gradient(x, w):
        def body(state):
            i, w = state
            return i + 1, w - 0.1 * jax.grad(partial(loss, convolution), 1)(x, w)

        return lax.while_loop(lambda state: state[0] < 3, body, (0, w))[1]

    return jax.jit(gradient)


PER_EXAMPLE = {
    "images": lambda f: lambda x, w: jax.vmap(lambda x: f(x[None], w))(x),
    "kernels": lambda f: lambda x, w: jax.vmap(lambda a: f(x, a * w))(jnp.arange(1.0, 4.0)),
    "both": lambda f: lambda x, w: jax.vmap(lambda x, a: f(x[None], a * w))(x, jnp.arange(1.0, 4.0)),
}


@pytest.mark.parametrize(
    "transform",
    [
        pytest.param(lambda c: jax.grad(partial(loss, c), (0, 1)), id="eager"),
        pytest.param(in_scan, id="scan"),
        pytest.param(in_cond_of_while, id="while"),
        pytest.param(lambda c: jax.jit(jax.grad(jax.checkpoint(partial(loss, c)), (0, 1))), id="checkpoint"),
        *(
            pytest.param(lambda c, f=f: jax.jit(f(jax.grad(partial(loss, c), (0, 1)))), id=f"vmap over {name}")
            for name, f in PER_EXAMPLE.items()
        ),
        pytest.param(lambda c: jax.jit(jax.jacrev(partial(c, **SAME))), id="jacrev"),
        pytest.param(lambda c: jax.jit(jax.jacrev(jax.grad(partial(loss, c), 1), (0, 1))), id="reverse over reverse"),
        pytest.param(lambda c: jax.jit(jax.jacfwd(jax.grad(partial(loss, c), 0), (0, 1))), id="forward over reverse"),
    ],
)
def test_under_transformations(double, transform):
    x, w = normal(3, 4, 5, 2), normal(3, 3, 2, 2)
    assert_equal(transform(conv_general_dilated)(x, w), transform(lax.conv_general_dilated)(x, w))


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
def test_falls_back_to_the_stock_convolution(double, name):
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


@pytest.mark.parametrize("axes", ["auto", "explicit", "shard_map", "shard_map unchecked"])
def test_only_types_without_placement_are_covered(double, axes):
    kind = jax.sharding.AxisType.Explicit if axes == "explicit" else jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((1,), ("data",), axis_types=(kind,))
    x, w = normal(2, 4, 4, 2), normal(3, 3, 2, 2)

    def gradient(convolution):
        program = jax.grad(partial(loss, convolution))
        if axes in ("auto", "explicit"):
            return program
        specs = {"in_specs": (jax.P("data"), jax.P()), "out_specs": jax.P("data")}
        return jax.shard_map(program, mesh=mesh, check_vma=axes == "shard_map", **specs)

    with jax.set_mesh(mesh):
        x = jax.device_put(x, jax.sharding.NamedSharding(mesh, jax.P("data")))
        w = jax.device_put(w, jax.sharding.NamedSharding(mesh, jax.P()))
        ours, stock = map(gradient, (conv_general_dilated, lax.conv_general_dilated))
        assert ("platform_index" in str(jax.make_jaxpr(ours)(x, w))) == (axes in ("auto", "shard_map unchecked"))
        assert_equal(jax.jit(ours)(x, w), jax.jit(stock)(x, w))


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


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("preferred", [None, jnp.float32])
def test_low_precision_keeps_dtypes_and_accumulates_like_stock(dtype, preferred):
    x, w = normal(8, 9, 9, 16, dtype=dtype), normal(3, 3, 16, 4, seed=1, dtype=dtype)
    options = {**SAME, "preferred_element_type": preferred}
    δ = normal(8, 9, 9, 4, seed=2, dtype=preferred or dtype)
    ours = all_three(conv_general_dilated, x, w, δ, **options)
    stock = all_three(lax.conv_general_dilated, x, w, δ, **options)
    exact = all_three(lax.conv_general_dilated, *(a.astype(jnp.float32) for a in (x, w, δ)), **SAME)
    for a, b, c in zip(ours, stock, exact, strict=True):
        assert a.dtype == b.dtype
        unit = float(jnp.finfo(dtype).eps) * float(jnp.abs(c).max())
        np.testing.assert_allclose(a.astype(jnp.float32), c, rtol=0, atol=unit)


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


def test_in_a_loop_on_cpu_every_convolution_is_channels_last():
    x, w = normal(2, 6, 6, 3, dtype=jnp.float32), normal(3, 3, 3, 3, dtype=jnp.float32)
    text = in_scan(conv_general_dilated).lower(x, w).compile().as_text()
    labels = set(re.findall(r"convolution\(.*dim_labels=(\S+?),", text))
    assert labels == {"b01f_01io->b01f", "b0f_0io->b0f"}


@pytest.mark.parametrize("wanted", [0, 1, (0, 1)])
def test_an_unwanted_gradient_is_not_computed(wanted):
    x, w = normal(2, 6, 6, 3), normal(3, 3, 3, 4)
    program = jax.jit(jax.grad(partial(loss, conv_general_dilated), wanted)).lower(x, w).compile()
    assert len(re.findall(r" convolution\(", program.as_text())) == 1 + np.size(wanted)


def test_inputs_are_not_stored_for_an_unwanted_weight_gradient():
    x, w, steps = normal(2, 6, 6, 3), normal(3, 3, 3, 3), 100

    def total(x):
        return lax.scan(lambda x, _: (conv_general_dilated(x, w, **SAME), None), x, length=steps)[0].sum()

    program = jax.jit(jax.grad(total)).lower(x).compile()
    assert program.memory_analysis().temp_size_in_bytes < steps * x.nbytes / 2


def test_unfit_arguments_raise_as_the_stock_convolution_does():
    x, w = normal(2, 6, 6, 3), normal(3, 3, 2, 4)
    for options in (SAME, {**SAME, "window_strides": (1,)}, {**SAME, "dimension_numbers": ("NHWC", "HW", "NHWC")}):
        with pytest.raises((TypeError, ValueError)) as stock:
            lax.conv_general_dilated(x, w, **options)
        with pytest.raises(stock.type, match=re.escape(str(stock.value)[:40])):
            conv_general_dilated(x, w, **options)


def test_forward_mode_is_refused():
    x, w = normal(1, 4, 4, 1), normal(3, 3, 1, 1)
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(partial(loss, conv_general_dilated), (x, w), (x, w))
