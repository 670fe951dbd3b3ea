"""The configuration of a run: one frozen value, one command-line flag for each of its fields."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import tyro

Method = Literal[
    "saf_f", "saf_e", "ottt_a", "ottt_o", "bptt", "exodus", "slayer", "sltt", "spike_representation", "ide"
]
DatasetName = Literal["cifar10", "cifar100", "fashion_mnist", "digits", "randman", "imagenet"]


class ConfigError(ValueError):
    """A setting that no run can have; the message says which, and what it may be."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that a run depends on. Two runs of equal configurations give equal metrics.

    Raises:
      ConfigError: a value is out of its range.
    """

    method: Method = "saf_f"
    """Learning rule."""
    dataset: DatasetName = "cifar10"
    """Data set; the recipe's own unless given."""
    augmentation: Literal["crop_flip_cutout", "crop_flip", "crop", "resized_crop_flip", "none"] = "crop_flip_cutout"
    """Random changes of the training images: crop with padding 4, flip, cutout; padding 2, flip; padding 1; for
    imagenet, a part of the image resized, flip; none."""
    image_size: int | None = None
    """Height and width to which imagenet's images are cropped; None is 224, and elsewhere the size as stored."""
    network: Literal["vgg", "resnet18", "nf_resnet34"] = "vgg"
    """Network for images: a VGG of --layers; a ResNet-18 for small images; the NF-ResNet-34 for large ones."""
    layers: tuple[int | Literal["M"], ...] = (64, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512)
    """Channels of each convolution of the vgg; M is 2x2 average pooling. For spike trains, neurons of each layer."""
    width: float = 1.0
    """Factor for the channels of all layers."""
    steps: int = 6
    """Time steps for which each image is shown, or into which spike trains are divided."""
    decay: float = 0.5
    """Fraction of the membrane kept from one time step to the next, in [0, 1]; 1 is no leak."""
    threshold: float = 1.0
    """Potential at which a neuron fires."""
    surrogate: Literal["sigmoid", "triangle", "rectangle", "arctan", "exponential", "gaussian"] = "sigmoid"
    """Shape of the pseudo-derivative of the spike."""
    readout: Literal["leaky", "instant"] = "leaky"
    """Output of a step: the weighted mean of the currents so far (leaky) or the current itself (instant)."""
    epochs: int = 300
    """Passes over the training examples."""
    batch_size: int = 128
    """Examples in a batch."""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    """Optimizer."""
    learning_rate: float = 0.1
    """Learning rate at the beginning; it falls to 0 along a cosine."""
    momentum: float = 0.9
    """Momentum of sgd, in [0, 1)."""
    weight_decay: float = 0.0
    """Weight decay of all parameters: of sgd, added to the gradient; of adamw, apart from it."""
    loss_mse: float = 0.05
    """Weight a of the squared error in the loss (1 - a) CE + a MSE, in [0, 1]."""
    seed: int = 0
    """Seed of weights, order of examples and augmentation."""
    data_dir: str = "~/tensorflow_datasets"
    """Folder of the data sets."""
    workdir: str | None = None
    """Folder for the results, new or empty; None numbers one: runs/DATASET-METHOD-SEED, -2, -3 ..."""

    def __post_init__(self):
        for name, good, expected in _ranges(self):
            if not good:
                given = getattr(self, name)
                raise ConfigError(f"--{name.replace('_', '-')}={given} is not possible: expected {expected}.")


def _ranges(config: Config) -> list[tuple[str, bool, str]]:
    """(field, whether its value is possible, what it may be) of every field that not all values of its type suit."""
    return [
        ("layers", _has_convolution(config.layers), "channels, each at least 1, and M, with one convolution or more"),
        ("width", _positive(config.width), "a number above 0"),
        ("image_size", config.image_size is None or config.image_size >= 1, "a whole number of pixels, 1 or more"),
        ("steps", config.steps >= 1, "a whole number of time steps, 1 or more"),
        ("decay", 0 <= config.decay <= 1, "a number in [0, 1]; for a time constant of N steps, 1 - 1/N"),
        ("threshold", _positive(config.threshold), "a number above 0"),
        ("epochs", config.epochs >= 1, "a whole number of epochs, 1 or more"),
        ("batch_size", config.batch_size >= 1, "a whole number of examples, 1 or more"),
        ("learning_rate", _positive(config.learning_rate), "a number above 0"),
        ("momentum", 0 <= config.momentum < 1, "a number in [0, 1)"),
        (
            "weight_decay",
            config.weight_decay == 0 or (_positive(config.weight_decay) and config.optimizer != "adam"),
            "0, or a number above 0 with sgd or adamw, which is adam with weight decay",
        ),
        ("loss_mse", 0 <= config.loss_mse <= 1, "a number in [0, 1], the weight of the squared error"),
        ("seed", 0 <= config.seed < 2**32, "a whole number in 0 .. 2^32 - 1"),
    ]


def _positive(value: float) -> bool:
    return value > 0 and math.isfinite(value)


def _has_convolution(layers: Sequence[int | str]) -> bool:
    channels = [entry for entry in layers if entry != "M"]
    return bool(channels) and all(isinstance(entry, int) and entry >= 1 for entry in channels)


def parse(default: Config, description: str, args: Sequence[str] | None = None) -> Config:
    """The configuration that a command line asks for.

    Args:
      default: an experiment's own; a flag replaces one field of it.
      description: what `--help` says above the flags.
      args: the command line; None takes the program's.

    Raises:
      SystemExit: 0 after `--help`; 2 after a message on stderr when a flag or its value is not possible.
    """
    prog = f"python -m experiments.{default.dataset}"
    return tyro.cli(Config, prog=prog, description=description, default=default, args=args)


def to_json(config: Config) -> dict[str, Any]:
    """The configuration as values that JSON has."""
    return {**dataclasses.asdict(config), "layers": list(config.layers)}


def from_json(values: dict[str, Any]) -> Config:
    """Inverse of `to_json`."""
    return Config(**{**values, "layers": tuple(values["layers"])})
