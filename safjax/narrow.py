"""Slopes of spikes that are kept for the way back in a narrower number format, where that is asked for.

Back-propagation through time keeps, of every neuron and step, the slope of its spike function: an array of float32, in
nets of bfloat16 too. Rounded to bfloat16 it takes half the memory, and each slope is wrong by 1 part in 256 at most.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_FORMAT: ContextVar[jnp.dtype | None] = ContextVar("_FORMAT", default=None)


@contextlib.contextmanager
def slopes_kept_in(dtype: jnp.dtype | None) -> Iterator[None]:
    """While entered, the slopes of spike functions (`safjax.surrogate`) are kept in this format; None for their own."""
    token = _FORMAT.set(dtype)
    try:
        yield
    finally:
        _FORMAT.reset(token)


def format_of_slopes() -> jnp.dtype | None:
    """The present one; None for their own."""
    return _FORMAT.get()


def scaled(x: jax.Array, factor: jax.Array) -> jax.Array:
    """x · factor, in the number format of x; the factor is kept in its own, and widened only where it is needed.

    A product of like formats would be told of the widened factor alone, and keep that.
    """
    return _scaled.bind(x, factor)


def _product(x: jax.Array, factor: jax.Array) -> jax.Array:
    return x * factor.astype(x.dtype)


_scaled = Primitive("scaled")
_scaled.def_impl(_product)
_scaled.def_abstract_eval(lambda x, factor: x.update(weak_type=False))
ad.defbilinear(
    _scaled,
    lambda change, x, factor: _scaled.bind(change, factor),
    lambda change, x, factor: (change * x).astype(factor.aval.dtype),
)
batching.defbroadcasting(_scaled)
mlir.register_lowering(_scaled, mlir.lower_fun(_product, multiple_results=False))
