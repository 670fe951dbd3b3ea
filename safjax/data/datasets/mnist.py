"""N-MNIST (G. Orchard et al., Frontiers in Neuroscience 2015; CC BY-SA 4.0) and a subset of 1,100 recordings."""

from pathlib import Path

from safjax.data.datasets.samples import Sample, Samples, classed, split_folders
from safjax.data.events import BadFile

CLASSES = tuple("0123456789")
SENSOR = (34, 34)


def nmnist(folder: Path | str) -> Samples:
    """N-MNIST: 60,000 and 10,000 recordings, Train/0 .. 9/*.bin and Test/0 .. 9/*.bin.

    Raises:
      FileNotFoundError: a folder is missing.
    """
    parents = split_folders(folder, ("Train", "Test"), "N-MNIST")
    train, test = (classed(parent, CLASSES, "*.bin", "N-MNIST") for parent in parents)
    splits, published = {"train": train, "test": test}, {"train": 60_000, "test": 10_000}
    return Samples("N-MNIST", "as published", CLASSES, SENSOR, splits, published=published)


def nmnist_small(folder: Path | str) -> Samples:
    """1,000 and 100 recordings of N-MNIST as slayerPytorch's tests have them: ID.bs2, train1K.txt and test100.txt.

    Raises:
      BadFile: a line of a list is not a number and a class.
      FileNotFoundError: a list or a recording is missing.
    """
    folder = Path(folder)
    splits = {name: _listed(folder / file) for name, file in (("train", "train1K.txt"), ("test", "test100.txt"))}
    name, published = "N-MNIST, 1,100 recordings", {"train": 1000, "test": 100}
    return Samples(name, "as published", CLASSES, SENSOR, splits, published=published)


def _listed(path: Path) -> list[Sample]:
    found, offset = [], 0
    for line in path.read_bytes().splitlines(keepends=True):
        words = line.split()
        # The first line is a heading that begins with #.
        if words and not words[0].startswith(b"#"):
            if len(words) != 2 or not all(word.isdigit() for word in words):
                raise BadFile(path, offset, f"the line {line!r}, expected the number of a recording and its class.")
            found.append(Sample(path.with_name(f"{int(words[0])}.bs2"), int(words[1])))
        offset += len(line)
    missing = [sample.path for sample in found if not sample.path.is_file()]
    if missing:
        raise FileNotFoundError(f"{missing[0]}: listed in {path.name}, but not there.")
    return found
