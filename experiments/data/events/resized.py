"""Frames of events made smaller as published recipes of OTTT and SLTT do: as 8-bit pictures of where there were any."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from safjax.data import EventFrames, Frames
from safjax.data.datasets import Sample

WHITE = 255


@dataclasses.dataclass(frozen=True)
class Resized:
    """Where a pixel sent events in a frame, 255, and where none, 0, as a picture that is resized by bilinear weights.

    The published code turns counts into 8-bit pictures as count · 255, which goes on from 0 again beyond 255: a count n
    becomes 256 − n, close to 255 for the counts that there are. Here it is 255.

    Attributes:
      frames: of the whole sensor, counts up to 1.
      size: height and width of the pictures.

    Raises:
      ValueError: the frames count further than 1.
    """

    frames: EventFrames
    size: int

    def __post_init__(self) -> None:
        if self.frames.grid.clip != 1:
            raise ValueError(f"Resized: frames count up to {self.frames.grid.clip}, expected presence alone, clip=1.")

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, size, size, C)."""
        return self.frames.shape[0], self.size, self.size, self.frames.shape[3]

    @property
    def dtype(self) -> np.dtype:
        """uint8."""
        return np.dtype(np.uint8)

    def __str__(self) -> str:
        """As of the frames, and what is made of them."""
        _, height, width, _ = self.frames.shape
        return f"{self.frames}; {height} × {width} pixels, with or without events, resized to {self.size} × {self.size}"

    def __call__(self, path: Path, samples: Sequence[Sample]) -> Iterator[Frames]:
        """The pictures of some recordings that lie in one file."""
        for made in self.frames(path, samples):
            yield Frames(resized(made.counts, self.size), made.dropped)


def resized(presence: np.ndarray, size: int) -> np.ndarray:
    """uint8 [T, H, W, C] of 0 and 1 ↦ uint8 [T, size, size, C] of 0 to 255."""
    pictures = np.moveaxis(presence * np.uint8(WHITE), 3, 1).reshape(-1, *presence.shape[1:3])
    smaller = [np.asarray(Image.fromarray(one).resize((size, size), Image.Resampling.BILINEAR)) for one in pictures]
    steps, channels = presence.shape[0], presence.shape[3]
    return np.moveaxis(np.stack(smaller).reshape(steps, channels, size, size), 1, 3)
