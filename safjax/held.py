"""Where accelerators keep an array for the backward pass, and where they make it again only there.

XLA decides by itself what a kernel computes again of its inputs and what it writes into memory for a later one. The
functions here say it. On CPU nothing is changed: there its compiler drops barriers before it merges equal computations.
"""

from typing import Any

import jax
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def held(x: jax.Array) -> jax.Array:
    """x. On GPUs and TPUs, what is computed of the result is computed of this array as it lies in memory.

    A backward pass that needs u − θ is otherwise made to compute it again, of the state before the step; and that,
    which the step is about to write over, must be copied at every step.
    """
    return _held.bind(x)


def late(x: jax.Array, known: jax.Array) -> jax.Array:
    """x. On GPUs and TPUs, what is computed of the result is not computed before `known` is.

    What a backward pass can make quickly of arrays that are in memory anyway is otherwise made in the forward pass and
    kept until then.
    """
    return _late.bind(x, known)


def _first(x: jax.Array, *others: jax.Array) -> jax.Array:
    del others
    return x


def _behind_a_barrier(x: jax.Array, *others: jax.Array) -> jax.Array:
    return lax.optimization_barrier((x, *others))[0]


def _batched(arguments: Any, axes: Any) -> Any:
    return _late.bind(*arguments), axes[0]


_held, _late = Primitive("held"), Primitive("late")
ad.defjvp(_held, lambda change, x: change)
ad.defjvp(_late, lambda change, x, known: change, None)
batching.defvectorized(_held)
batching.primitive_batchers[_late] = _batched
for _primitive in (_held, _late):
    _primitive.def_impl(_first)
    _primitive.def_abstract_eval(lambda x, *others: x.update(weak_type=False))
    mlir.register_lowering(_primitive, mlir.lower_fun(_first, multiple_results=False))
    for _platform in ("cuda", "rocm", "tpu"):
        mlir.register_lowering(
            _primitive, mlir.lower_fun(_behind_a_barrier, multiple_results=False), platform=_platform
        )
