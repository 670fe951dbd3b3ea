"""Weights as PyTorch lays them out, in the layouts of Flax."""

import jax.numpy as jnp
import numpy as np


def kernel(weight, below=None):
    """(out, in, h, w) ↦ [h, w, in, out]; (out, in) ↦ [in, out], with what was flattened of (C, H, W) channels last."""
    if weight.ndim == 4:
        return jnp.asarray(weight.transpose(2, 3, 1, 0))
    if below is None or len(below) == 1:
        return jnp.asarray(weight.T)
    spread = weight.reshape(len(weight), *below)
    return jnp.asarray(np.moveaxis(spread, 1, -1).reshape(len(weight), -1).T)
