"""What a net for a data set takes and gives; of published sets, without their files."""

import math
from collections.abc import Callable

from experiments.config import ConfigError, Data
from experiments.data import Shape
from experiments.data.examples import refuse_unused
from experiments.data.images.images import shown_steps
from experiments.training.feed import load_dataset


def _image(side: int, channels: int, classes: int) -> Callable[[Data], Shape]:
    def shape(data: Data) -> Shape:
        refuse_unused(data, data.dataset)
        return Shape((side, side, channels), classes)

    return shape


def _events(side: int, pool: int, classes: int) -> Callable[[Data], Shape]:
    def shape(data: Data) -> Shape:
        pooled = -(-side // (data.pool or pool))
        return Shape((pooled, pooled, 2), _chained(data, classes))

    return shape


def _spikes(channels: int, pool: int, classes: int) -> Callable[[Data], Shape]:
    return lambda data: Shape((-(-channels // (data.pool or pool)),), _chained(data, classes))


def _chained(data: Data, classes: int) -> int:
    """Of a chain of recordings of different classes, their order is told."""
    return classes if data.chain == 1 else math.factorial(data.chain)


def _imagenet(data: Data) -> Shape:
    side = data.image_size or 224
    return Shape((side, side, 3), 1000)


IMAGES = {
    "cifar10": _image(32, 3, 10),
    "cifar100": _image(32, 3, 100),
    "fashion_mnist": _image(28, 1, 10),
    "imagenet": _imagenet,
}
EVENTS = {
    "nmnist": _events(34, 1, 10),
    "dvs_gesture": _events(128, 1, 11),
    "cifar10_dvs": _events(128, 2, 10),
    "shd": _spikes(700, 5, 20),
    "ssc": _spikes(700, 5, 35),
}


def shape_of(data: Data, data_dir: str) -> tuple[Shape, int | None]:
    """(what the net takes and gives, for how many steps an image is shown; None where inputs are sequences).

    Raises:
      ConfigError: sequences have lengths of their own; or the flags do not suit the data set.
      DataUnavailable: it is one that must be looked at, and is not there.
    """
    if data.steps is None:
        raise ConfigError("--steps=None leaves open how long sequences are. Give the length of the longest batch.")
    if data.dataset in IMAGES:
        return IMAGES[data.dataset](data), shown_steps(data.steps, data.dataset)
    if data.dataset in EVENTS:
        return EVENTS[data.dataset](data), None
    parts = load_dataset(data.dataset, data_dir).parts(data)
    return parts.shape, parts.steps
