"""What a user is told on stderr: stdout is for the epochs and the summary."""

import contextlib
import contextvars
import sys
from collections.abc import Iterator

_HUSHED = contextvars.ContextVar("hushed", default=False)


def say(message: str) -> None:
    """Tells the user how it goes."""
    if not _HUSHED.get():
        _print(message)


def warn(message: str) -> None:
    """Tells the user what has gone wrong, while the run goes on."""
    _print(f"warning: {message}")


@contextlib.contextmanager
def hushed(quiet: bool) -> Iterator[None]:
    """While entered, and if `quiet`, `say` says nothing; `warn` does."""
    token = _HUSHED.set(quiet)
    try:
        yield
    finally:
        _HUSHED.reset(token)


def _print(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
