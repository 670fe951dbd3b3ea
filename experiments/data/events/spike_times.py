"""Data in which every unit fires once: labelled spike times."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.config import ConfigError, Data
from experiments.data.examples import Examples, Made, Parts, Shape, refuse_unused
from experiments.data.images.images import check_labels, shown_steps

TICKS = 2**16
"""Spike times are stored in this many equal parts of the presentation, however many steps it is shown for."""


@dataclass(frozen=True, eq=False)
class SpikeTimes:
    """Labelled examples of one spike a unit, for classification.

    Attributes:
      name: the name given to `load`.
      train_times: uint16 [N, units], the time of each spike; 2^16 is the end of the presentation.
      train_labels: int32 [N], in 0 .. num_classes - 1.
      test_times: uint16 [M, units].
      test_labels: int32 [M].
      num_classes: number of classes.

    Raises:
      ValueError: a split is empty, or a shape, a dtype or a label is not as above.
    """

    name: str
    train_times: np.ndarray
    train_labels: np.ndarray
    test_times: np.ndarray
    test_labels: np.ndarray
    num_classes: int

    def __post_init__(self):
        for split in ("train", "test"):
            times, labels = getattr(self, f"{split}_times"), getattr(self, f"{split}_labels")
            _check_times(f"{self.name}: {split}_times", times)
            check_labels(f"{self.name}: {split}_labels", labels, len(times), self.num_classes)
        train_units, test_units = self.train_times.shape[1], self.test_times.shape[1]
        if train_units != test_units:
            raise ValueError(
                f"{self.name}: training examples have {train_units} units and test examples {test_units}; "
                "one network sees both, so record the same units."
            )

    @property
    def train(self) -> tuple[np.ndarray, np.ndarray]:
        """Training times and labels."""
        return self.train_times, self.train_labels

    @property
    def test(self) -> tuple[np.ndarray, np.ndarray]:
        """Test times and labels."""
        return self.test_times, self.test_labels

    def parts(self, data: Data) -> Parts:
        """As of `DataSet`. The times lie on the devices as uint16; spikes are made of them there."""
        refuse_unused(data, self.name)
        if data.image_size is not None:
            raise ConfigError(
                f"--image-size={data.image_size} crops image files, such as imagenet's, but {self.name} holds spike "
                "times. Give --image-size=None."
            )
        if data.augmentation != "none":
            raise ConfigError(
                f"--augmentation={data.augmentation} changes images, but {self.name} holds spike times. Give "
                "--augmentation=none."
            )
        steps = shown_steps(data.steps, self.name)
        if steps > TICKS:
            raise ConfigError(
                f"--steps={steps} is too many: the spike times of {self.name} are stored in {TICKS} parts, and a step "
                f"has one at least. Give {TICKS} or fewer."
            )
        train, test = _gathered(self.train, steps), _gathered(self.test, steps)
        return Parts(train, test, train, Shape(self.train_times.shape[1:], self.num_classes, 1 / steps), None)


def spike_trains(times: jax.Array, steps: int) -> jax.Array:
    """s[t, b, i] = 1[⌊T · time[b, i] / 2^16⌋ = t]: one spike for each unit, in one of T steps of equal length.

    Args:
      times: uint16 [B, units].
      steps: T, at most 2^16.

    Returns:
      float32 [T, B, units], time-major; float64 where 64-bit numbers are enabled.

    Raises:
      ValueError: more steps than parts in which times are stored.
    """
    if steps > TICKS:
        raise ValueError(
            f"spike_trains(steps={steps}): expected {TICKS} or fewer, the parts of the presentation in which spike "
            "times are stored; some of more steps could hold no spike."
        )
    step = times.astype(jnp.uint32) * steps // TICKS
    return (step == jnp.arange(steps, dtype=jnp.uint32)[:, None, None]).astype(float)


def _gathered(data: tuple[np.ndarray, np.ndarray], steps: int) -> Examples:
    def make(key: jax.Array, held: Any, indices: jax.Array) -> Made:
        times, labels = held
        return Made(spike_trains(times[indices], steps), labels[indices])

    return Examples(len(data[1]), make, held=data)


def _check_times(what: str, times: np.ndarray) -> None:
    if times.ndim != 2:
        raise ValueError(f"{what} has shape {times.shape}, expected [N, units]: one time for each unit.")
    if times.size == 0:
        raise ValueError(f"{what} has shape {times.shape}: it is empty. Load at least one example of one unit.")
    if times.dtype != np.uint16:
        raise ValueError(
            f"{what} has dtype {times.dtype}, expected uint16; of a time x in [0, 1], write "
            f"np.minimum(x * {TICKS}, {TICKS - 1}).astype(np.uint16)."
        )
