"""A data set that takes a while to be made into frames. Run as a program, it loads NumPy only."""

import dataclasses
import time

import numpy as np

from safjax.data.datasets.samples import Sample, Samples
from safjax.data.frames import Frames


@dataclasses.dataclass(frozen=True)
class Slow:
    """Frames that take a while and hold a number of their file's name."""

    seconds: float = 0.0
    fails: str = ""
    shape = (2, 3)
    dtype = np.dtype(np.uint8)

    def __call__(self, path, samples):
        if path.name == self.fails:
            raise ZeroDivisionError("no such thing")
        time.sleep(self.seconds)
        for sample in samples:
            yield Frames(np.full(self.shape, int(path.stem), np.uint8), sample.label)


def numbered(folder, count=12):
    """A data set of `count` small files, two splits."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{i}.bin" for i in range(count)]
    for path in paths:
        # Another start may be reading their sizes.
        if not path.exists():
            path.write_bytes(b"12345")
    chosen = [Sample(path, i % 3) for i, path in enumerate(paths)]
    return Samples("numbers", "by hand", ("a", "b", "c"), None, {"train": chosen[:-3], "test": chosen[-3:]})


def whole(found, count=12):
    """Checks what a cache of them holds."""
    numbers = [split.frames[:, 0, 0].tolist() for split in found.values()]
    assert numbers == [list(range(count - 3)), list(range(count - 3, count))]
    assert all((split.frames == split.frames[:, :1, :1]).all() for split in found.values())
    assert [split.labels.tolist() for split in found.values()] == [[i % 3 for i in part] for part in numbers]
