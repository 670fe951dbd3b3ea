"""One function, spelled for several platforms; and programs that have the common spelling only."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax

# Part of the key by which `jax.jit` looks programs up.
_PORTABLE = jax.make_user_context(False)


@contextlib.contextmanager
def portable() -> Iterator[None]:
    """Programs that are traced inside choose nothing by platform: each operation is JAX's own, or spelled for all.

        with safjax.ops.portable():
            model = jax2onnx.to_onnx(lambda x: safjax.predict(net, x, steps=6), [("B", 28, 28, 1)])

    Otherwise convolutions and pooling hold spellings for several platforms, of which XLA takes one, and spikes are an
    operation of their own; other compilers know neither. Values are the same up to rounding. For inference: to
    differentiate a spike inside raises a TypeError.
    """
    with _PORTABLE(True):
        yield


def is_portable() -> bool:
    """Whether what is traced now is to be `portable`."""
    return bool(_PORTABLE.value)


def by_platform(*arguments: Any, default: Callable[..., jax.Array], **spellings: Callable[..., jax.Array]) -> jax.Array:
    """`jax.lax.platform_dependent`; of a `portable` program the default spelling."""
    if is_portable():
        return default(*arguments)
    return jax.lax.platform_dependent(*arguments, default=default, **spellings)
