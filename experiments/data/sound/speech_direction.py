"""Speech played forward or backward: the same sounds either way, so that only their course in time tells which.

Recordings are Debian's prompts for telephone exchanges in five languages, one speaker each. A part is cut from the
middle of each, so that neither direction begins with the onset of a sentence. Files of one name say the same in all
languages: the split is by the name, and both directions of a recording lie in the same part. So it is with those that
are held out to choose the epoch by.
"""

import hashlib
from pathlib import Path

import numpy as np

from experiments.data.errors import DataCorrupt, DataUnavailable
from experiments.data.events.binned import Binned, Events
from experiments.data.events.lines import memory, of_bins, of_splits
from safjax.data import BadFile, Split, level_crossing, log_mel, read_wav

NAME, CLASSES = "speech_direction", ("forward", "backward")
PACKAGES = "asterisk-core-sounds-{en,es,fr,it,ru}-wav"
INSTALLED, FOLDER = Path("/usr/share/asterisk/sounds"), "asterisk-sounds"
BANDS, FLOOR, HOP, WINDOW = 32, 1e-4, 0.010, 0.032
MARGIN = 0.2
"""Seconds before and after what is cut out."""
OF_TEST = 6
"""One name in so many is of the test."""


def load(data_dir: Path) -> Events:
    """Finds the recordings: below the folder of the data sets, or where the packages put them.

    Raises:
      DataUnavailable: they are in neither.
    """
    there = [folder for folder in (data_dir / FOLDER, INSTALLED) if any(folder.glob("*/*.wav"))]
    if there:
        return Events(NAME, ("chain",), lambda data, steps: record(there[0], steps))
    raise DataUnavailable(
        f"the data set {NAME!r} is not stored here: there are no recordings in {INSTALLED} or {data_dir / FOLDER}.\n"
        f"They are Debian's packages {PACKAGES}, 110 MB: install them,\n"
        f"  apt-get install {PACKAGES}\n"
        "or without installing, unpack each:\n"
        "  apt-get download PACKAGE && dpkg -x PACKAGE*.deb prompts\n"
        f"and move the folders in prompts/usr/share/asterisk/sounds, such as en_US_f_Allison, into "
        f"{data_dir / FOLDER}.\nAny of the languages will do. To go on without any download, use the data set "
        "'saccades'."
    )


def record(folder: Path, steps: int) -> Binned:
    """Both directions of all recordings that are long enough, as events.

    Raises:
      DataCorrupt: a file is damaged, or there is none for one of the parts.
    """
    # A language's folder may have a second name, a link.
    languages = sorted({path.resolve() for path in folder.iterdir() if path.is_dir()})
    paths = [
        (path, path.relative_to(language).as_posix()) for language in languages for path in language.rglob("*.wav")
    ]
    try:
        heard = {(path, name): both_directions(path, steps) for path, name in sorted(paths)}
    except BadFile as error:
        raise DataCorrupt(str(error)) from error
    parts: dict[bool, list[np.ndarray]] = {False: [], True: []}
    names: list[str] = []
    for (_, name), energies in heard.items():
        if energies is not None:
            parts[of_test(name)].append(energies)
            names += [] if of_test(name) else 2 * [name]
    if not all(parts.values()):
        raise DataCorrupt(
            f"of the {len(paths)} recordings in {folder}, {len(parts[False])} are long enough and for training, "
            f"{len(parts[True])} for the test; expected some of both. Install all of {PACKAGES}."
        )
    train, test = _split(parts[False]), _split(parts[True])
    what = f"{seconds_of(steps):.4g} s from the middle of recordings in {len(languages)} languages, {BANDS} mel bands"
    rule = "by the names of the files, which say the same in all languages"
    about = (what, of_bins(steps, HOP * 1e6, (BANDS, 2), None), of_splits(train, test, rule), memory(train, test))
    return Binned(NAME, train, test, CLASSES, about, paired=True, groups=np.unique(names, return_inverse=True)[1])


def of_test(name: str) -> bool:
    """Whether the recordings of a name are of the test, in whatever language."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % OF_TEST == 0


def seconds_of(steps: int) -> float:
    """What T steps hear together: each a window of 32 ms, 10 ms after the one before."""
    return HOP * (steps - 1) + WINDOW


def both_directions(path: Path, steps: int) -> np.ndarray | None:
    """Energies [2, T, 32] of a recording forward and backward; None if it is too short.

    Raises:
      BadFile: the file is damaged.
    """
    sound = read_wav(path)
    samples, length = sound.samples[:, 0], round(seconds_of(steps) * sound.rate)
    before = (len(samples) - length) // 2
    if before < MARGIN * sound.rate:
        return None
    middle = samples[before : before + length]
    return np.stack(
        [log_mel(one, sound.rate, bands=BANDS, window=WINDOW, hop=HOP, floor=FLOOR) for one in (middle, middle[::-1])]
    )


def _split(energies: list[np.ndarray]) -> Split:
    """Events uint8 [N, T, 64], of every band OFF and ON. All recordings are encoded at once, step by step."""
    values = np.concatenate(energies)
    sent = level_crossing(values.swapaxes(0, 1), threshold=1.0, start=np.log(FLOOR))
    labels = np.tile(np.arange(2, dtype=np.int32), len(energies))
    return Split(sent.swapaxes(0, 1).reshape(*values.shape[:2], 2 * BANDS), labels, 0)
