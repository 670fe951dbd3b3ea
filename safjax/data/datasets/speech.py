"""Spoken words: SHD and SSC as spikes of a cochlea, the Free Spoken Digit Dataset as sound."""

import re
from pathlib import Path

import numpy as np

from safjax.data.datasets.samples import Sample, Samples, by_number
from safjax.data.formats.hdf5 import SpikeFile, open_hdf5

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def shd(folder: Path | str) -> dict[str, SpikeFile]:
    """Spiking Heidelberg Digits: shd_train.h5 and shd_test.h5, 8,156 and 2,264 samples of 20 classes.

    There is no split to choose an epoch by; `held_out` takes some speakers out of the training samples for that.

    Raises:
      FileNotFoundError: a file is missing.
    """
    return _files(folder, "shd", ("train", "test"))


def ssc(folder: Path | str) -> dict[str, SpikeFile]:
    """Spiking Speech Commands: ssc_train.h5, ssc_valid.h5 and ssc_test.h5, of 35 classes.

    Raises:
      FileNotFoundError: a file is missing.
    """
    return _files(folder, "ssc", ("train", "valid", "test"))


def samples_of(files: dict[str, SpikeFile], name: str) -> Samples:
    """The splits of SHD or SSC as samples, for a cache.

    Raises:
      ValueError: the files do not name the same classes.
    """
    classes = {file.classes for file in files.values()}
    if len(classes) != 1:
        raise ValueError(f"{name}: {len(classes)} lists of class names in {len(files)} files, expected one.")
    splits = {
        split: [Sample(file.path, int(label), place=i) for i, label in enumerate(file.labels)]
        for split, file in files.items()
    }
    return Samples(name, "as published", classes.pop(), None, splits)


def held_out(file: SpikeFile, speakers: set[int]) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the samples to train on and of those by some speakers.

    Raises:
      ValueError: the file names no speakers, or one of them is not there.
    """
    if file.speakers is None or not set(speakers) <= set(file.speakers.tolist()):
        there = None if file.speakers is None else sorted(set(file.speakers.tolist()))
        raise ValueError(f"{file.path}: speakers={sorted(speakers)}, expected some of {there}.")
    chosen = np.isin(file.speakers, list(speakers))
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def fsdd(folder: Path | str, speaker: str | None = None) -> Samples:
    """The Free Spoken Digit Dataset (Z. Jackson et al.; CC BY-SA 4.0): DIGIT_SPEAKER_NUMBER.wav, 3,000 recordings.

    Args:
      folder: holds the recordings.
      speaker: tested on, all others trained on; None for the published split, numbers 0 to 4 of each tested.

    Raises:
      FileNotFoundError: there are no recordings, or none by that speaker.
    """
    splits: dict[str, list[Sample]] = {"train": [], "test": []}
    for path in by_number(Path(folder).glob("*.wav")):
        name = re.fullmatch(r"(\d)_(\w+)_(\d+)", path.stem)
        if name:
            tested = int(name[3]) < 5 if speaker is None else name[2] == speaker
            splits["test" if tested else "train"].append(Sample(path, int(name[1])))
    rule = "test numbers 0-4 of each digit and speaker" if speaker is None else f"test speaker {speaker}"
    if speaker is not None and not splits["test"]:
        raise FileNotFoundError(f"{folder}: no recording by the speaker {speaker!r}.")
    published = {"train": 2700, "test": 300} if speaker is None else {"train": 2500, "test": 500}
    return Samples("Free Spoken Digit Dataset", rule, DIGITS, None, splits, published=published)


def _files(folder: Path | str, name: str, splits: tuple[str, ...]) -> dict[str, SpikeFile]:
    paths = {split: Path(folder) / f"{name}_{split}.h5" for split in splits}
    missing = [path for path in paths.values() if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{missing[0]}: no such file. Unpack the published {missing[0].name}.gz or .zip there.")
    return {split: open_hdf5(path) for split, path in paths.items()}
