"""Variables that a synapse's function reads though its layer does not hold them.

A function that closes over a module, or finds one among the globals, sees that module as it was when the function was
made. The net that learns is another copy: part of the gradient would be lost, and after an update the function would go
on with the old weights.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from flax import nnx

from safjax.nn.refusing import Refusals
from safjax.nn.states import variables

_LOCK = threading.RLock()


@contextlib.contextmanager
def refused_outside(layer: nnx.Module, path: str, refusals: Refusals, kind: str = "Synapse") -> Iterator[None]:
    """Refuses, while the layer of the Synapse at `path` is called, to read a variable of an outer trace not its own.

    In place of a Synapse it may be a module of another `kind`.
    """
    own = {id(variable) for variable in variables(layer)}
    with _LOCK:
        reader, get_value = threading.get_ident(), nnx.Variable.get_value

        def checked(variable: nnx.Variable[Any], **index: Any) -> Any:
            if threading.get_ident() == reader and id(variable) not in own and not variable._can_update:
                refusals.refuse(path, _message(variable, path, kind))
            return get_value(variable, **index)

        nnx.Variable.get_value = checked  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            nnx.Variable.get_value = get_value  # type: ignore[method-assign]


def _message(variable: nnx.Variable[Any], path: str, kind: str) -> str:
    what = f"{type(variable).__name__}{list(getattr(variable.get_raw_value(), 'shape', ()))}"
    return (
        f"The function in the {kind} at '{path}' reads a {what} that the {kind} does not hold, for instance that of "
        "a module which the function closes over. It would see the values of when it was made, and not learn. Hold the "
        "layer in a module: class Tied(nnx.Module) with self.layer = layer in its __init__ and "
        f"x @ self.layer.kernel[...].T in its __call__, in the net as {kind}(Tied(layer)); a layer may stand in a net "
        "twice."
    )
