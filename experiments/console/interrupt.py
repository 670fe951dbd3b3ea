"""Ctrl-C and SIGTERM as requests to stop at the next good moment."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

DEFAULTS: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
"""The signals, and what each does by default."""


class Interrupt:
    """While entered, the first SIGINT or SIGTERM sets `signal`; a second one does at once what it does by default.

    Args:
      common: the largest of the numbers that the processes of a run give, an
        `experiments.distribution.devices.Agreement`: a signal to one of them stops all at the same batch. `requested`
        must then be read as often in each.

    Attributes:
      signal: the one that has come, None before.
    """

    def __init__(self, common: Callable[[int], int] = int) -> None:
        self.signal: signal.Signals | None = None
        self._common = common
        self._before: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether the program has been asked to stop."""
        number = self._common(self.signal or 0)
        self.signal = signal.Signals(number) if number else self.signal
        return number > 0

    def __enter__(self) -> "Interrupt":
        self._before = {number: signal.signal(number, self._request) for number in DEFAULTS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        for each, handler in DEFAULTS.items():
            signal.signal(each, handler)
