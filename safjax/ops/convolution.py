"""A convolution whose gradients stay fast inside `lax.scan` on CPU.

Differentiated inside a loop, `jax.lax.conv_general_dilated` falls off the fast path of XLA's CPU compiler: for
x[16, 32, 32, 64] and a 3×3 kernel of 128 features the stock weight gradient takes 4.9 s of CPU time and the stock input
gradient 190 ms, where the forward convolution takes 44 ms. The direct formulas of `convolution_formulas` take 54 ms and
45 ms (jax 0.10.2, float32, two cores); from this size on `winograd` takes their place for 3×3 kernels. With x̄ the
padded input, strides s, dilation d and δ = ∂L/∂y:

    y[n, i, o]      = Σ_{k, c} x̄[n, s i + d k, c] w[k, c, o]
    ∂L/∂w[k, c, o]  = Σ_{n, i} x̄[n, s i + d k, c] δ[n, i, o]
    ∂L/∂x[n, j, c]  = Σ_{i, k, o: s i + d k = j + low} δ[n, i, o] w[k, c, o]
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from safjax.ops import convolution_formulas as formulas
from safjax.ops.blocks import has_placed_axes
from safjax.ops.convolution_formulas import Window
from safjax.portable import by_platform, is_portable


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
    """`jax.lax.conv_general_dilated`, same arguments and values, with gradients that stay fast in a loop on CPU.

    Fits wherever the stock function does, for instance `nnx.Conv(..., conv_general_dilated=conv_general_dilated)`.

    The gradients of this module apply to channels-last convolutions, lhs [N, *spatial, C], rhs [*kernel, C / groups, O]
    (`dimension_numbers=("NHWC", "HWIO", "NHWC")`, flax's layout), with one or more spatial axes, of any strides,
    padding, `rhs_dilation` and `feature_group_count`, in any floating dtype, and only where the program runs on CPU:
    accelerators keep the stock ones. Everything else (other layouts, `lhs_dilation`, `batch_group_count`, integers,
    complex numbers, meshes with explicit axes, `shard_map` with its check of varying values) is the stock convolution
    altogether.

    Reverse mode only, to any order; `jax.jvp` and `jax.linearize` of it raise, as for every `jax.custom_vjp`.

    Returns:
      The convolution, as the stock function returns it.

    Raises:
      TypeError, ValueError: what the stock function raises for arguments that do not fit together.
    """
    options: dict[str, Any] = {
        "window_strides": window_strides,
        "padding": padding,
        "lhs_dilation": lhs_dilation,
        "rhs_dilation": rhs_dilation,
        "dimension_numbers": dimension_numbers,
        "feature_group_count": feature_group_count,
        "batch_group_count": batch_group_count,
        "precision": precision,
        "preferred_element_type": preferred_element_type,
        "out_sharding": out_sharding,
    }
    if is_portable() or not _is_covered(lhs, rhs, options):
        return lax.conv_general_dilated(lhs, rhs, **options)
    dilation = (1,) * (lhs.ndim - 2) if rhs_dilation is None else tuple(rhs_dilation)
    if isinstance(padding, str):
        extents = [d * (k - 1) + 1 for d, k in zip(dilation, rhs.shape[:-2], strict=True)]
        padding = lax.padtype_to_pads(lhs.shape[1:-1], extents, window_strides, padding)
    window = Window(
        image=lhs.shape[1:-1],
        kernel=rhs.shape[:-2],
        strides=tuple(window_strides),
        padding=tuple((int(low), int(high)) for low, high in padding),
        dilation=dilation,
        groups=feature_group_count,
        precision=precision,
        dtype=preferred_element_type,
    )
    return _convolution(lhs, rhs, window)


def _is_covered(lhs: jax.Array, rhs: jax.Array, options: dict[str, Any]) -> bool:
    """Whether the gradients of this module apply. Raises what the stock function raises for unfit arguments."""
    if options["out_sharding"] is not None or options["batch_group_count"] != 1 or has_placed_axes(lhs, rhs):
        return False
    out = jax.eval_shape(partial(lax.conv_general_dilated, **options), lhs, rhs)
    labels = lax.conv_dimension_numbers(lhs.shape, rhs.shape, options["dimension_numbers"])
    return (
        lhs.ndim > 2
        and labels == formulas.channels_last(lhs.ndim - 2)
        and all(d == 1 for d in options["lhs_dilation"] or ())
        and all(a.size > 0 and jnp.issubdtype(a.dtype, jnp.floating) for a in (lhs, rhs, out))
    )


# Traced once for each window and shape, whatever net, rule or step it stands in; `inline` leaves no trace of the jit.
@partial(jax.jit, static_argnums=2, inline=True)
def _value(x: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    return by_platform(
        x, w, cpu=partial(formulas.forward, window=window), default=partial(formulas.convolve, window=window)
    )


def _forward(x: jax.Array, w: jax.Array, window: Window) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _value(x, w, window), (x, w)


def _backward(window: Window, residuals: tuple[jax.Array, jax.Array], δ: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, w = residuals
    return _input_gradient(w, δ, window), _weight_gradient(x, δ, window)


_convolution = jax.custom_vjp(_value, nondiff_argnums=(2,))
_convolution.defvjp(_forward, _backward)


# Outside of jit, a jitted gradient is compiled once for each window; inside, `inline` leaves no trace of it.
@partial(jax.jit, static_argnums=2, inline=True)
def _input_gradient(w: jax.Array, δ: jax.Array, window: Window) -> jax.Array:
    def stock(w: jax.Array, δ: jax.Array) -> jax.Array:
        x = jax.ShapeDtypeStruct((len(δ), *window.image, window.groups * w.shape[-2]), w.dtype)
        return jax.linear_transpose(lambda x: formulas.convolve(x, w, window), x)(δ)[0]

    def ours(w: jax.Array, δ: jax.Array) -> jax.Array:
        return formulas.input_gradient(w, δ, window).astype(w.dtype)

    if window.groups > 1 and w.shape[-1] // window.groups < 8:
        return stock(w, δ)  # The fast path is slow for thin groups: 27 ms against 1.4 ms for 128 groups of one channel.
    return by_platform(w, δ, cpu=ours, default=stock)


@partial(jax.jit, static_argnums=2, inline=True)
def _weight_gradient(x: jax.Array, δ: jax.Array, window: Window) -> jax.Array:
    def stock(x: jax.Array, δ: jax.Array) -> jax.Array:
        w = jax.ShapeDtypeStruct((*window.kernel, x.shape[-1] // window.groups, δ.shape[-1]), x.dtype)
        return jax.linear_transpose(lambda w: formulas.convolve(x, w, window), w)(δ)[0]

    def ours(x: jax.Array, δ: jax.Array) -> jax.Array:
        return formulas.weight_gradient(x, δ, window).astype(x.dtype)

    return by_platform(x, δ, cpu=ours, default=stock)
