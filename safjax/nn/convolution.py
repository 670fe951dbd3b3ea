"""Convolution with scaled weight standardisation."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

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
      param_dtype: dtype of the parameters.
      rngs: its stream "params" initialises the kernel.
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
        kernel_init: Callable = nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),  # noqa: B008
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.strides = (strides, strides) if isinstance(strides, int) else tuple(strides)
        self.padding = padding if isinstance(padding, str) else tuple((before, after) for before, after in padding)
        shape = (*kernel_size, in_features, out_features)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, param_dtype))
        self.gain = nnx.Param(jnp.ones((out_features,), param_dtype))
        self.bias = nnx.Param(jnp.zeros((out_features,), param_dtype)) if use_bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """x[B, H, W, in] ↦ [B, H′, W′, out]."""
        kernel = standardise(self.kernel[...], self.gain[...])
        y = conv_general_dilated(
            x.astype(kernel.dtype), kernel, self.strides, self.padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return y if self.bias is None else y + self.bias[...]
