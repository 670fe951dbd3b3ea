"""Two passes of one layer: over the values of all steps, and over their mean, normalised by the statistics of those."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import jax

Statistics = tuple[jax.Array, jax.Array]


class Passes:
    """Which pass goes on, and (mean, variance) of each normalisation in the first one, by its path."""

    def __init__(self) -> None:
        self.of_mean = False
        self.statistics: dict[str, Statistics] = {}


_NOW: ContextVar[Passes | None] = ContextVar("_NOW", default=None)


@contextlib.contextmanager
def two_passes() -> Iterator[Passes]:
    """While a layer is called twice; `of_mean` is set between the calls."""
    passes = Passes()
    token = _NOW.set(passes)
    try:
        yield passes
    finally:
        _NOW.reset(token)


def present_passes() -> Passes | None:
    """Those of the layer that is being called; None where it is called once."""
    return _NOW.get()
