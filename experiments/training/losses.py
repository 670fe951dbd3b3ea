"""The loss of the experiments."""

import chex
import jax
import jax.numpy as jnp
import optax


def example_losses(logits: jax.Array, labels: jax.Array, mse_weight: float) -> jax.Array:
    """(1 − a) CE(o, y) + a MSE(o, onehot(y)) of every example, MSE being the mean over the classes.

    Xiao et al., "Online training through time for spiking neural networks", 2022, as in the published code.

    Args:
      logits: o[B, C].
      labels: y[B], whole numbers in 0 .. C − 1.
      mse_weight: a ∈ [0, 1].

    Returns:
      [B].
    """
    chex.assert_rank([logits, labels], [2, 1])
    chex.assert_equal_shape_prefix([logits, labels], 1)
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    squared_error = jnp.mean((logits - jax.nn.one_hot(labels, logits.shape[-1])) ** 2, axis=-1)
    return (1 - mse_weight) * cross_entropy + mse_weight * squared_error


def mean_loss(logits: jax.Array, labels: jax.Array, mse_weight: float) -> jax.Array:
    """The mean of `example_losses` over the batch: the loss of one time step."""
    return jnp.mean(example_losses(logits, labels, mse_weight))
