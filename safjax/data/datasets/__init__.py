"""Published data sets in a folder: files, labels, class names and splits. Where to get them stands with each
function."""

from safjax.data.datasets.cameras import asldvs, cifar10dvs, dvslip, ncaltech101
from safjax.data.datasets.gestures import gesture, gesture_cut
from safjax.data.datasets.mnist import nmnist, nmnist_small
from safjax.data.datasets.samples import Incomplete, Sample, Samples
from safjax.data.datasets.speech import fsdd, held_out, samples_of, shd, ssc

__all__ = [
    "Incomplete",
    "Sample",
    "Samples",
    "asldvs",
    "cifar10dvs",
    "dvslip",
    "fsdd",
    "gesture",
    "gesture_cut",
    "held_out",
    "ncaltech101",
    "nmnist",
    "nmnist_small",
    "samples_of",
    "shd",
    "ssc",
]
