"""In the place of a result that was not asked for."""

import dataclasses
from typing import Any, NoReturn

import jax


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Absent:
    """Stands where a result would, had it been asked for; whoever uses it is told how to ask.

    Attributes:
      what: a sentence that says what is not here, and what to write.
    """

    what: str

    def _refuse(self, *_: Any) -> NoReturn:
        raise ValueError(self.what)

    __getitem__ = __array__ = __jax_array__ = __iter__ = __len__ = __bool__ = _refuse

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(self.what)
