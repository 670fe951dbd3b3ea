"""Recordings of events that were counted in as many bins each: labelled frames, or counts of channels."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.config import ConfigError, Data
from experiments.data.counts import accuracy_of_sums
from experiments.data.events.chains import Chains, chains
from experiments.data.events.heard import sound
from experiments.data.examples import Examples, Made, Parts, Shape, Shown, refuse_unused
from experiments.data.images.augment import Transform, compose, random_crop, unchanged
from experiments.data.images.images import check_labels, shown_steps
from safjax.data import Split

PICTURES, MOST_FITTED, MOST_SUMS = 4, 10_000, 2500
"""Examples in a picture; that logistic regression is fitted to; numbers of an example that it is given."""
SURVEY = 1 << 24
"""Counts that are looked at for their mean."""

MADE = {"train": 0, "test": 1, "valid": 2}
"""Seeds of the chains of each split."""


@dataclasses.dataclass(frozen=True, eq=False)
class Binned:
    """Labelled recordings of T bins each.

    Attributes:
      name: the name given to `load`.
      train, test: counts uint8 or uint16 [N, T, H, W, 2] of pixels or [N, T, units], and labels int32 [N]. They may be
        memory-mapped: they stay on the host, and of each batch only the recordings in it are read.
      classes: names of the labels.
      about: what is to be known of them, in lines.
      paired: whether the units are OFF and ON of each channel in turn.
      valid: the recordings published to choose by; None where there are none.
      groups: whole numbers [N] of the training recordings, as of `Examples`; chains have groups of their own.

    Raises:
      ValueError: a label is none, or the parts have other bins or units.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    about: tuple[str, ...] = ()
    paired: bool = False
    valid: Split | None = None
    groups: np.ndarray | None = None

    def __post_init__(self):
        for split in ("train", "test", *(["valid"] if self.valid else [])):
            frames, labels, _ = getattr(self, split)
            check_labels(f"{self.name}: labels of {split}", labels, len(frames), len(self.classes))
        train, test = self.train.frames.shape[1:], self.test.frames.shape[1:]
        valid = self.valid.frames.shape[1:] if self.valid else train
        if train != test or train != valid or len(train) not in (2, 4):
            raise ValueError(
                f"{self.name}: training recordings are {train}, test recordings {test} and those to choose by {valid}, "
                "expected [T, H, W, 2] or [T, units] of all."
            )

    def parts(self, data: Data) -> Parts:
        """As of `DataSet`. Counts are cast on the device; those of pixels are divided by their root mean square."""
        transform = self._transform(data)
        try:
            train, test = (self._chained(split, data.chain) for split in ("train", "test"))
        except ValueError as error:
            raise ConfigError(f"--chain={data.chain} is not possible with {self.name}: {error}") from error
        some = _some(self.train.frames)
        pixels = some.ndim == 5
        scale = 1 / max(float(np.sqrt(np.mean(some**2))), 1e-6) if pixels else 1.0
        rate = None if pixels else float(np.clip(some.mean(), 1e-6, 1))
        shape = Shape(self.train.frames.shape[2:], len(train.classes), rate)
        made = functools.partial(_examples, scale=scale)
        plain = made(self.train, train)._replace(groups=self.groups if data.chain == 1 else train.groups)
        augmented = plain if transform is None else plain._replace(make=_maker(scale, transform))
        baseline = functools.partial(_baseline, (self.train.frames, train), (self.test.frames, test))
        about = (*self.about, f"{len(train.classes)} classes: {', '.join(train.classes)}")
        valid = made(self.valid, self._chained("valid", data.chain)) if self.valid else None
        return Parts(augmented, made(self.test, test), plain, shape, None, baseline, about, self._shown(test), valid)

    def _chained(self, split: str, length: int) -> Chains:
        return chains(getattr(self, split).labels, self.classes, length, MADE[split])

    def _transform(self, data: Data) -> Transform | None:
        if data.image_size is not None:
            raise ConfigError(f"--image-size={data.image_size} crops images; of {self.name} give --pool instead.")
        pixels = self.train.frames.ndim == 5
        match data.augmentation:
            case "none":
                return None
            case "crop" if pixels:
                return functools.partial(_alike, compose(random_crop(max(1, self.train.frames.shape[2] // 12))))
            case "sound" if self.paired and not pixels:
                return sound()
        possible = "crop or none" if pixels else "sound or none" if self.paired else "none"
        raise ConfigError(f"--augmentation={data.augmentation} is not for the events of {self.name}. Give {possible}.")

    def _shown(self, chained: Chains) -> tuple[Shown, ...]:
        # The first of each of some classes.
        _, firsts = np.unique(chained.labels, return_index=True)
        chosen = firsts[np.linspace(0, len(firsts) - 1, min(PICTURES, len(firsts))).astype(int)]
        return tuple(
            Shown(chained.classes[chained.labels[i]], _joined(self.test.frames, chained.members[i]), self.paired)
            for i in chosen
        )


@dataclasses.dataclass(frozen=True)
class Events:
    """A data set whose bins depend on the flags.

    Attributes:
      name: the name given to `load`.
      used: flags, of those that not all data sets have a use for.
      make: (flags, T of a recording) ↦ the recordings.
    """

    name: str
    used: tuple[str, ...]
    make: Callable[[Data, int], Binned]

    def parts(self, data: Data) -> Parts:
        """As of `DataSet`."""
        refuse_unused(data, self.name, *self.used)
        steps = shown_steps(data.steps, self.name)
        if steps % data.chain:
            raise ConfigError(
                f"--steps={steps} cannot be divided among the recordings of --chain={data.chain}. Give a multiple."
            )
        return self.make(data, steps // data.chain).parts(data)


def _joined(frames: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Counts [K · T, ...] of recordings one after the other."""
    return np.concatenate([frames[member] for member in members])


def _examples(split: Split, chained: Chains, scale: float) -> Examples:
    frames, members, labels = split.frames, chained.members, chained.labels

    def read(index: int, steps: int | None, seed: tuple[int, ...]) -> tuple[np.ndarray, np.int32]:
        return _joined(frames, members[index]), labels[index]

    return Examples(len(labels), _maker(scale), read=read)


def _maker(scale: float, transform: Transform = unchanged) -> Callable[..., Made]:
    def make(key: jax.Array, held: Any, rows: tuple[jax.Array, jax.Array]) -> Made:
        counts, labels = rows
        return Made(jnp.moveaxis(transform(key, counts), 0, 1).astype(float) * scale, labels)

    return make


def _alike(transform: Transform, key: jax.Array, counts: jax.Array) -> jax.Array:
    """All steps [B, T, H, W, C] of an example changed in the same way, as if they were channels of one image."""
    batch, steps, height, width, channels = counts.shape
    image = jnp.moveaxis(counts, 1, 3).reshape(batch, height, width, steps * channels)
    changed = transform(key, image).reshape(batch, height, width, steps, channels)
    return jnp.moveaxis(changed, 3, 1)


def _baseline(train: tuple[np.ndarray, Chains], test: tuple[np.ndarray, Chains]) -> float:
    frames, chained = train
    kept = _spread(len(chained.labels), MOST_FITTED)
    fitted = _sums(frames, chained.members[kept])
    return accuracy_of_sums(fitted, chained.labels[kept], _sums(test[0], test[1].members), test[1].labels)


def _some(frames: np.ndarray) -> np.ndarray:
    """Some recordings, spread over all."""
    return frames[_spread(len(frames), max(1, SURVEY // frames[0].size))].astype(np.float64)


def _spread(count: int, most: int) -> np.ndarray:
    """At most so many of 0 .. count - 1, evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def _sums(frames: np.ndarray, members: np.ndarray) -> np.ndarray:
    """All events of each example [N, numbers], of large sensors in squares of pixels."""
    of_recording = {i: _few(frames[i].sum(0, dtype=np.float64)) for i in np.unique(members).tolist()}
    return np.stack([sum(of_recording[i] for i in own) for own in members.tolist()])


def _few(counts: np.ndarray) -> np.ndarray:
    """Counts [H, W, C] or [units] flattened, with 2 × 2 neighbours added until they are few enough."""
    while counts.ndim == 3 and counts.size > MOST_SUMS:
        counts = np.pad(counts, ((0, counts.shape[0] % 2), (0, counts.shape[1] % 2), (0, 0)))
        counts = counts[::2, ::2] + counts[1::2, ::2] + counts[::2, 1::2] + counts[1::2, 1::2]
    return counts.ravel()
