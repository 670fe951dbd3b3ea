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
    """

    size: int
    make: Callable[[jax.Array, Any, Any], Made]
    held: Any = ()
    read: Callable[[int, int | None, tuple[int, ...]], Any] | None = None
    lengths: np.ndarray | None = None


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


class Parts(NamedTuple):
    """A data set, made ready for a run.

    Attributes:
      train, test: the two parts; the first with its augmentation.
      plain: the training examples without augmentation, as those of the test are shown: to choose by those held out.
      shape: of the net.
      steps: for how many steps an image is shown; None where inputs are sequences.
      baseline: a test accuracy to compare with, which takes some time to compute; None without any.
    """

    train: Examples
    test: Examples
    plain: Examples
    shape: Shape
    steps: int | None
    baseline: Callable[[], float] | None = None


def refuse_leave_out(data: Data, name: str) -> None:
    """Raises ConfigError if a speaker is to be left out of a data set that has none."""
    if data.leave_out is not None:
        raise ConfigError(
            f"--leave-out={data.leave_out!r} names a speaker of spoken_digits, but {name} has none. Do not give it."
        )


class DataSet(Protocol):
    """What a loader returns."""

    @property
    def name(self) -> str:
        """As given to `load`."""
        ...

    def parts(self, data: Data) -> Parts:
        """The two parts, as a configuration asks for them.

        Args:
          data: augmentation, image size, steps and the speaker left out are used.

        Raises:
          ConfigError: these examples cannot be augmented, cropped or divided into steps so.
        """
