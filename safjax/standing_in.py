"""A value that is differentiated as another one."""

from collections.abc import Sequence

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def with_gradient_of(value: jax.Array, stand_in: jax.Array) -> jax.Array:
    """`value`, with the derivatives of `stand_in`, in every mode and order; both of one shape and dtype.

    No operation remains in the compiled program: what only `stand_in` needs is not computed, and `value` is not copied.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from safjax.standing_in import with_gradient_of
      >>> f = lambda x: with_gradient_of(jnp.round(x), x**2)
      >>> [float(g(jnp.asarray(2.5))) for g in (f, jax.grad(f), jax.grad(jax.grad(f)))]
      [2.0, 5.0, 2.0]
    """
    if (value.shape, value.dtype) != (stand_in.shape, stand_in.dtype):
        raise TypeError(f"A value {value.dtype}{list(value.shape)} for {stand_in.dtype}{list(stand_in.shape)}.")
    return _with_gradient_of.bind(jax.lax.stop_gradient(value), stand_in)


def _value(value: jax.Array, stand_in: jax.Array) -> jax.Array:
    del stand_in
    return value


def _batched(arguments: Sequence[jax.Array], axes: Sequence[int | None]) -> tuple[jax.Array, int]:
    size = next(x.shape[axis] for x, axis in zip(arguments, axes, strict=True) if axis is not None)
    moved = (batching.bdim_at_front(x, axis, size) for x, axis in zip(arguments, axes, strict=True))
    return _with_gradient_of.bind(*moved), 0


# A primitive, for the reason that `safjax.surrogate` gives.
_with_gradient_of = Primitive("with_gradient_of")
_with_gradient_of.def_impl(_value)
_with_gradient_of.def_abstract_eval(lambda value, stand_in: value.update(weak_type=False))
ad.defjvp(_with_gradient_of, None, lambda change, value, stand_in: change)
batching.primitive_batchers[_with_gradient_of] = _batched
mlir.register_lowering(_with_gradient_of, mlir.lower_fun(_value, multiple_results=False))
