"""Convolutions with few input channels, as event cameras and grey images have, and their input gradients.

XLA's CPU convolution vectorises over channels, so that it runs at a tenth of its speed where they are few: for
x[32, 28, 28, 1] and a 5×5 kernel of 12 features 12 GFLOP/s forwards and 4 backwards, where the formulas here reach 58
and 23 (jax 0.10.2, float32, one core). The notation is that of `convolution_formulas`.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from safjax.precision import widened


def shifted_sum(x: jax.Array, w: jax.Array, window: Any, out: Sequence[int]) -> jax.Array:
    """y[n, i, o] = Σ_k x̄[n, i + d k, 0] w[k, 0, o], of one channel and stride 1: a sum of shifted images, in one loop.

    Args:
      x: [N, *spatial, 1].
      w: [*kernel, 1, O].
      window: a `Window` of stride 1.
      out: sizes of the output's spatial axes.
    """
    dtype = jnp.result_type(x, w) if window.dtype is None else window.dtype
    x, w = widened(x), widened(w)
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*pad, 0) for pad in window.padding), (0, 0, 0)])
    total = jnp.zeros((x.shape[0], *out, w.shape[-1]), x.dtype)
    for offset in product(*map(range, window.kernel)):
        start = [d * k for d, k in zip(window.dilation, offset, strict=True)]
        entry = x[:, *(slice(a, a + m) for a, m in zip(start, out, strict=True))]
        total = total + entry * w[offset]
    return total.astype(dtype)


def scattered_input_gradient(w: jax.Array, δ: jax.Array, window: Any) -> jax.Array:
    """∂L/∂x: one matrix product δ wᵀ for all offsets of the kernel, each then added where its window stands.

    Args:
      w: [*kernel, C, O], of one group.
      δ: ∂L/∂y, [N, *spatial, O].
      window: a `Window`.

    Returns:
      [N, *window.image, C] in the dtype of δ.
    """
    channels, features = w.shape[-2:]
    offsets = list(product(*map(range, window.kernel)))
    matrix, wide = w.reshape(len(offsets) * channels, features).T, jnp.promote_types(δ.dtype, jnp.float32)
    products = jnp.matmul(
        δ.reshape(-1, features), matrix.astype(δ.dtype), precision=window.precision, preferred_element_type=wide
    )
    products = products.reshape(*δ.shape[:-1], len(offsets), channels)
    total = jnp.zeros((len(δ), *window.image, channels), products.dtype)
    for number, offset in enumerate(offsets):
        places = [(0, 0, 0)]
        for k, s, d, size, out, (low, _) in zip(
            offset, window.strides, window.dilation, window.image, δ.shape[1:-1], window.padding, strict=True
        ):
            before = d * k - low
            places.append((before, size - before - (s * (out - 1) + 1), s - 1))
        total = total + lax.pad(products[..., number, :], jnp.zeros((), total.dtype), [*places, (0, 0, 0)])
    return total.astype(δ.dtype)


def one_channel_weight_gradient(x: jax.Array, δ: jax.Array, window: Any) -> jax.Array:
    """∂L/∂w[k, 0, o] = Σ_{n, i} x̄[n, s i + d k, 0] δ[n, i, o], in which δ keeps its layout.

    Each shift of x̄ by an offset along the columns is an image whose pixels are (n, row) and whose channels are the
    columns; δ is a kernel that covers all images and rows of the output, and slides along rows.

    Args:
      x: [N, H, W, 1].
      δ: ∂L/∂y, [N, H′, W′, O].
      window: a `Window` of two spatial axes.

    Returns:
      [*window.kernel, 1, O] in the dtype of δ.
    """
    (stride, across), (dilation, apart) = window.strides, window.dilation
    rows, columns = window.kernel
    _, height, width, features = δ.shape
    x = lax.pad(x[..., 0].astype(δ.dtype), jnp.zeros((), δ.dtype), [(0, 0, 0), *((*pad, 0) for pad in window.padding)])
    needed = stride * (height - 1) + dilation * (rows - 1) + 1
    starts = [apart * k for k in range(columns)]
    shifted = jnp.stack([x[:, :needed, a : a + across * (width - 1) + 1 : across] for a in starts])
    gradient = lax.conv_general_dilated(
        shifted,
        δ,
        (1, dilation),
        "VALID",
        rhs_dilation=(1, stride),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=window.precision,
    )
    return jnp.moveaxis(gradient.reshape(columns, rows, features), 0, 1)[:, :, None]
