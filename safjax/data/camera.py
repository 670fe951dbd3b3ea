"""A simulated event camera that looks at still images along N-MNIST's three saccades.

The image moves over the sensor along a triangle. Each pixel sees L = log(I + ε) and compares it with what it remembers:
at |L − memory| ≥ θ it sends an event and moves its memory by θ towards L (P. Lichtsteiner et al., IEEE JSSC 2008). θ
differs a little from pixel to pixel and between the polarities, and pixels send events of noise. Saccades begin and end
slowly, as those of the published recordings do (G. Orchard et al., Frontiers in Neuroscience 2015).
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from safjax.data.events import Events, Sensor

TRIANGLE = np.array([(0.0, 0.0), (0.5, 1.0), (1.0, 0.0), (0.0, 0.0)])
"""Corners (x, y) of the path, in units of its reach: 7 pixels for N-MNIST's images of 28 × 28."""

TOGETHER = 64
"""Images that are looked at side by side."""


@dataclasses.dataclass(frozen=True)
class Camera:
    """The camera and its movement.

    Attributes:
      sensor: (height, width) in pixels.
      reach: width and height of the triangle, pixels.
      threshold: θ, a change of the logarithm; smaller ones send more events.
      offset: ε, brightness that black has; it matters as much as θ where images are black and white.
      mismatch: standard deviation of θ between pixels, as a part of it.
      noise: events of noise that a pixel sends in a second.
      saccade: µs of each of the three.
      steps: parts of a saccade in which brightness is taken to change evenly.
      eased: False for saccades of constant speed.
      seed: of the mismatch: the same camera has the same.

    Raises:
      ValueError: a size or a number is not possible.
    """

    sensor: Sensor = (36, 36)
    reach: float = 7.0
    threshold: float = 0.2
    offset: float = 0.1
    mismatch: float = 0.03
    noise: float = 1.0
    saccade: int = 105_000
    steps: int = 20
    eased: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.sensor) < 1 or min(self.threshold, self.offset, self.saccade, self.steps) <= 0:
            raise ValueError(f"{self}: expected sensor, threshold, offset, saccade and steps above 0.")
        if min(self.reach, self.mismatch, self.noise) < 0 or self.mismatch > 0.2:
            raise ValueError(f"{self}: expected reach and noise of at least 0, and a mismatch from 0 to 0.2.")

    def path(self) -> np.ndarray:
        """float64 [3 · steps + 1, 2]: where the image's corner is at the end of each part, (x, y) in pixels from the
        first."""
        progress = np.arange(self.steps) / self.steps
        if self.eased:
            progress = 3 * progress**2 - 2 * progress**3
        parts = [a + (b - a) * progress[:, None] for a, b in itertools.pairwise(TRIANGLE)]
        return np.concatenate([*parts, TRIANGLE[-1:]]) * self.reach

    def record(self, images: np.ndarray, seeds: Sequence[int]) -> Iterator[Events]:
        """What the camera sends of each image, by time, in 3 · saccade µs.

        Args:
          images: [N, h, w], 0 (black) to 1 (white); uint8 is taken from 0 to 255.
          seeds: of each image's noise and of the state that the camera is in; so no image depends on the others.

        Raises:
          ValueError: the images do not fit into the sensor along the path, or have other numbers than 0 to 1.
        """
        images = np.asarray(images)
        images = images / 255 if images.dtype == np.uint8 else images.astype(np.float64)
        if images.ndim != 3 or len(images) != len(seeds):
            raise ValueError(f"images of shape {images.shape} and {len(seeds)} seeds, expected [N, h, w] and N seeds.")
        margin = self._margin(images.shape[1:])
        if images.size and not (images.min() >= 0 and images.max() <= 1):
            raise ValueError(f"images from {images.min()} to {images.max()}, expected 0 (black) to 1 (white).")
        for first in range(0, len(images), TOGETHER):
            rngs = [np.random.default_rng(seed) for seed in seeds[first : first + TOGETHER]]
            yield from self._together(images[first : first + TOGETHER], rngs, margin)

    def _margin(self, size: tuple[int, ...]) -> np.ndarray:
        """Where the image's corner begins, (x, y): the whole path is in the middle of the sensor."""
        free = np.array(self.sensor[::-1]) - size[::-1] - self.reach
        if free.min() < 0:
            raise ValueError(
                f"images of {size[0]} × {size[1]} pixels that move by {self.reach} in a sensor of {self.sensor[0]} × "
                f"{self.sensor[1]}: expected a sensor that the whole way fits into."
            )
        return free / 2

    def _thresholds(self) -> np.ndarray:
        """float64 [2, H, W]: θ of OFF and ON events of each pixel."""
        spread = np.random.default_rng(self.seed).standard_normal((2, *self.sensor))
        return self.threshold * (1 + self.mismatch * np.clip(spread, -4, 4))

    def _together(self, images: np.ndarray, rngs: list[np.random.Generator], margin: np.ndarray) -> Iterator[Events]:
        off, on = self._thresholds()
        path = self.path() + margin
        seen = self._seen(images, path[0])
        phases = np.stack([rng.uniform(-0.5, 0.5, self.sensor) for rng in rngs])
        memory, found = seen + self.threshold * phases, []
        for step, place in enumerate(path[1:]):
            before, seen = seen, self._seen(images, place)
            change = seen - memory
            number = np.where(change > 0, np.floor(change / on), -np.floor(-change / off)).astype(np.int64)
            at = np.nonzero(number)
            moved = np.where(number > 0, on, off)
            found.append(self._run(at, number[at], moved[at], memory[at], before[at], seen[at], step))
            memory += number * moved
        image, t, y, x, p = (np.concatenate(parts) for parts in zip(*found, strict=True))
        for i, rng in enumerate(rngs):
            mine = image == i
            noise = self._noise(rng)
            parts = [np.concatenate(pair) for pair in zip((t[mine], x[mine], y[mine], p[mine]), noise, strict=True)]
            order = np.argsort(parts[0], kind="stable")
            kinds = (np.int64, np.int32, np.int32, np.uint8)
            yield Events(*(part[order].astype(kind) for part, kind in zip(parts, kinds, strict=True)))

    def _seen(self, images: np.ndarray, place: np.ndarray) -> np.ndarray:
        """log(I + ε) on the sensor with the images' corner at (x, y), by bilinear weights."""
        _, height, width = images.shape
        light = np.zeros((len(images), *self.sensor))
        (x, y), (right, down) = np.floor(place).astype(int), place % 1
        for j, weight in ((0, 1 - down), (1, down)):
            for i, share in ((0, 1 - right), (1, right)):
                if weight * share:
                    light[:, y + j : y + j + height, x + i : x + i + width] += weight * share * images
        return np.log(light + self.offset)

    def _run(
        self,
        at: tuple[np.ndarray, ...],
        number: np.ndarray,
        theta: np.ndarray,
        memory: np.ndarray,
        before: np.ndarray,
        after: np.ndarray,
        step: int,
    ) -> tuple[np.ndarray, ...]:
        """(image, t, y, x, p) of the events of one step: event j is sent when brightness has passed j · θ."""
        times = np.abs(number)
        run = np.repeat(np.arange(times.size), times)
        j = np.arange(run.size) - np.repeat(np.cumsum(times) - times, times) + 1
        passed = memory[run] + np.sign(number)[run] * j * theta[run]
        share = (passed - before[run]) / (after - before)[run]
        t = (step + np.clip(share, 0, 1)) * (self.saccade / self.steps)
        t = np.minimum(t.astype(np.int64), 3 * self.saccade - 1)
        image, y, x = (index[run] for index in at)
        return image, t, y, x, (number > 0)[run]

    def _noise(self, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """(t, x, y, p) of events that come at random."""
        height, width = self.sensor
        duration = 3 * self.saccade
        number = rng.poisson(self.noise * height * width * duration / 1e6)
        ranges = (duration, width, height, 2)
        return tuple(rng.integers(0, high, number) for high in ranges)


def enlarged(images: np.ndarray, factor: int) -> np.ndarray:
    """Images [N, h, w] as [N, h · factor, w · factor], by bilinear weights; pixels at the edge go on beyond it."""
    rows, columns = (_weights(size, factor) for size in images.shape[1:])
    return rows @ images @ columns.T


def _weights(size: int, factor: int) -> np.ndarray:
    """[size · factor, size]: how much each pixel of a line counts for each of a longer one."""
    centre = np.clip((np.arange(size * factor) + 0.5) / factor - 0.5, 0, size - 1)
    return np.maximum(0, 1 - np.abs(centre[:, None] - np.arange(size)))
