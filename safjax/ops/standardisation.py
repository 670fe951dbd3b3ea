"""Scaled weight standardisation."""

import math

import jax
import jax.numpy as jnp


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
      Ŵ, of the shape of W. The variance is the unbiased one (divisor n − 1), as in the published OTTT code.

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
    axes = tuple(range(kernel.ndim - 1))
    fan_in = math.prod(kernel.shape[:-1])
    if fan_in < 2:
        raise ValueError(
            f"standardise(kernel{list(kernel.shape)}): each output has {fan_in} weight, and the variance of one or "
            "none is not defined. Use a larger kernel, more input channels, or nnx.Conv, which does not standardise."
        )
    centred = kernel - jnp.mean(kernel, axes, keepdims=True)
    variance = jnp.sum(centred**2, axes) / (fan_in - 1)
    return centred * (gain * jax.lax.rsqrt(variance * fan_in + epsilon))
