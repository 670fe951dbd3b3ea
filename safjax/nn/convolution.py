"""Convolution with scaled weight standardisation."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn.dtypes import promote_but_bias
from safjax.nn.numbers import checked_rngs
from safjax.ops.convolution import conv_general_dilated
from safjax.ops.standardisation import standardise


class WSConv(nnx.Module):
    """2-D convolution whose kernel is standardised, Ŵ = g (W − mean W) / √(n var W + ε); see
    `safjax.ops.standardisation`.

    An ordinary layer: put it into a `Synapse`. Parameters: `kernel` [kh, kw, in, out], `gain` [out] (starts at 1),
    `bias` [out] (starts at 0).

    Args:
      in_features, out_features: channels.
      kernel_size: (kh, kw).
      strides: one step for both axes or one each.
      padding: "SAME", "VALID", or ((top, bottom), (left, right)).
      use_bias: whether a bias is added.
      kernel_init: the initialiser of W; default normal with variance 2 / fan-out (He et al., 2015).
      dtype: in which to convolve, for instance bfloat16; None takes the one that input and kernel promote to. The
        kernel is standardised before it is cast, and the bias is added in float32 or wider.
      param_dtype: dtype of the parameters.
      rngs: its stream "params" initialises the kernel.

    Raises:
      ValueError: channels, kernel_size or strides not whole numbers ≥ 1, padding none of the above, or one weight for
        each output, which has no variance.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: tuple[int, int] = (3, 3),
        strides: int | tuple[int, int] = 1,
        *,
        padding: str | Sequence[tuple[int, int]] = "SAME",
        use_bias: bool = True,
        kernel_init: Callable[..., Any] = nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),  # noqa: B008
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.strides = tuple(strides) if isinstance(strides, Sequence) else (strides, strides)
        kernel = tuple(kernel_size) if isinstance(kernel_size, Sequence) else (kernel_size,)
        shape = (*kernel, in_features, out_features)
        self.padding = padding if isinstance(padding, str) else tuple((before, after) for before, after in padding)
        self.dtype = dtype
        _check(shape, self.strides, self.padding)
        self.kernel = nnx.Param(kernel_init(checked_rngs(self, rngs).params(), shape, param_dtype))
        self.gain = nnx.Param(jnp.ones((out_features,), param_dtype))
        self.bias = nnx.Param(jnp.zeros((out_features,), param_dtype)) if use_bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """x[B, H, W, in] ↦ [B, H′, W′, out]."""
        kernel = standardise(self.kernel[...], self.gain[...])
        bias = None if self.bias is None else self.bias[...]
        x, kernel, bias = promote_but_bias((x, kernel, bias), dtype=self.dtype)
        y = conv_general_dilated(x, kernel, self.strides, self.padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y if bias is None else y + bias


def _check(shape: tuple[Any, ...], strides: tuple[Any, ...], padding: str | tuple[Any, ...]) -> None:
    whole = [isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in (*shape, *strides)]
    if len(shape) != 4 or len(strides) != 2 or not all(whole):
        raise ValueError(
            f"WSConv(in_features={shape[-2]!r}, out_features={shape[-1]!r}, kernel_size={shape[:-2]!r}, "
            f"strides={strides!r}): expected whole numbers ≥ 1, two for kernel_size, one or two for strides, for "
            "instance WSConv(64, 128, (3, 3), strides=2, rngs=rngs)."
        )
    if padding not in ("SAME", "VALID") if isinstance(padding, str) else len(padding) != 2:
        raise ValueError(
            f"WSConv(padding={padding!r}): expected 'SAME', 'VALID' or zeros at ((top, bottom), (left, right))."
        )
    if shape[0] * shape[1] * shape[2] == 1:
        raise ValueError(
            "WSConv with a 1×1 kernel and one input channel: each output has a single weight, which has no variance to "
            "standardise by. Use a larger kernel, or nnx.Conv."
        )
