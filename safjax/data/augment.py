"""Events changed at random, for training: moved, cropped, dropped, warped in time, mirrored.

Each takes events and a generator of random numbers, and returns events by time. They leave the arrays that they are
given as they are.
"""

from collections.abc import Sequence

import numpy as np

from safjax.data.events import Events, Sensor


def shift(found: Events, sensor: Sensor, most: int, rng: np.random.Generator) -> Events:
    """Moved by up to `most` pixels along each axis; what leaves the sensor is gone."""
    right, down = rng.integers(-most, most + 1, 2).astype(np.int32)
    return _inside(found._replace(x=found.x + right, y=found.y + down), sensor)


def crop(found: Events, sensor: Sensor, size: Sensor, rng: np.random.Generator) -> Events:
    """A part of the sensor of that (height, width) anywhere on it; coordinates count from its corner.

    Raises:
      ValueError: the part is larger than the sensor.
    """
    if size[0] > sensor[0] or size[1] > sensor[1]:
        raise ValueError(f"crop(size={size}): expected a part of the sensor, at most {sensor}.")
    up, left = (int(rng.integers(0, whole - part + 1)) for whole, part in zip(sensor, size, strict=True))
    return _inside(found._replace(x=found.x - np.int32(left), y=found.y - np.int32(up)), size)


def drop(found: Events, share: float, rng: np.random.Generator) -> Events:
    """Without each event with that probability.

    Raises:
      ValueError: the share lies outside 0 to 1.
    """
    _check_share("drop", share)
    return found.where(rng.random(found.t.size) >= share)


def drop_area(found: Events, sensor: Sensor, share: float, rng: np.random.Generator) -> Events:
    """Without the events in a rectangle of that share of each side, anywhere on the sensor.

    Raises:
      ValueError: the share lies outside 0 to 1.
    """
    _check_share("drop_area", share)
    height, width = (round(share * side) for side in sensor)
    up, left = int(rng.integers(0, sensor[0] - height + 1)), int(rng.integers(0, sensor[1] - width + 1))
    rows, columns = (found.y >= up) & (found.y < up + height), (found.x >= left) & (found.x < left + width)
    return found.where(~(rows & columns))


def drop_time(found: Events, share: float, rng: np.random.Generator) -> Events:
    """Without the events of that share of the recording's time, in one piece.

    Raises:
      ValueError: the share lies outside 0 to 1.
    """
    _check_share("drop_time", share)
    if not found.t.size:
        return found
    first, last = int(found.t[0]), int(found.t[-1])
    length = round(share * (last - first + 1))
    begin = first + int(rng.integers(0, last - first + 2 - length))
    return found.where((found.t < begin) | (found.t >= begin + length))


def warp_time(found: Events, most: float, rng: np.random.Generator) -> Events:
    """Faster or slower by a factor from 1 / (1 + most) to 1 + most, evenly in its logarithm; the first event stays.

    Raises:
      ValueError: `most` is negative.
    """
    if most < 0:
        raise ValueError(f"warp_time(most={most}): expected 0 or more, 0.2 for a fifth slower or as much faster.")
    factor = (1 + most) ** rng.uniform(-1, 1)
    begin = found.t[:1]
    return found._replace(t=begin + np.rint((found.t - begin) * factor).astype(np.int64)) if found.t.size else found


def jitter_time(found: Events, deviation: float, rng: np.random.Generator) -> Events:
    """Each event moved in time by a normal number of that standard deviation, µs; not before the first was.

    Raises:
      ValueError: the deviation is negative.
    """
    if deviation < 0:
        raise ValueError(f"jitter_time(deviation={deviation}): expected 0 µs or more.")
    if not found.t.size:
        return found
    t = np.maximum(found.t + np.rint(deviation * rng.standard_normal(found.t.size)).astype(np.int64), found.t[0])
    order = np.argsort(t, kind="stable")
    return found._replace(t=t).where(order)


def mirror(found: Events, sensor: Sensor, label: int, mirrored: Sequence[int] | None) -> tuple[Events, int]:
    """Left and right exchanged, and the label that the mirror image has.

    Args:
      found: the events.
      sensor: (height, width).
      label: their class.
      mirrored: the class of a mirror image by the class of the image, `Samples.mirrored`: for DVS128 Gesture left hand
        is right hand and clockwise is counter-clockwise.

    Raises:
      ValueError: mirroring leaves the classes, as that of a digit or a letter does.
    """
    if mirrored is None:
        raise ValueError(
            "mirror: the mirror image of a sample belongs to none of the classes; leave the mirroring out."
        )
    return found._replace(x=np.int32(sensor[1] - 1) - found.x), int(mirrored[label])


def _inside(found: Events, sensor: Sensor) -> Events:
    return found.where((found.x >= 0) & (found.x < sensor[1]) & (found.y >= 0) & (found.y < sensor[0]))


def _check_share(what: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"{what}(share={share}): expected 0 to 1.")
