"""The published sets of events: where each is looked for and to be had, which samples are the test, what a bin is."""

from pathlib import Path

from experiments.config import Data
from experiments.data.events.binned import Events
from experiments.data.events.resized import Resized
from experiments.data.events.stored import stored
from safjax.data import EventFrames, Grid, SpikeFrames, datasets

NMNIST_TIME = 315_000
"""µs of N-MNIST's three saccades."""
GESTURE_TIME, CIFAR_TIME = 6_000_000, 1_300_000
"""µs of each trial, and of each recording of CIFAR10-DVS, that bins by duration cover."""
SPOKEN_TIME, CHANNELS_ADDED = 1_000_000, 5
PUBLISHED_SIZE = 48
"""Height and width of CIFAR10-DVS in the publications of OTTT and SLTT."""
MOST = 255
"""Events counted in one place of one bin."""


def load_nmnist(data_dir: Path) -> Events:
    """N-MNIST, whole or the subset of 1,100 recordings."""
    whole, small = data_dir / "nmnist", data_dir / "nmnist_small"
    places = [(whole, datasets.nmnist), (whole, datasets.nmnist_small), (small, datasets.nmnist_small)]
    how = (
        "N-MNIST is at https://www.garrickorchard.com/datasets/n-mnist, 1.2 GB: unpack Train.zip and Test.zip, so that "
        f"{whole}/Train/0 .. 9 and Test/0 .. 9 hold the files *.bin. A subset of 1,100 recordings, 23 MB, is part of "
        f"https://github.com/bamsumit/slayerPytorch: put test/test_files/NMNISTsmall/*.bs2, train1K.txt and "
        f"test100.txt into {small}."
    )

    def recipe(data: Data, steps: int) -> EventFrames:
        return _frames(Grid((34, 34), data.pool or 1, clip=4), data, steps, NMNIST_TIME, start=0)

    return stored("nmnist", places, how, recipe, cache=data_dir / "frames", used=("bins", "pool", "chain"))


def load_shd(data_dir: Path) -> Events:
    """Spiking Heidelberg Digits: 8,156 and 2,264 spoken digits of 20 classes."""
    folder = data_dir / "shd"
    how = _of_zenke_lab(folder, "shd_train.h5 and shd_test.h5")
    places = [(folder, lambda place: datasets.samples_of(datasets.shd(place), "SHD"))]
    note = "two speakers are in the test only; there are no published samples to choose an epoch by: --held-out"
    return stored("shd", places, how, _spoken, cache=data_dir / "frames", used=("pool", "chain"), note=note)


def load_ssc(data_dir: Path) -> Events:
    """Spiking Speech Commands: 75,466 words for training, 9,981 to choose by and 20,382 for the test, of 35 classes."""
    folder = data_dir / "ssc"
    how = _of_zenke_lab(folder, "ssc_train.h5, ssc_valid.h5 and ssc_test.h5")
    places = [(folder, lambda place: datasets.samples_of(datasets.ssc(place), "SSC"))]
    return stored("ssc", places, how, _spoken, cache=data_dir / "frames", used=("pool", "chain"))


def load_dvs_gesture(data_dir: Path) -> Events:
    """DVS128 Gesture: every row of the published tables, or the release that was cut in advance."""
    folder = data_dir / "dvs_gesture"
    places = [
        (folder, datasets.gesture),
        (folder / "DvsGesture", datasets.gesture),
        (folder, datasets.gesture_cut),
    ]
    how = (
        "DVS128 Gesture is at https://research.ibm.com/interactive/dvsgesture, 3 GB: unpack it, so that "
        f"{folder / 'DvsGesture'} holds *.aedat, *_labels.csv, trials_to_train.txt and trials_to_test.txt. The release "
        f"cut in advance, ibmGestureTrain and ibmGestureTest, goes into {folder} itself."
    )

    def recipe(data: Data, steps: int) -> EventFrames:
        return _frames(Grid((128, 128), data.pool or 1, clip=MOST), data, steps, GESTURE_TIME, start=0)

    note = "two test sets go under this name: 288 trials of the tables, 264 of those cut in advance"
    return stored(
        "dvs_gesture", places, how, recipe, cache=data_dir / "frames", used=("bins", "pool", "chain"), note=note
    )


def load_cifar10_dvs(data_dir: Path) -> Events:
    """CIFAR10-DVS: 9,000 and 1,000 recordings, split as in the publications of OTTT and SLTT."""
    folder = data_dir / "cifar10_dvs"
    how = (
        "CIFAR10-DVS is at https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671, 8 GB: unpack the archives of "
        f"the ten classes, so that {folder}/airplane and so on hold the files cifar10_airplane_0.aedat ..."
    )

    def recipe(data: Data, steps: int) -> EventFrames | Resized:
        if data.pool is None:
            return Resized(_frames(Grid((128, 128), clip=1), data, steps, CIFAR_TIME, start=None), PUBLISHED_SIZE)
        return _frames(Grid((128, 128), data.pool, clip=MOST), data, steps, CIFAR_TIME, start=None)

    note = "no split is published: with the numbers 0-99 as the test, as in other work, accuracies are higher"
    return stored(
        "cifar10_dvs",
        [(folder, datasets.cifar10dvs)],
        how,
        recipe,
        cache=data_dir / "frames",
        used=("bins", "pool", "chain"),
        note=note,
    )


def _frames(grid: Grid, data: Data, steps: int, time: int, start: int | None) -> EventFrames:
    if data.bins == "count":
        return EventFrames(grid, steps, mode="count")
    return EventFrames(grid, steps, duration=time / steps, start=start)


def _spoken(data: Data, steps: int) -> SpikeFrames:
    return SpikeFrames(steps, SPOKEN_TIME / steps, pool=data.pool or CHANNELS_ADDED, clip=4)


def _of_zenke_lab(folder: Path, files: str) -> str:
    return f"It is at https://zenkelab.org/datasets: fetch {files} as .h5.gz or .h5.zip, and unpack them into {folder}."
