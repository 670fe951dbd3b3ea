"""What a configuration asks of the whole process while a run lasts: 64-bit numbers, and silence."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax

from experiments.config import Config
from experiments.console import messages


def with_settings(run: Callable[[Config], Any]) -> Callable[[Config], Any]:
    """The function of a configuration, with `settings` in force."""

    @functools.wraps(run)
    def run_with_settings(config: Config) -> Any:
        with settings(config.net.precision, config.run.quiet):
            return run(config)

    return run_with_settings


@contextlib.contextmanager
def settings(precision: str, quiet: bool = False) -> Iterator[None]:
    """Enables 64-bit numbers for --precision=float64, and hushes `say` for --quiet; afterwards all is as before."""
    before = jax.config.values["jax_enable_x64"]
    # Not the context manager of JAX, which holds for one thread: arrays are made in those of orbax too.
    jax.config.update("jax_enable_x64", precision == "float64" or before)
    try:
        with messages.hushed(quiet):
            yield
    finally:
        jax.config.update("jax_enable_x64", before)
