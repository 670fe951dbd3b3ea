"""A convolution whose gradients are fast inside `lax.scan` on CPU."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from safjax.ops import convolution_formulas as formulas
from safjax.ops.convolution_formulas import Window


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: lax.ConvGeneralDilatedDimensionNumbers = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: lax.PrecisionLike = None,
    preferred_element_type: DTypeLike | None = None,
    out_sharding: jax.sharding.NamedSharding | jax.sharding.PartitionSpec | None = None,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` with reverse-mode gradients that stay fast inside a loop on CPU."""
    stock = partial(
        lax.conv_general_dilated,
        window_strides=window_strides,
        padding=padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        precision=precision,
        preferred_element_type=preferred_element_type,
        out_sharding=out_sharding,
    )
    # Raises what the stock convolution raises for arguments that do not fit together.
    out = jax.eval_shape(stock, lhs, rhs)
    spatial = lhs.ndim - 2
    covered = (
        spatial > 0
        and min(lhs.size, rhs.size, out.size) > 0
        and all(jnp.issubdtype(a.dtype, jnp.floating) for a in (lhs, rhs, out))
        and lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers) == formulas.channels_last(spatial)
        and all(d == 1 for d in lhs_dilation or ())
        and batch_group_count == 1
        and out_sharding is None
    )
    if not covered:
        return stock(lhs, rhs)
    dilation = tuple(rhs_dilation or (1,) * spatial)
    if isinstance(padding, str):
        extents = [d * (k - 1) + 1 for d, k in zip(dilation, rhs.shape, strict=False)]
        padding = lax.padtype_to_pads(lhs.shape[1:-1], extents, window_strides, padding)
    window = Window(
        image=lhs.shape[1:-1],
        kernel=rhs.shape[:-2],
        strides=tuple(window_strides),
        padding=tuple((int(low), int(high)) for low, high in padding),
        dilation=dilation,
        groups=feature_group_count,
        precision=lax.canonicalize_precision(precision) if hasattr(lax, "canonicalize_precision") else precision,
        dtype=preferred_element_type,
    )
    return _convolution(lhs, rhs, window)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolution(x: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    return formulas.convolve(x, w, window)


def _forward(x, w, window: Window):
    return _convolution(x, w, window), (x, w)


def _backward(window: Window, residuals, δ):
    x, w = residuals
    return _input_gradient(x, w, δ, window), _weight_gradient(x, w, δ, window)


_convolution.defvjp(_forward, _backward)


@partial(jax.jit, static_argnums=3, inline=True)
def _input_gradient(x, w, δ, window):
    def stock(w, δ):
        return jax.linear_transpose(lambda x: formulas.convolve(x, w, window), x)(δ)[0]

    def ours(w, δ):
        return formulas.input_gradient(w, δ, window).astype(x.dtype)

    return lax.platform_dependent(w, δ, cpu=ours, default=stock)


@partial(jax.jit, static_argnums=3, inline=True)
def _weight_gradient(x, w, δ, window):
    def stock(x, δ):
        return jax.linear_transpose(lambda w: formulas.convolve(x, w, window), w)(δ)[0]

    def ours(x, δ):
        return formulas.weight_gradient(x, δ, window).astype(w.dtype)

    return lax.platform_dependent(x, δ, cpu=ours, default=stock)
