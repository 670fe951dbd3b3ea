"""What `nnx.tabulate` puts around the methods of classes, and how it comes off again where a call failed."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from flax import nnx

MARK = "_nnx_tabulate_id"
"""The attribute of the modules that a table is being made of."""

_NNX = inspect.getfile(inspect.unwrap(nnx.tabulate))
_begun = False


class Mark:
    """The attribute `MARK` of a class of modules: notes that a table is begun.

    A copy of a marked module has the number of another one.
    """

    def __get__(self, module: Any, owner: type) -> Any:
        if module is None or MARK not in vars(module):
            raise AttributeError(MARK)
        return vars(module)[MARK]

    def __set__(self, module: Any, number: int) -> None:
        global _begun
        if number == id(module):
            # Those of a table before, whose call failed; this one has none yet.
            take_off()
            _begun = True
        vars(module)[MARK] = number


def unwrapped(method: Any) -> Any:
    """A method of a class without what NNX put around it."""
    while getattr(getattr(method, "__code__", None), "co_filename", None) == _NNX and hasattr(method, "__wrapped__"):
        method = method.__wrapped__
    return method


def wrapped_methods(owner: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """(name, method without wrapper) of the methods of a class that have one."""
    for name, method in inspect.getmembers(owner, inspect.isfunction):
        if unwrapped(method) is not method:
            yield name, unwrapped(method)


def take_off() -> None:
    """Takes the wrappers of a table whose call failed off all classes; quick where there was none."""
    global _begun
    if not _begun:
        return
    _begun, owners = False, [nnx.Pytree]
    for owner in owners:
        owners.extend(owner.__subclasses__())
        for name, method in vars(owner).copy().items():
            if unwrapped(method) is not method:
                setattr(owner, name, unwrapped(method))
