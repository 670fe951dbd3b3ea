"""The label that a file's name and its neighbours tell."""

import re
from pathlib import Path

from safjax.data import BadFile, read_trials
from safjax.data.datasets.cameras import CIFAR10, LETTERS
from safjax.data.datasets.gestures import CLASSES


def label_of(path: Path) -> str | None:
    """In words; None where nothing tells it.

    CIFAR10-DVS has the class in the name, N-MNIST, DVS-Lip, ASL-DVS and N-Caltech101 in the folder's, DVS128 Gesture in
    a table beside the file, or in the name if it was cut into trials.
    """
    table = path.with_name(f"{path.stem}_labels.csv")
    if table.is_file():
        return _trials(table)
    named = re.match(r"cifar10_([a-z]+)_\d+$", path.stem)
    if named and named[1] in CIFAR10:
        return f"{CIFAR10.index(named[1])} ({named[1]})"
    folder = path.absolute().parent
    if folder.name in "0123456789" and folder.parent.name in ("Train", "Test"):
        return f"{folder.name}, {folder.parent.name}"
    if path.suffix == ".mat" and folder.name in LETTERS:
        return f"{LETTERS.index(folder.name)} ({folder.name})"
    if re.match(r"user\d+", folder.name) and path.stem.isdecimal() and int(path.stem) < len(CLASSES):
        return f"{int(path.stem)} ({CLASSES[int(path.stem)]})"
    if folder.parent.name in ("train", "test") or re.match(r"image_\d+", path.stem):
        return folder.name
    return None


def _trials(table: Path) -> str:
    try:
        trials = read_trials(table)
    except BadFile as error:
        return str(error)
    names = [f"{CLASSES[t.label]} {t.start / 1e6:.1f}-{t.end / 1e6:.1f} s" for t in trials]
    return f"{len(trials)} trials: {', '.join(names)}"
