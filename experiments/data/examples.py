"""What every data set comes down to: how many examples there are, and how a batch of them is made.

A batch is made in two halves. `read` runs on the host, in several threads, and gives of one example what the device is
to be handed: the pixels of a file that it has decoded, the steps of a recording that it has cut out. A data set that
lies on the device has no `read`, and the device is handed the examples' numbers. `make` runs on the device, compiled,
and gives the batch: there images are gathered, augmented and normalised, and spike times become spikes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from experiments.config import ConfigError, Data


class Made(NamedTuple):
    """A batch as `Examples.make` gives it.

    Attributes:
      inputs: images [B, H, W, C], or sequences [T, B, ...]; float32, float64 where 64-bit numbers are enabled.
      labels: int32 [B].
      lengths: int32 [B], how many of the T steps each sequence has; None where all have all, and of images.
    """

    inputs: jax.Array
    labels: jax.Array
    lengths: jax.Array | None = None


class Examples(NamedTuple):
    """The training or the test examples of a data set.

    Attributes:
      size: how many there are.
      make: (key, held, rows) ↦ `Made`, of the rows of all examples of a batch, stacked. It holds no array itself.
      held: arrays, any pytree, that are kept on every device.
      read: (index, steps, seed) ↦ what is handed to the device for an example, any pytree of arrays. `steps` is to how
        many it is filled up, None without lengths; whatever is drawn depends on `seed` alone. None hands on the index.
      lengths: how many steps each example has, whole numbers [N]; None where all have as many.
      groups: whole numbers [N]: examples of one are made of the same recording or of what says the same, so that they
        are held out together; None where each is for itself.
    """

    size: int
    make: Callable[[jax.Array, Any, Any], Made]
    held: Any = ()
    read: Callable[[int, int | None, tuple[int, ...]], Any] | None = None
    lengths: np.ndarray | None = None
    groups: np.ndarray | None = None


class Shape(NamedTuple):
    """What a net for a data set takes and gives.

    Attributes:
      input_shape: of what it takes in one step, without the axis of the batch.
      num_classes: what it tells apart.
      input_rate: the mean of the inputs of sequences, of spikes their number an input and step; of images None.
    """

    input_shape: tuple[int, ...]
    num_classes: int
    input_rate: float | None = None


class Shown(NamedTuple):
    """An example to look at.

    Attributes:
      title: such as the name of its class.
      counts: events [T, H, W, 2] of pixels, the last axis (OFF, ON), or [T, units].
      paired: whether the units are OFF and ON of each channel in turn.
    """

    title: str
    counts: np.ndarray
    paired: bool = False


class Parts(NamedTuple):
    """A data set, made ready for a run.

    Attributes:
      train, test: the two parts; the first with its augmentation.
      plain: the training examples without augmentation, as those of the test are shown: to choose by those held out.
      shape: of the net.
      steps: for how many steps an image is shown; None where inputs are sequences.
      baseline: a test accuracy to compare with, which takes some time to compute; None without any.
      about: what is to be known of the data, in lines.
      shown: a few examples, for a picture.
      validation: examples published to choose by; None where there are none.
    """

    train: Examples
    test: Examples
    plain: Examples
    shape: Shape
    steps: int | None
    baseline: Callable[[], float] | None = None
    about: tuple[str, ...] = ()
    shown: tuple[Shown, ...] = ()
    validation: Examples | None = None


OF_SOME = {
    "leave_out": "names a speaker of spoken_digits, but {} has none",
    "bins": "divides recordings of events, but {} has none that could be",
    "pool": "adds up pixels or channels of recordings, but those of {} are as they are",
    "chain": "joins recordings of events, but {} has none that could be",
}
"""Flags of data that only some data sets have a use for: why the others have none."""


def refuse_unused(data: Data, name: str, *used: str) -> None:
    """Raises ConfigError if a flag is given that says nothing of this data set.

    Args:
      data: the flags.
      name: of the data set.
      used: those of `OF_SOME` that it has a use for.
    """
    for flag in OF_SOME.keys() - set(used):
        given = getattr(data, flag)
        if given != getattr(Data(), flag):
            why = OF_SOME[flag].format(name)
            raise ConfigError(f"--{flag.replace('_', '-')}={given!r} {why}. Do not give it.")


class DataSet(Protocol):
    """What a loader returns."""

    @property
    def name(self) -> str:
        """As given to `load`."""
        ...

    def parts(self, data: Data) -> Parts:
        """The two parts, as a configuration asks for them.

        Args:
          data: all fields but batch size and the share held out.

        Raises:
          ConfigError: these examples cannot be augmented, cropped or divided into steps so.
        """
