"""One message for one error: orbax also logs what it raises, with tracebacks from all its threads."""

import contextlib
import logging
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """While entered, orbax logs nothing, and arrays that come too late for a save that has failed say nothing."""
    log, report = logging.getLogger("absl"), sys.unraisablehook

    def unless_late(unraisable: "sys.UnraisableHookArgs") -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            report(unraisable)

    log.addFilter(_not_of_orbax)
    sys.unraisablehook = unless_late
    try:
        yield
    finally:
        sys.unraisablehook = report
        log.removeFilter(_not_of_orbax)


def _not_of_orbax(record: logging.LogRecord) -> bool:
    return "/orbax/" not in record.pathname
