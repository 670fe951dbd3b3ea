"""Layers that do not learn: readouts of local losses, and ways of errors."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from safjax.nn.states import modules

Layer = TypeVar("Layer", bound=nnx.Module)


def fixed(layer: Layer) -> Layer:
    """A layer with its weights as they are, which no rule trains: each `nnx.Param` becomes an `nnx.Variable`.

        Synapse(fixed(nnx.Linear(64, 10, rngs=rngs)))                                            # random
        Synapse(fixed(nnx.Linear(64, 10, kernel_init=sinusoidal, use_bias=False, rngs=rngs)))    # of sine waves

    Args:
      layer: changed in place.

    Returns:
      The layer itself.

    Raises:
      TypeError: layer is no module.

    Example:
      >>> import jax
      >>> from flax import nnx
      >>> from safjax.nn import fixed
      >>> jax.tree.leaves(nnx.state(fixed(nnx.Linear(4, 2, rngs=nnx.Rngs(0))), nnx.Param))
      []
    """
    if not isinstance(layer, nnx.Module):
        raise TypeError(f"fixed(...): expected a layer, an nnx.Module, but was given a {type(layer).__name__}.")
    for _, module in modules(layer):
        for name, value in list(vars(module).items()):
            if isinstance(value, nnx.Param):
                setattr(module, name, nnx.Variable(value.get_value()))
    return layer


LOWEST, HIGHEST = 50.0, 512.0


def sinusoidal(key: Any, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
    """Weights W[k, c] = sign(sin(ω_c k)) / d of d inputs and C outputs, ω from 50 to 512: a `kernel_init`.

    Square waves of a frequency for each class, the fixed local readouts of Apolinario, Roy & Frenkel, "TESS: a scalable
    temporally and spatially local learning rule for spiking neural networks", 2025. Nothing is drawn.

    Args:
      key: not looked at.
      shape: (d, C).

    Raises:
      ValueError: shape has another number of axes.

    Example:
      >>> from safjax.nn import sinusoidal
      >>> (4 * sinusoidal(None, (4, 2))).astype(int).T.tolist()
      [[0, -1, -1, -1], [0, 1, -1, 1]]
    """
    del key
    if len(shape) != 2:
        raise ValueError(f"sinusoidal: expected the shape (inputs, classes) of a matrix, but was given {tuple(shape)}.")
    inputs, classes = shape
    # In NumPy's float64: in float32 the phase of many thousand inputs would be lost, and signs with it.
    angles = np.arange(inputs)[:, None] * np.linspace(LOWEST, HIGHEST, classes)
    return jnp.asarray(np.sign(np.sin(angles)) / inputs, dtype)
