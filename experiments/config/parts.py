"""The four parts of a configuration, one field for each flag."""

import dataclasses
from typing import TYPE_CHECKING, Literal

from experiments.config.datasets import DATASETS
from experiments.config.ranges import data_ranges, net_ranges, run_ranges, training_ranges

if TYPE_CHECKING:
    DatasetName = str
else:
    DatasetName = Literal[*DATASETS]

Method = Literal[
    "saf_f",
    "saf_e",
    "ottt_a",
    "ottt_o",
    "approx_otpe",
    "bptt",
    "exodus",
    "slayer",
    "sltt",
    "stllr",
    "spike_representation",
    "ide",
    "rate_backprop",
    "ostl",
    "otpe",
    "eprop",
]


class ConfigError(ValueError):
    """A setting that no run can have; the message says which, and what it may be."""


def check(ranges: list[tuple[str, object, bool, str]]) -> None:
    """Raises ConfigError for the first of (field, its value, whether it is possible, what it may be) that is not."""
    for name, given, good, expected in ranges:
        if not good:
            raise ConfigError(f"--{name.replace('_', '-')}={given} is not possible: expected {expected}.")


@dataclasses.dataclass(frozen=True)
class Data:
    """What the net is shown, and how.

    Raises:
      ConfigError: a value is out of its range; so of the other parts.
    """

    dataset: DatasetName = "cifar10"
    """Data set; the recipe's own unless given."""
    augmentation: Literal["crop_flip_cutout", "crop_flip", "crop", "resized_crop_flip", "sound", "none"] = (
        "crop_flip_cutout"
    )
    """Random changes of the training examples. Of images: crop with padding 4, flip, cutout; padding 2, flip;
    padding 1, of events a twelfth of the height; for imagenet, a part of the image resized, flip. Of sound: events a
    band higher or lower, some bands and some time covered. none."""
    image_size: int | None = None
    """Height and width to which imagenet's images are cropped; None is 224, and elsewhere the size as stored."""
    steps: int | None = 6
    """Time steps for which each image is shown, or into which spike trains and recordings of events are divided; None:
    sequences have lengths of their own."""
    bins: Literal["duration", "count"] = "duration"
    """How recordings of events are divided into steps: by time, or into equal numbers of events, as published recipes
    for dvs_gesture and cifar10_dvs do; a net that is to hear events as they come needs duration."""
    pool: int | None = None
    """Side of the squares of pixels, or number of neighbouring channels, whose events are added up; None is the data
    set's own."""
    chain: int = 1
    """Recordings of events that are joined to one, of the first so many classes one each: their order is what is to be
    told, and each has --steps / --chain steps; 1 joins none."""
    batch_size: int = 128
    """Examples in a batch."""
    held_out: float = 0.0
    """Share of the training examples that is not trained on but chooses the best epoch, in [0, 1); of 0 the test does,
    and then its best accuracy proves nothing. Not for ssc, which has published examples to choose by."""
    leave_out: str | None = None
    """Speaker of spoken_digits whose recordings are the test; None takes the published test."""

    def __post_init__(self):
        check(data_ranges(self))


@dataclasses.dataclass(frozen=True)
class Net:
    """The network, its neurons, and the numbers it computes with."""

    network: Literal["vgg", "resnet18", "nf_resnet34"] = "vgg"
    """Network for images: a VGG of --layers; a ResNet-18 for small images; the NF-ResNet-34 for large ones."""
    layers: tuple[int | Literal["M"], ...] = (64, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512)
    """Channels of each convolution of the vgg; M is 2x2 average pooling. For spike trains, neurons of each layer."""
    head: Literal["average", "flatten"] = "average"
    """What the classifier of the vgg is given of the last map: the mean over its places, or all of them."""
    width: float = 1.0
    """Factor for the channels of all layers."""
    decay: float = 0.5
    """Fraction of the membrane kept from one time step to the next, in [0, 1]; 1 is no leak."""
    threshold: float = 1.0
    """Potential at which a neuron fires."""
    surrogate: Literal["sigmoid", "triangle", "rectangle", "arctan", "exponential", "gaussian"] = "sigmoid"
    """Shape of the pseudo-derivative of the spike."""
    readout: Literal["leaky", "instant"] = "leaky"
    """Output of a step: the weighted mean of the currents so far (leaky) or the current itself (instant)."""
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    """Numbers in which synapses compute. bfloat16: parameters, neurons and all sums stay float32; float64: all is."""

    def __post_init__(self):
        check(net_ranges(self))


@dataclasses.dataclass(frozen=True)
class Training:
    """How the net learns."""

    method: Method = "saf_f"
    """Learning rule."""
    epochs: int = 300
    """Passes over the training examples."""
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
    accumulate: int = 1
    """Batches whose mean gradient makes one update, as a batch so many times as large would."""
    seed: int = 0
    """Seed of weights, order of examples and augmentation."""

    def __post_init__(self):
        check(training_ranges(self))


@dataclasses.dataclass(frozen=True)
class Run:
    """Where the run finds and leaves its files, and on what it runs: nothing of this enters into what is computed."""

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
    compiled: str | None = "~/.cache/safjax"
    """Folder where compiled programs are kept, so that a second run of a net need not compile it; None keeps none."""
    devices: int | None = None
    """Devices among which each batch is divided, of every process; None: all GPUs or TPUs, or one CPU."""
    coordinator: str | None = None
    """HOST:PORT of process 0, where several processes meet; auto: as Slurm, Open MPI, Kubernetes or Cloud TPUs say."""
    processes: int | None = None
    """How many processes meet at --coordinator=HOST:PORT; all are started with the same flags, but --process."""
    process: int | None = None
    """Which of them this one is, 0 to --processes - 1; 0 prints and writes."""

    def __post_init__(self):
        check(run_ranges(self))
