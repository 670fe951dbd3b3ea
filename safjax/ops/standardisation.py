"""Scaled weight standardisation."""

import functools
import math

import jax
import jax.numpy as jnp

_Residuals = tuple[jax.Array, jax.Array, jax.Array, jax.Array]
"""W, g, mean W, and the scale (n var W + ε)^(−½)."""


def standardise(kernel: jax.Array, gain: jax.Array, epsilon: float = 1e-4) -> jax.Array:
    """Ŵ = g (W − mean W) / √(n var W + ε), for each output unit.

    With unit-variance inputs the outputs have variance g²: normalisation that needs no statistics of the batch and does
    not change with time. Brock, De & Smith, "Characterizing signal propagation to close the performance gap in
    unnormalized ResNets", 2021, Eq. (3).

    Args:
      kernel: W[..., fan-in axes, features], features last; n is the product of all other axes.
      gain: g[features].
      epsilon: added inside the root.

    Returns:
      Ŵ, of the shape of W. The variance is the unbiased one (divisor n − 1), as in the published OTTT code. To be
      differentiated in reverse mode only.

    Raises:
      ValueError: n is 1: a single weight has no variance.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from safjax.ops.standardisation import standardise
      >>> kernel = standardise(jax.random.normal(jax.random.key(0), (3, 3, 8, 16)), jnp.ones(16))
      >>> bool(jnp.allclose(kernel.mean((0, 1, 2)), 0, atol=1e-6))
      True
      >>> bool(jnp.allclose((kernel**2).sum((0, 1, 2)), 1, rtol=0.03))
      True
    """
    fan_in = _sums(kernel)[1]
    if fan_in < 2:
        raise ValueError(
            f"standardise(kernel{list(kernel.shape)}): each output has {fan_in} weight, and the variance of one or "
            "none is not defined. Use a larger kernel, more input channels, or nnx.Conv, which does not standardise."
        )
    return _standardised(kernel, gain, epsilon)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _standardised(kernel: jax.Array, gain: jax.Array, epsilon: float) -> jax.Array:
    return _forward(kernel, gain, epsilon)[0]


def _forward(kernel: jax.Array, gain: jax.Array, epsilon: float) -> tuple[jax.Array, _Residuals]:
    axes, fan_in = _sums(kernel)
    mean = jnp.mean(kernel, axes)
    variance = jnp.sum((kernel - mean) ** 2, axes) / (fan_in - 1)
    scale = jax.lax.rsqrt(variance * fan_in + epsilon)
    return (kernel - mean) * (gain * scale), (kernel, gain, mean, scale)


def _backward(epsilon: float, residuals: _Residuals, error: jax.Array) -> tuple[jax.Array, jax.Array]:
    """With c = (n var W + ε)^(−½) and e = ∂L/∂Ŵ: ∂L/∂g = c Σ e (W − mean W) and

    ∂L/∂W = g c (e − mean e) − n / (n − 1) g c³ (W − mean W) Σ e (W − mean W)
    """
    del epsilon
    kernel, gain, mean, scale = residuals
    axes, fan_in = _sums(kernel)
    total = jnp.sum(error, axes)
    # In terms of W, not of W − mean W, which the compiler would keep from the forward pass: a copy of all kernels.
    along = jnp.sum(error * kernel, axes) - total * mean
    slope = gain * along * scale**3 * (fan_in / (fan_in - 1))
    to_kernel = gain * scale * error - slope * kernel + (slope * mean - gain * scale * total / fan_in)
    return to_kernel.astype(kernel.dtype), (along * scale).astype(gain.dtype)


_standardised.defvjp(_forward, _backward)


def _sums(kernel: jax.Array) -> tuple[tuple[int, ...], int]:
    """The axes of one output's weights, and how many weights these are."""
    return tuple(range(kernel.ndim - 1)), math.prod(kernel.shape[:-1])
