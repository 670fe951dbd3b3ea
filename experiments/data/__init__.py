"""Data sets, and the batches that are made of them.

    dataset = load("cifar10", "~/tensorflow_datasets")     # a DataSet, whatever kind of data it holds
    parts = dataset.parts(Data(dataset="cifar10"))         # training and test examples, with their augmentation
    for planned in Plan(parts.train, 128, common_edges(parts.train)).epoch(seed, epoch):
        made = parts.train.make(key, parts.train.held, planned.indices)  # inside jit

What a data set must be is said in `experiments.data.examples`. Five kinds of data are there to build one of: `Images`
in memory, `ImageFiles`, `SpikeTimes`, `Binned` events, and `Sequences` of different lengths. A new data set is a file
with a function that returns one of them, or a kind of its own, and a line in `experiments/config/datasets.py`.

Importing this package imports no data library; `load` does, for the data sets that need one.
"""

from experiments.data.batches import EvaluationBatches, epoch_indices, evaluation_batches
from experiments.data.errors import DataCorrupt, DataUnavailable
from experiments.data.events.binned import Binned
from experiments.data.events.spike_times import SpikeTimes, spike_trains
from experiments.data.examples import DataSet, Examples, Made, Parts, Shape, Shown
from experiments.data.images.image_files import Encoded, ImageFiles
from experiments.data.images.images import Images
from experiments.data.loaders import load
from experiments.data.plans import Plan, Planned, common_edges, held_out
from experiments.data.sequences import Recordings, Sequences

__all__ = [
    "Binned",
    "DataCorrupt",
    "DataSet",
    "DataUnavailable",
    "Encoded",
    "EvaluationBatches",
    "Examples",
    "ImageFiles",
    "Images",
    "Made",
    "Parts",
    "Plan",
    "Planned",
    "Recordings",
    "Sequences",
    "Shape",
    "Shown",
    "SpikeTimes",
    "common_edges",
    "epoch_indices",
    "evaluation_batches",
    "held_out",
    "load",
    "spike_trains",
]
