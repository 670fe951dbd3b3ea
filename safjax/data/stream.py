"""Frames of events one by one, as the events come."""

from collections.abc import Iterable, Iterator

import numpy as np

from safjax.data.events import Events, joined, steps_back
from safjax.data.frames import begins, bin_of, check_steps, edges
from safjax.data.grid import Grid

PATIENCE = 1 << 22
"""Events that may wait for those of earlier times, or four blocks of them."""


class FrameStream:
    """The frames of `by_duration` one by one, from blocks of events, in memory that does not grow with the recording.

    A frame is handed on when a block has come that begins after its end, so times may go back across the border of two
    blocks. A stream is gone through once.

    Args:
      blocks: events as they come, such as an opened file.
      duration: of a bin, µs.
      grid: the places of a frame.
      steps: T, later events are dropped; None for no end.
      start: µs; None for the smallest time of the first block.

    Attributes:
      dropped: events before the first bin and after the last, so far.
      handed: frames so far.

    Raises:
      ValueError: the duration is not positive or T below 1; while frames are taken, an event comes more than a block
        too late.
    """

    def __init__(
        self,
        blocks: Iterable[Events],
        duration: float,
        grid: Grid,
        steps: int | None = None,
        start: int | None = None,
    ) -> None:
        begins(duration, 0, 0)
        check_steps(1 if steps is None else steps)
        self.duration, self.grid, self.steps, self.start = duration, grid, steps, start
        self.dropped, self.handed = 0, 0
        self._blocks = iter(blocks)
        # Counts of the frame that is next, and events of later ones by time.
        self._next, self._later = np.zeros(grid.cells, np.int64), joined([])

    def __iter__(self) -> Iterator[np.ndarray]:
        """Frames, uint8 or uint16 [H, W, C]."""
        for block in self._blocks:
            if block.t.size:
                block = _by_time(block)
                if self.start is None:
                    self.start = int(block.t[0])
                yield from self._until(self._reached(int(block.t[0])))
                self._keep(block)
        yield from self._until(self._end())

    def _reached(self, t: int) -> int:
        """The frame that a time belongs to, of those that there are."""
        frame = max(0, bin_of(t - (self.start or 0), self.duration))
        if frame < self.handed and t >= (self.start or 0):
            raise ValueError(
                f"an event of t = {t} comes after frame {self.handed - 1}, which ended after it, was handed on; the "
                "times go back by more than a block. Sort the events first (`read` does), or give larger blocks."
            )
        return frame if self.steps is None else min(frame, self.steps)

    def _end(self) -> int:
        """The number of frames once all events have come."""
        if self.steps is not None:
            return self.steps
        if self._later.t.size:
            return self._reached(int(self._later.t[-1])) + 1
        return self.handed + bool(self._next.any())

    def _keep(self, block: Events) -> None:
        """Takes in events that are not too late: those of the next frame are counted, those of later ones wait."""
        start = self.start or 0
        end = block.t[-1] + 1 if self.steps is None else start + edges(self.duration, self.steps, self.steps)[0]
        first, last = np.searchsorted(block.t, (start, end))
        self.dropped += block.t.size - int(last - first)
        size = block.t.size
        self._later = _by_time(joined([self._later, block.where(slice(first, last))]))
        self._count()
        if self._later.t.size > max(PATIENCE, 4 * size):
            raise ValueError("the times of every block go back by more than a block; sort the events first.")

    def _count(self) -> None:
        """Counts the events of the next frame that have come."""
        after = (self.start or 0) + edges(self.duration, self.handed + 1, self.handed + 1)[0]
        number = int(np.searchsorted(self._later.t, after))
        if number:
            self._next += np.bincount(self.grid.places(self._later.where(slice(number))), minlength=self.grid.cells)
            self._later = self._later.where(slice(number, None))

    def _until(self, end: int) -> Iterator[np.ndarray]:
        """Hands on the frames up to `end`, of which all events have come."""
        while self.handed < end:
            self.handed += 1
            yield self.grid.narrow(self._next).reshape(self.grid.shape)
            self._next = np.zeros(self.grid.cells, np.int64)
            self._count()


def _by_time(found: Events) -> Events:
    return found.where(np.argsort(found.t, kind="stable")) if steps_back(found.t) else found
