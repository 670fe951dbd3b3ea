"""The number formats of a layer's arrays."""

from typing import Any

from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype

from safjax.nn.states import modules
from safjax.precision import widened

WithBias = nnx.Conv | nnx.Linear
"""Stock layers that add a bias."""


def promote_but_bias(arrays: Any, /, **options: Any) -> Any:
    """Flax's `promote_dtype` of a layer's (input, kernel, bias), but with a bias of float32 or wider.

    The bias is then added in float32, and so is its gradient added up, over batch and space: in bfloat16 that sum comes
    to rest after 256 terms, as it does on CPU for stock layers.
    """
    *others, bias = arrays
    return *promote_dtype(tuple(others), **options), None if bias is None else widened(bias)


def keep_biases_wide(layer: nnx.Module) -> None:
    """Gives the stock layers in `layer` `promote_but_bias` in place of Flax's own."""
    for _, module in modules(layer):
        if isinstance(module, WithBias) and module.promote_dtype is promote_dtype:
            module.promote_dtype = promote_but_bias
