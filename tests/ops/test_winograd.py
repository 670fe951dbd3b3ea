"""Minimal filtering equals the convolution that it stands for, whatever the sizes, and is used where it pays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from safjax.ops import conv_general_dilated, convolution_formulas, winograd
from safjax.ops.tile_forms import FOUR, TWO, cheapest

pytestmark = pytest.mark.usefixtures("x64")

NHWC = ("NHWC", "HWIO", "NHWC")


def normal(seed, *shape, dtype=np.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def stock(x, w, padding):
    return lax.conv_general_dilated(x, w, (1, 1), padding, dimension_numbers=NHWC)


def value_and_gradients(padding):
    """(x, w, δ) ↦ (y, ∂L/∂x, ∂L/∂w), compiled."""

    @jax.jit
    def ours(x, w, δ):
        return (
            winograd.convolve(x, w, padding),
            winograd.input_gradient(w, δ, padding),
            winograd.weight_gradient(x, δ, padding),
        )

    return ours


FORMS = {"2×2": (TWO, TWO), "4×2": (FOUR, TWO), "4×4": (FOUR, FOUR)}

# Sizes odd and even, padding of all kinds, blocks of one row, of some and of all.
CASES = {
    "same, one block": ((6, 8), ((1, 1), (1, 1)), 1 << 25),
    "same, blocks": ((8, 6), ((1, 1), (1, 1)), 1),
    "odd, valid": ((7, 5), ((0, 0), (0, 0)), 12_000),
    "uneven and cropped": ((5, 9), ((0, 3), (2, -1)), 12_000),
    "larger than a tile, blocks": ((13, 11), ((1, 1), (1, 1)), 20_000),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients_equal_the_convolution(name, form, monkeypatch):
    size, padding, block = CASES[name]
    monkeypatch.setattr(winograd, "BLOCK", block)
    monkeypatch.setattr(winograd, "cheapest", lambda height, width: FORMS[form])
    x, w = normal(0, 2, *size, 3), normal(1, 3, 3, 3, 2)
    y, pull = jax.vjp(lambda x, w: stock(x, w, padding), x, w)
    δ = normal(2, *y.shape)

    for mine, theirs in zip(value_and_gradients(padding)(x, w, δ), (y, *pull(δ)), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("form", [TWO, FOUR])
def test_a_form_is_the_filtering_of_one_axis(form):
    """y = Aᵀ (G w · Bᵀ d), entry for entry, and A is the transpose of Aᵀ."""
    identity = np.eye(form.products)
    inputs, outputs = np.array(form.to_input(*identity)), np.array(form.to_output(*identity))
    found = np.einsum("ip,pk,pj->ikj", outputs, form.kernel, inputs)
    expected = np.zeros((form.size, 3, form.products))
    for i in range(form.size):
        for k in range(3):
            expected[i, k, i + k] = 1
    np.testing.assert_allclose(found, expected, atol=1e-14)
    np.testing.assert_array_equal(np.array(form.from_output(*np.eye(form.size))), outputs.T)
    np.testing.assert_array_equal(inputs.astype(np.float32), inputs)
    np.testing.assert_array_equal(outputs.astype(np.float32), outputs)


def test_large_maps_have_large_tiles():
    """Small ones have too few to make up for what the transformed kernel costs."""
    sizes = {(32, 32): "4×4", (16, 16): "4×4", (14, 14): "4×4", (8, 8): "4×2", (7, 7): "4×2", (4, 4): "2×2"}
    assert {size: cheapest(*size) for size in sizes} == {size: FORMS[form] for size, form in sizes.items()}


def test_tiles_are_worked_through_in_blocks(monkeypatch):
    """And only one block's V and its products are in memory at a time."""
    x, w = normal(0, 4, 64, 64, 8), normal(1, 3, 3, 8, 8)

    def memory(block):
        monkeypatch.setattr(winograd, "BLOCK", block)
        compiled = jax.jit(lambda x, w: winograd.convolve(x, w, ((1, 1), (1, 1)))).lower(x, w).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert memory(1 << 20) < 0.5 * memory(1 << 30)


@pytest.fixture(scope="module")
def wide():
    return normal(0, 4, 6, 6, 64, dtype=np.float32), normal(1, 3, 3, 64, 128, dtype=np.float32)


