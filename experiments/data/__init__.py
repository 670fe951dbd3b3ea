"""Data sets as arrays, or as image files; batches as indices, augmentation as jitted functions.

    dataset = load("cifar10", "~/tensorflow_datasets")
    augment, prepare = recipes.cifar(dataset), recipes.evaluation(dataset)
    for indices in epoch_indices(seed, epoch, len(dataset.train_labels), batch_size=128):
        images = augment(key, dataset.train_images[indices])  # inside jit

Importing this package imports no data library; `load` does, for the data sets that need one.
"""

from experiments.data import recipes
from experiments.data.augment import (
    Transform,
    compose,
    cutout,
    normalise,
    random_crop,
    random_flip,
)
from experiments.data.batches import EvaluationBatches, epoch_indices, evaluation_batches
from experiments.data.dataset import Dataset
from experiments.data.errors import DataCorrupt, DataUnavailable
from experiments.data.examples import DataSet, Examples, Made, Parts
from experiments.data.image_files import Encoded, ImageFiles
from experiments.data.loaders import LOADERS, load
from experiments.data.plans import Plan, Planned
from experiments.data.sequences import Recordings, Sequences
from experiments.data.spike_times import SpikeTimes, spike_trains

__all__ = [
    "LOADERS",
    "DataCorrupt",
    "DataSet",
    "DataUnavailable",
    "Dataset",
    "Encoded",
    "EvaluationBatches",
    "Examples",
    "ImageFiles",
    "Made",
    "Parts",
    "Plan",
    "Planned",
    "Recordings",
    "Sequences",
    "SpikeTimes",
    "Transform",
    "compose",
    "cutout",
    "epoch_indices",
    "evaluation_batches",
    "load",
    "normalise",
    "random_crop",
    "random_flip",
    "recipes",
    "spike_trains",
]
