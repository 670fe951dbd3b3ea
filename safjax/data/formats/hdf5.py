"""Spiking Heidelberg Digits and Spiking Speech Commands (SHD, SSC): HDF5 files, by the library h5py of the extra
`events`.

Each sample is a list of spike times in seconds and of the channels of the cochlea that fired, 0 to 699. Times are
stored with 16 bits: they are widened before anything is computed with them (a 16-bit number ends at 65504, so times in
µs were infinite), and lie 1 ms apart after the first second (B. Cramer et al., IEEE TNNLS 2020).
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from safjax.data.events import BadFile
from safjax.data.formats.files import check_block

CHANNELS = 700
MAGIC = b"\x89HDF\r\n\x1a\n"
TOGETHER = 256
"""Samples that are read at once: four times as fast as one by one."""


class Spikes(NamedTuple):
    """One sample.

    Attributes:
      times: float64 [N], seconds.
      units: int32 [N], the channels that fired.
    """

    times: np.ndarray
    units: np.ndarray


@dataclasses.dataclass(frozen=True)
class SpikeFile:
    """A file of many samples, of which the labels were read. The file is open only while it is read.

    Attributes:
      path: of the file.
      labels: int32 [samples], from 0.
      classes: their names; () where the file has none.
      speakers: int32 [samples], or None where the file has none.
      channels: of the cochlea.
    """

    path: Path
    labels: np.ndarray
    classes: tuple[str, ...]
    speakers: np.ndarray | None
    channels: int

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self.labels)

    def samples(self, start: int = 0, stop: int | None = None, *, block: int = TOGETHER) -> Iterator[Spikes]:
        """The samples start .. stop - 1, spikes by time; `block` of them are read at once.

        Raises:
          BadFile: times are not finite or below 0, a channel does not exist, or a sample has not as many of both.
        """
        stop = len(self) if stop is None else min(stop, len(self))
        with _opened(self.path) as file:
            times, units = file["spikes/times"], file["spikes/units"]
            for begin in range(start, stop, check_block(block)):
                end = min(begin + block, stop)
                rows = zip(times[begin:end], units[begin:end], strict=True)
                for i, (time, unit) in enumerate(rows, begin):
                    yield self._checked(i, np.asarray(time).astype(np.float64), np.asarray(unit).astype(np.int64))

    def __getitem__(self, sample: int) -> Spikes:
        """One sample; for many, `samples` is faster."""
        index = range(len(self))[sample]
        return next(self.samples(index, index + 1))

    def _checked(self, i: int, times: np.ndarray, units: np.ndarray) -> Spikes:
        if times.shape != units.shape or times.ndim != 1:
            raise BadFile(
                self.path, 0, f"sample {i} has {times.shape} times and {units.shape} channels, expected as many."
            )
        if not (np.isfinite(times) & (times >= 0)).all():
            raise BadFile(
                self.path, 0, f"sample {i} has a time of {times[~(times >= 0) | ~np.isfinite(times)][0]} seconds."
            )
        if units.size and not 0 <= units.min() <= units.max() < self.channels:
            raise BadFile(
                self.path,
                0,
                f"sample {i} has channels {units.min()} .. {units.max()}, expected 0 .. {self.channels - 1}.",
            )
        order = np.argsort(times, kind="stable") if (times[1:] < times[:-1]).any() else slice(None)
        return Spikes(times[order], units[order].astype(np.int32))


def open_hdf5(path: Path | str, channels: int = CHANNELS) -> SpikeFile:
    """A file of SHD or SSC.

    Args:
      path: of the .h5 file.
      channels: how many there are.

    Raises:
      BadFile: no HDF5 file, one that is cut off, one without spikes and labels, or labels that are no classes.
      ImportError: the library h5py is not installed.
    """
    path = Path(path)
    with _opened(path) as file:
        missing = [name for name in ("spikes/times", "spikes/units", "labels") if name not in file]
        if missing:
            raise BadFile(
                path, 0, f"no {missing[0]}, expected spikes/times, spikes/units and labels as in SHD and SSC."
            )
        labels = np.asarray(file["labels"][()])
        counts = [file["spikes/times"].shape, file["spikes/units"].shape, labels.shape]
        if len(set(counts)) > 1 or labels.ndim != 1:
            raise BadFile(path, 0, f"times, channels and labels are of shapes {counts}, expected [samples] each.")
        classes = tuple(_text(key) for key in file["extra/keys"][()]) if "extra/keys" in file else ()
        speakers = np.asarray(file["extra/speaker"][()]).astype(np.int32) if "extra/speaker" in file else None
    if speakers is not None and speakers.shape != labels.shape:
        raise BadFile(path, 0, f"{speakers.shape} speakers of {labels.shape} samples, expected as many.")
    if labels.size and (
        labels.dtype.kind not in "iu" or labels.min() < 0 or (classes and labels.max() >= len(classes))
    ):
        raise BadFile(
            path, 0, f"labels {labels.min()} .. {labels.max()}, expected 0 .. {len(classes) - 1}, whole numbers."
        )
    return SpikeFile(path, labels.astype(np.int32), classes, speakers, channels)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file for as long as the context lasts: never across a fork, never in what is handed to another process."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"{path}: SHD and SSC are read by the library h5py; pip install 'safjax[events]'.") from error
    size = path.stat().st_size
    with path.open("rb") as file:
        whole = file.read(len(MAGIC)) == MAGIC
    try:
        with h5py.File(path, "r") as file:
            yield file
    except BadFile:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        raise BadFile(path, size if whole else 0, f"this HDF5 file cannot be read to its end ({error}).") from error


def _text(key: Any) -> str:
    return key.decode("utf-8") if isinstance(key, bytes) else str(key)
