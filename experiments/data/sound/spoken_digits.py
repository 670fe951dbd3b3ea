"""The Free Spoken Digit Dataset as the events of a cochlea: 3,000 recordings of ten digits by six people.

Each recording becomes the logarithm of its power in 32 mel bands, a step each 10 ms, and that an event for every factor
e by which a band has grown louder or softer (`safjax.data.log_mel`, `level_crossing`).
"""

import dataclasses
import functools
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from experiments.config import ConfigError, Data
from experiments.data.counts import accuracy_of_counts
from experiments.data.errors import DataCorrupt, DataUnavailable
from experiments.data.examples import Parts
from experiments.data.sequences import Recordings, Sequences
from safjax.data import level_crossing, log_mel, read_wav
from safjax.data.datasets import Incomplete, Samples, fsdd

NAME = "spoken_digits"
HOMEPAGE = "https://github.com/Jakobovski/free-spoken-digit-dataset"
FOLDER = "free-spoken-digit-dataset"
BANDS, FLOOR = 32, 1e-4


class SpokenDigits:
    """All recordings.

    Args:
      folder: where their files lie.
      events: of each file, uint8 [steps, 64]: of every band OFF and ON.
    """

    name = NAME

    def __init__(self, folder: Path, events: dict[Path, np.ndarray]):
        self._folder, self._events = folder, events

    def parts(self, data: Data) -> Parts:
        """As of `experiments.data.DataSet`; the test is the published one, or all recordings of one speaker."""
        try:
            samples = fsdd(self._folder, data.leave_out)
        except FileNotFoundError:
            speakers = sorted({path.stem.split("_")[1] for path in self._events})
            raise ConfigError(
                f"--leave-out={data.leave_out!r} is no speaker. Give one of {', '.join(speakers)}."
            ) from None
        train, test = self._recordings(samples, "train"), self._recordings(samples, "test")
        without = dataclasses.replace(data, leave_out=None)
        parts = Sequences(NAME, train, test, len(samples.classes), paired=True).parts(without)
        return parts._replace(baseline=functools.partial(accuracy_of_counts, train, test))

    def _recordings(self, samples: Samples, split: str) -> Recordings:
        events = [self._events[sample.path] for sample in samples.splits[split]]
        return Recordings(np.concatenate(events), np.array([len(one) for one in events]), samples.labels(split))


def load(data_dir: Path) -> SpokenDigits:
    """Reads the recordings, and makes events of them; it takes some seconds.

    Raises:
      DataUnavailable: they are not there.
      DataCorrupt: they are not 3,000.
      ValueError: a file is damaged.
    """
    folder = data_dir / FOLDER / "recordings"
    if not folder.is_dir():
        raise DataUnavailable(
            f"the data set {NAME!r} is not stored here: there is no folder {folder}.\n"
            f"Anybody gets it, 30 MB, from {HOMEPAGE}: run\n"
            f"  git clone {HOMEPAGE} {data_dir / FOLDER}\n"
            "or unpack the archive of a release there. To go on without any download, use the data set 'digits'."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Incomplete)
            samples = fsdd(folder)
    except (Incomplete, FileNotFoundError) as error:
        raise DataCorrupt(f"{folder} is not complete: {error} Fetch it again from {HOMEPAGE}.") from error
    paths = [sample.path for split in samples.splits.values() for sample in split]
    with ThreadPoolExecutor() as pool:
        return SpokenDigits(folder, dict(zip(paths, pool.map(events_of, paths), strict=True)))


def events_of(path: Path) -> np.ndarray:
    """The events of a recording, uint8 [steps, 64]; the first tell how loud it begins."""
    sound = read_wav(path)
    energies = log_mel(sound.samples[:, 0], sound.rate, bands=BANDS, floor=FLOOR)
    return level_crossing(energies, threshold=1.0, start=np.log(FLOOR)).reshape(len(energies), 2 * BANDS)
