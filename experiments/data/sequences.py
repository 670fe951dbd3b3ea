"""Recordings that differ in length: labelled sequences, each with as many steps as it has."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.config import ConfigError, Data
from experiments.data.events.heard import sound
from experiments.data.examples import Examples, Made, Parts, Shape, refuse_unused
from experiments.data.images.augment import Transform, unchanged
from experiments.data.images.images import check_labels


@dataclasses.dataclass(frozen=True, eq=False)
class Recordings:
    """Some sequences one after the other, in one array.

    It may be memory-mapped: it stays on the host, and of each batch only the recordings in it are read.

    Attributes:
      values: whole or real numbers [Σ lengths, ...units]: of every step what each unit is given, such as how many
        events there were.
      lengths: whole numbers [N], 1 or more: how many steps each recording has.
      labels: int32 [N].

    Raises:
      ValueError: a shape or a dtype is not as above, or there is no recording.
    """

    values: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray

    def __post_init__(self):
        if self.lengths.ndim != 1 or not len(self.lengths) or not np.issubdtype(self.lengths.dtype, np.integer):
            raise ValueError(
                f"lengths are {self.lengths.dtype}{list(self.lengths.shape)}, expected one whole number for each "
                "recording, and one recording or more."
            )
        if self.lengths.min() < 1:
            raise ValueError(
                f"recording {int(self.lengths.argmin())} has no step. Leave it out, or give it one of zeros."
            )
        if self.values.ndim < 2 or len(self.values) != self.lengths.sum():
            raise ValueError(
                f"values have shape {self.values.shape}, expected [{self.lengths.sum()}, ...units]: the steps of all "
                f"{len(self.lengths)} recordings one after the other."
            )
        if not (np.issubdtype(self.values.dtype, np.integer) or np.issubdtype(self.values.dtype, np.floating)):
            raise ValueError(f"values have dtype {self.values.dtype}, expected whole or real numbers, such as uint8.")


@dataclasses.dataclass(frozen=True, eq=False)
class Sequences:
    """Labelled recordings for classification.

    Attributes:
      name: the name given to `load`.
      train, test: the recordings.
      num_classes: number of classes.
      paired: whether they are of sound, with units that are OFF and ON of each band in turn.

    Raises:
      ValueError: a label is none, or the two parts have other units.
    """

    name: str
    train: Recordings
    test: Recordings
    num_classes: int
    paired: bool = False

    def __post_init__(self):
        for split in ("train", "test"):
            recordings = getattr(self, split)
            check_labels(
                f"{self.name}: labels of {split}", recordings.labels, len(recordings.lengths), self.num_classes
            )
        train, test = self.train.values.shape[1:], self.test.values.shape[1:]
        if train != test:
            raise ValueError(
                f"{self.name}: training recordings have units {train} and test recordings {test}; one network hears "
                "both, so record the same units."
            )

    def parts(self, data: Data) -> Parts:
        """As of `DataSet`. A batch is read on the host, filled up with zeros, and cast on the device."""
        refuse_unused(data, self.name)
        if data.augmentation not in ("none", *self._augmentations()):
            possible = " or ".join(f"--augmentation={name}" for name in (*self._augmentations(), "none"))
            raise ConfigError(
                f"--augmentation={data.augmentation} is not for the sequences of {self.name}. Give {possible}."
            )
        if data.image_size is not None:
            raise ConfigError(f"--image-size={data.image_size} crops images, but {self.name} has none. Leave it out.")
        if data.steps is not None:
            raise ConfigError(
                f"--steps={data.steps} is for images and spike times, but each recording of {self.name} has as many "
                "steps as it has. Give --steps=None."
            )
        rate = float(np.mean(self.train.values, dtype=np.float64))
        shape = Shape(self.train.values.shape[1:], self.num_classes, rate)
        plain = _examples(self.train)
        train = plain if data.augmentation == "none" else plain._replace(make=_maker(sound()))
        return Parts(train, _examples(self.test), plain, shape, None)

    def _augmentations(self) -> tuple[str, ...]:
        return ("sound",) if self.paired else ()


def _examples(recordings: Recordings) -> Examples:
    values, labels = recordings.values, recordings.labels
    ends = np.cumsum(recordings.lengths, dtype=np.int64)
    begins = ends - recordings.lengths

    def read(index: int, steps: int | None, seed: tuple[int, ...]) -> tuple[np.ndarray, np.int32, np.int32]:
        own = values[begins[index] : ends[index]]
        whole = np.zeros((len(own) if steps is None else steps, *own.shape[1:]), own.dtype)
        whole[: len(own)] = own
        return whole, labels[index], np.int32(len(own))

    return Examples(len(labels), _batch, read=read, lengths=recordings.lengths)


def _maker(transform: Transform) -> Callable[..., Made]:
    def make(key: jax.Array, held: Any, rows: tuple[jax.Array, jax.Array, jax.Array]) -> Made:
        values, labels, lengths = rows
        return Made(jnp.moveaxis(transform(key, values), 0, 1).astype(float), labels, lengths)

    return make


_batch = _maker(unchanged)
