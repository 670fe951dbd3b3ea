"""The configuration of a run: one frozen value, one command-line flag for each of its fields."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import tyro

from experiments.config.flags import NUMBERS
from experiments.config.ranges import ranges

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
    steps: int | None = 6
    """Time steps for which each image is shown, or into which spike trains are divided; None: sequences have lengths of
    their own."""
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
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    """Numbers in which synapses compute. bfloat16: parameters, neurons and all sums stay float32; float64: all is."""
    seed: int = 0
    """Seed of weights, order of examples and augmentation."""
    data_dir: str = "~/tensorflow_datasets"
    """Folder of the data sets."""
    workdir: str | None = None
    """Folder for the results, new or empty; None numbers one: runs/DATASET-METHOD-SEED, -2, -3 ..."""
    quiet: bool = False
    """Neither bar nor lines of the epochs: the summary on stdout, warnings and errors on stderr."""
    resume: bool = False
    """Continue the run in --workdir, or without it the latest unfinished one of its name; begin it if there is none."""
    keep: int = 3
    """Checkpoints that are kept: the latest so many, and the one of the best test accuracy."""
    save_every: int | None = None
    """Batches between checkpoints within an epoch; None: ten minutes. There is one at the end of every epoch, too."""
    accumulate: int = 1
    """Batches whose mean gradient makes one update, as a batch so many times as large would."""
    devices: int | None = None
    """Devices among which each batch is divided, of every process; None: all GPUs or TPUs, or one CPU."""
    coordinator: str | None = None
    """HOST:PORT of process 0, where several processes meet; auto: as Slurm, Open MPI, Kubernetes or Cloud TPUs say."""
    processes: int | None = None
    """How many processes meet at --coordinator=HOST:PORT; all are started with the same flags, but --process."""
    process: int | None = None
    """Which of them this one is, 0 to --processes - 1; 0 prints and writes."""

    def __post_init__(self):
        for name, good, expected in ranges(self):
            if not good:
                given = getattr(self, name)
                raise ConfigError(f"--{name.replace('_', '-')}={given} is not possible: expected {expected}.")


MAY_CHANGE = (
    *("data_dir", "workdir", "quiet", "resume", "keep", "save_every"),
    *("devices", "coordinator", "processes", "process"),
)
"""Fields that may be other ones when a run is resumed: they do not enter into what is computed."""


def differences(stored: dict[str, Any], config: Config) -> list[str]:
    """How a stored configuration (`to_json`) differs from `config`, apart from `MAY_CHANGE`: a few words a field."""
    now = to_json(config)
    return [
        f"--{name.replace('_', '-')} was {stored.get(name, 'unknown')} and is now {value}"
        for name, value in now.items()
        if name not in MAY_CHANGE and stored.get(name, "unknown") != value
    ]


def parse(default: Config, description: str, args: Sequence[str] | None = None) -> Config:
    """The configuration that a command line asks for.

    Args:
      default: an experiment's own; a flag replaces one field of it.
      description: what `--help` says above the flags.
      args: the command line; None takes the program's.

    Raises:
      SystemExit: 0 after `--help`; 2 after a message on stderr when a flag or its value is not possible.
      ConfigError: a flag was given that another makes void.
    """
    prog = f"python -m experiments.{default.dataset}"
    with NUMBERS:
        config = tyro.cli(Config, prog=prog, description=description, default=default, args=args)
    for name, needed, value in (("layers", "network", "vgg"), ("momentum", "optimizer", "sgd")):
        if getattr(config, name) != getattr(default, name) and getattr(config, needed) != value:
            raise ConfigError(
                f"--{name} says nothing with --{needed}={getattr(config, needed)}: it is for --{needed}={value}. Leave "
                "out one of the two."
            )
    return config


def to_json(config: Config) -> dict[str, Any]:
    """The configuration as values that JSON has."""
    return {**dataclasses.asdict(config), "layers": list(config.layers)}


def from_json(values: dict[str, Any]) -> Config:
    """Inverse of `to_json`."""
    return Config(**{**values, "layers": tuple(values["layers"])})