def uses(text):
    """Whether a program holds matrix products for 16 entries of a tile."""
    return "16x" in text and "dot_general" in text


def test_the_convolution_takes_it_where_it_pays(wide):
    def text(x, w, **options):
        options = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": NHWC} | options
        # A function of its own each time: traces are remembered.
        value = lambda x, w: conv_general_dilated(x, w, **options).sum()  # noqa: E731
        return jax.jit(jax.grad(value, (0, 1))).lower(x, w).as_text()

    x, w = wide
    assert uses(text(x, w))
    assert uses(text(x.astype(jnp.float64), w.astype(jnp.float64)))
    for other in (
        text(x, w[:, :, :, :64]),
        text(x, w[:2]),
        text(x, w, window_strides=(2, 1)),
        text(x, w, rhs_dilation=(1, 2)),
        text(x, w[:, :, :32], feature_group_count=2),
        text(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16)),
    ):
        assert not uses(other)


def test_few_tiles_are_left_to_the_product_itself(wide):
    """Of three images of 6×6 there are 27 tiles, of four 36; on the smallest maps the compiler's own is slow."""
    x, w = (a.astype(jnp.float64) for a in wide)
    ours = jax.jit(lambda x, w: conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=NHWC))
    used = [uses(ours.lower(a, w).as_text()) for a in (x[:3], x, x[:1, :4, :4], x[:1, :3, :3], x[:, :2, :2])]
    assert used == [False, True, False, True, True]
    np.testing.assert_allclose(ours(x[:3], w), stock(x[:3], w, "SAME"), rtol=1e-12, atol=1e-12)


# In units of 2⁻²⁴ times the root mean square of what is exact, of value, input gradient and weight gradient.
ROUNDING = {"2×2": 5.0, "4×2": 9.0, "4×4": 17.0}


@pytest.mark.parametrize("form", FORMS)
def test_single_precision_is_rounded_as_the_forms_say(form, monkeypatch):
    """Of spikes, which fire in a sixth of the places, and normally distributed errors."""
    monkeypatch.setattr(winograd, "cheapest", lambda height, width: FORMS[form])
    padding = ((1, 1), (1, 1))
    x = 2.74 * (normal(0, 4, 8, 8, 64) > 1).astype(jnp.float32)
    w, δ = normal(1, 3, 3, 64, 32, dtype=np.float32), normal(2, 4, 8, 8, 32, dtype=np.float32)
    wide = [a.astype(jnp.float64) for a in (x, w, δ)]
    y, pull = jax.vjp(lambda x, w: stock(x, w, padding), *wide[:2])

    found = [
        float(jnp.linalg.norm(mine - exact) / jnp.linalg.norm(exact)) * 2**24
        for mine, exact in zip(value_and_gradients(padding)(x, w, δ), (y, *pull(wide[2])), strict=True)
    ]
    assert max(found) < ROUNDING[form], found
    assert max(found) > 0.3 * ROUNDING[form], found


def test_second_derivatives(wide):
    """Of a loss whose gradient the convolution itself gives."""
    x, w = (a.astype(jnp.float64) for a in wide)
    direction = normal(5, *w.shape)

    def curvature(convolution):
        def slope(w):
            return jnp.vdot(jax.grad(lambda w: jnp.sum(jnp.tanh(convolution(x, w))))(w), direction)

        return jax.jit(jax.grad(slope))(w)

    def ours(x, w):
        return conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=NHWC)

    np.testing.assert_allclose(curvature(ours), curvature(lambda x, w: stock(x, w, "SAME")), rtol=1e-9, atol=1e-9)


def test_kernels_are_transformed_inside_the_time_loop(wide):
    """A compiler that moved them before it would hold those of all layers at once."""
    x, w = wide
    window = convolution_formulas.Window((6, 6), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1, None, None)

    def run(x, w):
        body = lambda x, _: (x + convolution_formulas.forward(x, w, window)[..., :64], None)  # noqa: E731
        return lax.scan(body, x, None, 3)[0]

    text = jax.jit(run).lower(x, w).compile().as_text()
    loop, before = text.split("ENTRY")
    assert "[16,8192]" in loop or "[16,64,128]" in loop
    assert "[16,8192]" not in before and "[16,64,128]" not in before
