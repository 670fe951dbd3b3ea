"""A convolution and its two gradients, spelled in the shapes that XLA's CPU compiler runs fast inside a loop.

Inside a loop body that compiler has a fast path only for convolutions written channels last, x[N, *spatial, C] with
w[*kernel, C, O]. The transposed layouts in which automatic differentiation writes the gradients run there as plain
nested loops, so the functions below transpose explicitly and convolve channels last.

Notation: n image, i position in the output, k position in the kernel, c and o channels, s strides, d dilation,
x̄ the padded input, δ = ∂L/∂y.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from safjax.ops import winograd
from safjax.ops.blocks import blocks_of, by_blocks, summed_over_blocks
from safjax.ops.column_groups import (
    apart,
    kernel_gradient,
    kernel_of_groups,
    padded_to_groups,
    together,
    window_of_groups,
)
from safjax.ops.few_channels import one_channel_weight_gradient, scattered_input_gradient, shifted_sum

FEW = 16
"""Channels of an image below which its gradient is quicker by `scattered_input_gradient`, timed on one core."""


@dataclass(frozen=True)
class Window:
    """The static arguments of a channels-last convolution; tuples hold one entry for each spatial axis.

    image, kernel: sizes of the input's and of the kernel's spatial axes.
    strides, dilation: distance between neighbouring windows, and between neighbouring entries of one window.
    padding: zeros (low, high) added to the image; negative numbers crop it.
    groups: number of feature groups.
    precision, dtype: `precision` and `preferred_element_type` of `jax.lax.conv_general_dilated`.
    """

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    precision: lax.PrecisionLike
    dtype: DTypeLike | None

    def with_unit_axis(self) -> "Window":
        """The same window with a spatial axis of size 1 in front."""
        return replace(
            self,
            image=(1, *self.image),
            kernel=(1, *self.kernel),
            strides=(1, *self.strides),
            padding=((0, 0), *self.padding),
            dilation=(1, *self.dilation),
        )


def channels_last(spatial: int) -> lax.ConvDimensionNumbers:
    """The dimension numbers of x[N, *spatial, C], w[*kernel, C, O] and y[N, *spatial, O]."""
    image = (0, spatial + 1, *range(1, spatial + 1))
    return lax.ConvDimensionNumbers(image, (spatial + 1, spatial, *range(spatial)), image)


def convolve(x: jax.Array, w: jax.Array, window: Window, spread: Sequence[int] | None = None) -> jax.Array:
    """y[n, i, o] = Σ_{k, c} x̄[n, s i + d k, c] w[k, c, o]: the stock convolution. `spread` is its `lhs_dilation`."""
    return lax.conv_general_dilated(
        x,
        w,
        window.strides,
        window.padding,
        lhs_dilation=spread,
        rhs_dilation=window.dilation,
        dimension_numbers=channels_last(x.ndim - 2),
        feature_group_count=window.groups,
        precision=window.precision,
        preferred_element_type=window.dtype,
    )


def forward(x: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    """`convolve` in the fastest of four spellings: `winograd.convolve`, `shifted_sum`, as it stands, or in long rows.

    The compiler spreads a convolution over cores by blocks of 64 output channels and by blocks of long rows, never by
    images: a map of few channels runs on one core, and short rows leave its vector units half empty. Laying the rows of
    all images side by side, image index innermost, cures both; the window's entries are then N apart.

    `shifted_sum` is elementwise, and would be fused into whatever reads it: into max pooling once for each entry of a
    window and again for its place. In blocks, two at least, it is computed once.
    """
    y = jax.eval_shape(lambda: convolve(x, w, window))
    if gains_by_winograd(w.shape[-2], w.shape[-1], x.dtype, window) and not winograd.has_few_tiles(y.shape):
        return winograd.convolve(x, w, window.padding)
    if x.shape[-1] == 1 and all(s == 1 for s in window.strides):
        return by_blocks(lambda x: shifted_sum(x, w, window, y.shape[1:-1]), x, _blocks(x, y, at_least=2))
    return by_blocks(lambda x: _as_it_stands_or_in_long_rows(x, w, window), x, _blocks(x, y))


def _as_it_stands_or_in_long_rows(x: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    batch, *out = jax.eval_shape(lambda: convolve(x, w, window)).shape
    # Rows as long as a batch that is not known yet would have windows that are not known yet.
    if not isinstance(batch, int) or not gains_by_long_rows(x.shape[-1], out, window):
        return convolve(x, w, window)
    low, high = window.padding[-1]
    long = replace(
        window,
        image=(*window.image[:-1], window.image[-1] * batch),
        padding=(*window.padding[:-1], (low * batch, high * batch)),
        dilation=(*window.dilation[:-1], window.dilation[-1] * batch),
    )
    inner = x.ndim - 2
    y = convolve(jnp.moveaxis(x, 0, inner).reshape(1, *long.image, x.shape[-1]), w, long)
    return jnp.moveaxis(y.reshape(*out[:-1], batch, out[-1]), inner, 0)


def gains_by_winograd(channels: int, features: int, dtype: DTypeLike, window: Window) -> bool:
    """Whether `safjax.ops.winograd` computes the same, and faster.

    Measured on two cores with a batch of 16: from 64 × 128 channels on most of forward and gradients take 0.3 to 0.9
    of the direct time; below that the transformations of the tiles cost more than the multiplications they save.
    """
    plain = all(s == d == 1 for s, d in zip(window.strides, window.dilation, strict=True)) and window.groups == 1
    exact = dtype in (jnp.float32, jnp.float64) and window.dtype in (None, dtype)
    return window.kernel == (3, 3) and plain and exact and channels * features >= 64 * 128


def gains_by_long_rows(channels: int, out: Sequence[int], window: Window) -> bool:
    """Whether long rows are possible and faster: by 5 to 20 % for rows of 8 or fewer, by 40 % for 64 output channels.

    Measured on two cores for 3×3 kernels; more cores gain more where output channels are few. With few input channels
    the transposition costs more than it brings.
    """
    *_, columns, features = out
    possible = len(window.kernel) > 1 and window.strides[-1] == 1 and window.groups == 1
    return possible and prod(window.kernel) > 1 and channels >= 16 and (columns <= 8 or features <= 128)


def input_gradient(w: jax.Array, δ: jax.Array, window: Window) -> jax.Array:
    """∂L/∂x[n, j, c] = Σ_{i, k, o: s i + d k = j + low} δ[n, i, o] w[k, c, o]: δ spread by s, convolved with flipped w.

    Args:
      w: [*kernel, C / groups, O].
      δ: [N, *spatial, O].

    Returns:
      [N, *window.image, C] in the dtype of δ.
    """
    if gains_by_winograd(w.shape[-2], w.shape[-1], δ.dtype, window):
        return winograd.input_gradient(w.astype(δ.dtype), δ, window.padding)
    x = jax.ShapeDtypeStruct((len(δ), *window.image, window.groups * w.shape[-2]), δ.dtype)
    if window.groups == 1 and (w.shape[-2] < FEW or prod(window.kernel) == 1):
        # A sum of shifted arrays would be fused into its readers as well, see `forward`.
        count = _blocks(x, δ, at_least=1 if prod(window.kernel) == 1 else 2)
        if gains_by_pairs(δ.shape[-2], window):
            pairs, kernel = window_of_groups(window, δ.shape[-2], 2), kernel_of_groups(w, 2)
            return apart(by_blocks(lambda δ: scattered_input_gradient(kernel, δ, pairs), together(δ, 2), count), 2)
        return by_blocks(lambda δ: scattered_input_gradient(w, δ, window), δ, count)
    return by_blocks(lambda δ: _correlated(w, δ, window), δ, _blocks(x, δ))


def gains_by_pairs(out: int, window: Window) -> bool:
    """Whether pairs of columns are possible and their products quicker to scatter.

    Measured on one core for 12 channels: with 5×5 kernels 0.68 of the time. The zeros in kernels of three columns cost
    what fewer and longer terms save.
    """
    even = all(n % 2 == 0 for n in (out, window.image[-1], window.padding[-1][0]))
    return even and window.strides[-1] == window.dilation[-1] == 1 and window.kernel[-1] >= 5


def _correlated(w: jax.Array, δ: jax.Array, window: Window) -> jax.Array:
    """δ, spread by the strides, convolved with the flipped kernel."""
    groups, spatial = window.groups, δ.ndim - 2
    flipped = lax.rev(w, range(spatial)).astype(δ.dtype)
    # [*k, c, (group, o)] to [*k, o, (group, c)]
    flipped = flipped.reshape(*w.shape[:-1], groups, -1)
    flipped = jnp.moveaxis(flipped, (-3, -1), (-1, -3)).reshape(*window.kernel, w.shape[-1] // groups, -1)
    padding = tuple(
        (d * (k - 1) - low, size + low - s * (out - 1) - 1)
        for size, k, s, d, (low, _), out in zip(
            window.image, window.kernel, window.strides, window.dilation, window.padding, δ.shape[1:-1], strict=True
        )
    )
    transposed = replace(window, image=δ.shape[1:-1], strides=(1,) * spatial, padding=padding, dtype=None)
    if all(s == 1 for s in window.strides):
        return _as_it_stands_or_in_long_rows(δ, flipped, transposed)
    return convolve(δ, flipped, transposed, spread=window.strides)


def weight_gradient(x: jax.Array, δ: jax.Array, window: Window) -> jax.Array:
    """∂L/∂w[k, c, o] = Σ_{n, i} x̄[n, s i + d k, c] δ[n, i, o].

    The kernel's offsets along all axes but the first are written out: for each of them x̄ is shifted. Along the first
    axis ("rows") the sum is a 1-D convolution, in which each channel of each shifted x̄ is an image, δ is the kernel and
    (n, remaining axes) is contracted.

    Args:
      x: [N, *window.image, C].
      δ: [N, *spatial, O].

    Returns:
      [*window.kernel, C / groups, O] in the dtype of δ.
    """
    if gains_by_winograd(x.shape[-1], δ.shape[-1], δ.dtype, window):
        return winograd.weight_gradient(x.astype(δ.dtype), δ, window.padding)
    return summed_over_blocks(lambda x, δ: _contracted(x, δ, window), x, δ, _blocks(x, δ))


def _blocks(x: Any, y: Any, at_least: int = 1) -> int:
    """How many blocks of images make a convolution's input and output small enough for the cache."""
    one = sum(prod(a.shape[1:]) * a.dtype.itemsize for a in (x, y))
    return blocks_of(x.shape[0], one, at_least)


