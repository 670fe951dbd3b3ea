"""Ctrl-C as a request to stop at the next good moment."""

import signal
from types import FrameType
from typing import Any


class Interrupt:
    """While entered, the first SIGINT sets `requested`; a second one raises KeyboardInterrupt at once.

    Attributes:
      requested: whether the program has been asked to stop.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: Any = None

    def __enter__(self) -> "Interrupt":
        self._before = signal.signal(signal.SIGINT, self._request)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
