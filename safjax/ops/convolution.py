"""A convolution whose gradients are fast inside ``lax.scan`` on CPU.

For ``y = conv(x, w)`` with channels last, stride ``s``, dilation ``d`` and ``x`` zero-padded to
``p``, writing ``i, j`` for output positions and ``k`` for kernel offsets::

    y[n, i, o]     = sum_{k, c} p[n, s i + d k, c] w[k, c, o]
    dL/dw[k, c, o] = sum_{n, i} p[n, s i + d k, c] dL/dy[n, i, o]       one matrix product per k
    dL/dx          = conv(dilate_s(dL/dy), w reversed in k, c <-> o)    a plain convolution
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

__all__ = ["conv_general_dilated"]

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _Window:
    """The static arguments of a covered convolution (channels last, ``n`` spatial axes)."""

    strides: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    groups: int
    precision: Any
    dtype: Any


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: DTypeLike | None = None,
    out_sharding: Any = None,
) -> jax.Array:
    """``jax.lax.conv_general_dilated`` with gradients that stay fast in a loop on CPU."""
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
    n = lhs.ndim - 2
    covered = (
        n >= 1
        and rhs.ndim == lhs.ndim
        and lhs.size > 0
        and rhs.size > 0
        and jnp.issubdtype(lhs.dtype, jnp.floating)
        and batch_group_count == 1
        and out_sharding is None
        and (lhs_dilation is None or all(d == 1 for d in lhs_dilation))
        and _channels_last(lhs.shape, rhs.shape, dimension_numbers)
    )
    if not covered:
        return stock(lhs, rhs)
    dilation = (1,) * n if rhs_dilation is None else tuple(rhs_dilation)
    if isinstance(padding, str):
        effective = [(k - 1) * d + 1 for k, d in zip(rhs.shape[:n], dilation, strict=True)]
        padding = lax.padtype_to_pads(lhs.shape[1:-1], effective, window_strides, padding)
    window = _Window(
        strides=tuple(window_strides),
        padding=tuple((int(lo), int(hi)) for lo, hi in padding),
        dilation=dilation,
        groups=feature_group_count,
        precision=precision,
        dtype=preferred_element_type,
    )
    return _conv(lhs, rhs, window)


def _channels_last(lhs_shape: tuple[int, ...], rhs_shape: tuple[int, ...], numbers: Any) -> bool:
    n = len(lhs_shape) - 2
    numbers = lax.conv_dimension_numbers(lhs_shape, rhs_shape, numbers)
    spatial = tuple(range(1, n + 1))
    image = (0, n + 1, *spatial)
    kernel = (n + 1, n, *range(n))
    return (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec) == (image, kernel, image)


def _labels(n: int) -> tuple[str, str, str]:
    s = "XYZUVWABDEFGH"[:n]
    return (f"N{s}C", f"{s}IO", f"N{s}C")


def _native(x: jax.Array, w: jax.Array, window: _Window) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        w,
        window.strides,
        window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=_labels(x.ndim - 2),
        feature_group_count=window.groups,
        precision=window.precision,
        preferred_element_type=window.dtype,
    )


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x: jax.Array, w: jax.Array, window: _Window) -> jax.Array:
    return _native(x, w, window)


def _conv_fwd(x: jax.Array, w: jax.Array, window: _Window):
    return _native(x, w, window), (x, w)


def _conv_bwd(window: _Window, residuals, g: jax.Array):
    x, w = residuals

    def native_input(x, w, g):
        return jax.linear_transpose(lambda x: _native(x, w, window), x)(g)[0]

    def native_weight(x, w, g):
        return jax.linear_transpose(lambda w: _native(x, w, window), w)(g)[0]

    dx = lax.platform_dependent(x, w, g, cpu=partial(_input_gradient, window=window), default=native_input)
    dw = lax.platform_dependent(x, w, g, cpu=partial(_weight_gradient, window=window), default=native_weight)
    return dx, dw


_conv.defvjp(_conv_fwd, _conv_bwd)


def _weight_gradient(x: jax.Array, w: jax.Array, g: jax.Array, window: _Window) -> jax.Array:
    n = x.ndim - 2
    groups = window.groups
    padded = lax.pad(
        x.astype(g.dtype),
        jnp.zeros((), g.dtype),
        [(0, 0, 0), *((lo, hi, 0) for lo, hi in window.padding), (0, 0, 0)],
    )
    out = g.shape[1:-1]
    gg = g.reshape(-1, groups, g.shape[-1] // groups)
    blocks = []
    for offset in product(*(range(k) for k in w.shape[:n])):
        start = [o * d for o, d in zip(offset, window.dilation, strict=True)]
        limit = [a + (m - 1) * s + 1 for a, m, s in zip(start, out, window.strides, strict=True)]
        shifted = lax.slice(
            padded,
            (0, *start, 0),
            (x.shape[0], *limit, x.shape[-1]),
            (1, *window.strides, 1),
        )
        shifted = shifted.reshape(-1, groups, x.shape[-1] // groups)
        blocks.append(jnp.einsum("mgc,mgo->cgo", shifted, gg, precision=window.precision))
    return jnp.stack(blocks).reshape(w.shape).astype(w.dtype)


def _input_gradient(x: jax.Array, w: jax.Array, g: jax.Array, window: _Window) -> jax.Array:
    n = x.ndim - 2
    groups = window.groups
    flipped = lax.rev(w, tuple(range(n))).astype(g.dtype)
    # [k, c, (group, o)] -> [k, o, (group, c)]: groups stay outermost in the output features.
    flipped = flipped.reshape(*w.shape[:-1], groups, -1)
    flipped = jnp.moveaxis(flipped, n, -1)  # k, group, o, c
    flipped = jnp.moveaxis(flipped, n, n + 1)  # k, o, group, c
    flipped = flipped.reshape(*w.shape[:n], w.shape[-1] // groups, -1)
    pads = []
    for size, k, s, d, out, (lo, _) in zip(
        x.shape[1:-1],
        w.shape[:n],
        window.strides,
        window.dilation,
        g.shape[1:-1],
        window.padding,
        strict=True,
    ):
        before = (k - 1) * d - lo
        pads.append((before, size + (k - 1) * d - ((out - 1) * s + 1) - before))
    dx = lax.conv_general_dilated(
        g,
        flipped,
        (1,) * n,
        pads,
        lhs_dilation=window.strides,
        rhs_dilation=window.dilation,
        dimension_numbers=_labels(n),
        feature_group_count=groups,
        precision=window.precision,
        preferred_element_type=window.dtype,
    )
    return dx.astype(x.dtype)