def _contracted(x: jax.Array, δ: jax.Array, window: Window) -> jax.Array:
    if x.shape[-1] == 1 and (size := columns_together(δ.shape[-2], window)) > 1:
        x, groups = padded_to_groups(x, δ.shape[-2], window, size)
        return kernel_gradient(_contracted(x, together(δ, size), groups), window.kernel[-1], size)
    if x.ndim == 4 and x.shape[-1] == 1:
        return one_channel_weight_gradient(x, δ, window)
    # Double precision has no fast 1-D convolution. With one row the convolution becomes a matrix product.
    if x.ndim == 3 or δ.dtype == jnp.float64:
        return weight_gradient_by_rows(x[:, None], δ[:, None], window.with_unit_axis())[0]
    return weight_gradient_by_rows(x, δ, window)


def columns_together(out: int, window: Window) -> int:
    """How many columns of a single channel are quickest taken together, 1 where none can be.

    Measured on one core: pairs take 0.5 to 0.7 of the time of `one_channel_weight_gradient`, with kernels of five
    columns four together 0.5.
    """
    if window.strides[-1] != 1 or window.dilation[-1] != 1 or window.kernel[-1] < 3 or out % 2:
        return 1
    return 4 if window.kernel[-1] >= 5 and out % 4 == 0 else 2


