"""How far a run has come."""

import time
from typing import Any

from experiments.training.metrics import Measured, Tally


class Position:
    """A moment in a run, moving on with it.

    Args:
      epoch, batch, sums, seconds: as `values()` gives them.

    Attributes:
      epoch: under way or next, counted from 1.
      tally: what has been measured of it.
    """

    def __init__(
        self, epoch: int = 1, batch: int = 0, sums: dict[str, Any] | None = None, seconds: float = 0.0
    ) -> None:
        self.epoch, self.tally = epoch, Tally(batch, Measured(**sums) if sums else None)
        self._began = time.perf_counter() - seconds

    @property
    def seconds(self) -> float:
        """Since the run began, without what was lost to a kill and the time until it was resumed."""
        return time.perf_counter() - self._began

    def next_epoch(self) -> None:
        """Goes on to the beginning of the next epoch."""
        self.epoch, self.tally = self.epoch + 1, Tally()

    def values(self) -> dict[str, Any]:
        """The position as values that JSON has; waits for the device."""
        sums = self.tally.sums()
        return {
            "epoch": self.epoch,
            "batch": self.tally.batches,
            "sums": sums and sums._asdict(),
            "seconds": self.seconds,
        }
