"""The Free Spoken Digit Dataset (Jackson et al., CC BY-SA 4.0): 3,000 recordings of ten digits by six people.

A file is recordings/DIGIT_SPEAKER_TAKE.wav, 8 kHz, of one channel. Of each speaker and digit there are 50 takes, 0.14
to 2.3 seconds long; by the published split the takes 0 .. 4 are the test.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.config import ConfigError, Data
from experiments.data.counts import accuracy_of_counts
from experiments.data.errors import DataCorrupt, DataUnavailable
from experiments.data.examples import Parts
from experiments.data.sequences import Recordings, Sequences
from experiments.data.sound import cochlea, waves

NAME = "spoken_digits"
HOMEPAGE = "https://github.com/Jakobovski/free-spoken-digit-dataset"
FOLDER = "free-spoken-digit-dataset"
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
DIGITS, TAKES, TEST_TAKES = 10, 50, 5
RATE, BANDS = 8000, 32


class Take(NamedTuple):
    """One recording: which it is, and its file."""

    digit: int
    speaker: str
    number: int

    @property
    def file(self) -> str:
        """Its name."""
        return f"{self.digit}_{self.speaker}_{self.number}.wav"


class SpokenDigits:
    """All recordings as events of 32 mel bands, ON and OFF, one step each 10 ms.

    Args:
      takes: which recordings.
      events: of each, uint8 [steps, 64].
    """

    name = NAME

    def __init__(self, takes: Sequence[Take], events: Sequence[np.ndarray]):
        self._takes, self._events = takes, events

    def parts(self, data: Data) -> Parts:
        """As of `experiments.data.DataSet`; the test is the published one, or all recordings of one speaker."""
        if data.leave_out is not None and data.leave_out not in SPEAKERS:
            raise ConfigError(f"--leave-out={data.leave_out!r} is no speaker. Give one of {', '.join(SPEAKERS)}.")
        tested = [
            take.number < TEST_TAKES if data.leave_out is None else take.speaker == data.leave_out
            for take in self._takes
        ]
        train, test = self._recordings([not one for one in tested]), self._recordings(tested)
        parts = Sequences(NAME, train, test, DIGITS).parts(dataclasses.replace(data, leave_out=None))
        return parts._replace(baseline=functools.partial(accuracy_of_counts, train, test))

    def _recordings(self, chosen: Sequence[bool]) -> Recordings:
        events = list(itertools.compress(self._events, chosen))
        labels = np.array([take.digit for take in itertools.compress(self._takes, chosen)], np.int32)
        return Recordings(np.concatenate(events), np.array([len(one) for one in events]), labels)


def load(data_dir: Path) -> SpokenDigits:
    """Reads the recordings, and makes events of them; it takes some seconds.

    Raises:
      DataUnavailable: they are not there.
      DataCorrupt: some are missing, or damaged.
    """
    folder = data_dir / FOLDER / "recordings"
    if not folder.is_dir():
        raise DataUnavailable(
            f"the data set {NAME!r} is not stored here: there is no folder {folder}.\n"
            f"Anybody gets it, 30 MB, from {HOMEPAGE}: run\n"
            f"  git clone {HOMEPAGE} {data_dir / FOLDER}\n"
            "or unpack the archive of a release there. To go on without any download, use the data set 'digits'."
        )
    takes = [Take(*each) for each in itertools.product(range(DIGITS), SPEAKERS, range(TAKES))]
    if missing := [take.file for take in takes if not (folder / take.file).is_file()]:
        raise DataCorrupt(
            f"{folder} lacks {len(missing)} of the {len(takes)} recordings, such as {missing[0]}. Fetch the data set "
            f"again from {HOMEPAGE}."
        )
    with ThreadPoolExecutor() as pool:
        return SpokenDigits(takes, list(pool.map(lambda take: _events(folder / take.file), takes)))


def _events(path: Path) -> np.ndarray:
    return cochlea.events(waves.read(path, RATE), RATE, BANDS)