def weight_gradient_by_rows(x: jax.Array, δ: jax.Array, window: Window) -> jax.Array:
    """`weight_gradient` of two or more spatial axes."""
    groups, channels, features = window.groups, x.shape[-1] // window.groups, δ.shape[-1]
    shifted = shifted_columns(x.astype(δ.dtype), δ.shape[1:-1], window)
    shifts, _, rows = shifted.shape[:3]
    # [shift, (group, c), row, ...] to images (shift, c), one spatial axis row, contracted (group, n, *column)
    shifted = shifted.reshape(shifts, groups, channels, rows, -1)
    images = jnp.moveaxis(shifted, 1, 3).reshape(shifts * channels, rows, -1)
    kernel = jnp.moveaxis(δ, 1, 0).reshape(δ.shape[1], -1, features)
    gradient = lax.conv_general_dilated(
        images,
        kernel,
        window.dilation[:1],
        "VALID",
        rhs_dilation=window.strides[:1],
        dimension_numbers=channels_last(1),
        feature_group_count=groups,
        precision=window.precision,
    )
    gradient = gradient.reshape(*window.kernel[1:], channels, window.kernel[0], features)
    return jnp.moveaxis(gradient, -2, 0)


def shifted_columns(x: jax.Array, out: tuple[int, ...], window: Window) -> jax.Array:
    """For each kernel offset along all spatial axes but the first, the entries of x̄ that it meets.

    Args:
      x: [N, *window.image, C].
      out: sizes of the output's spatial axes.

    Returns:
      [shifts, C, rows, N, *out[1:]], where rows are those that the windows of the output cover.
    """
    spatial = x.ndim - 2
    # Transposing before padding and shifting measures three times faster than after.
    x = x.transpose(spatial + 1, 1, 0, *range(2, spatial + 1))
    first, *others = ((low, high, 0) for low, high in window.padding)
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), first, (0, 0, 0), *others])
    rows = window.strides[0] * (out[0] - 1) + window.dilation[0] * (window.kernel[0] - 1) + 1
    shifts = []
    for offset in product(*map(range, window.kernel[1:])):
        start = [d * k for d, k in zip(window.dilation[1:], offset, strict=True)]
        stop = [a + s * (m - 1) + 1 for a, s, m in zip(start, window.strides[1:], out[1:], strict=True)]
        shifts.append(x[:, :rows, :, *map(slice, start, stop, window.strides[1:])])
    return jnp.stack(shifts)
