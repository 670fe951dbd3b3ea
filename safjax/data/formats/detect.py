"""Which format a file is of, by its content."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from safjax.data.events import BadFile, EventFile, Sensor
from safjax.data.formats import aedat2, aedat3, aedat4, bits40, hdf5, mat, npy
from safjax.data.formats.aedat2 import open_aedat2
from safjax.data.formats.aedat3 import open_aedat3
from safjax.data.formats.aedat4 import open_aedat4
from safjax.data.formats.bits40 import open_bin
from safjax.data.formats.dat import open_dat
from safjax.data.formats.evt2 import open_evt2
from safjax.data.formats.evt3 import open_evt3
from safjax.data.formats.hdf5 import SpikeFile, open_hdf5
from safjax.data.formats.mat import open_mat
from safjax.data.formats.npy import open_npy
from safjax.data.formats.prophesee import header

BY_MAGIC: dict[bytes, Callable[..., EventFile | SpikeFile]] = {
    aedat2.MAGIC: open_aedat2,
    aedat3.MAGIC: open_aedat3,
    aedat4.MAGIC: open_aedat4,
    npy.MAGIC: open_npy,
    mat.MAGIC: open_mat,
    mat.HDF5: open_mat,
    hdf5.MAGIC: open_hdf5,
}
COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
SHORT = 100
FIXED = (open_aedat2, open_aedat4, open_hdf5)
"""These tell their sensor themselves."""


def open_events(path: Path | str, sensor: Sensor | None = None) -> EventFile | SpikeFile:
    """A file of any of the formats, found by its content; only 40-bit events, which have no mark, by being plausible.

    Args:
      path: of the file.
      sensor: (height, width) for formats that do not tell; None for what the format's own reader takes.

    Raises:
      BadFile: no known format, or what the format's own reader refuses.
    """
    path = Path(path)
    opener = find(path)
    return opener(path) if sensor is None or opener in FIXED else opener(path, sensor)


def find(path: Path) -> Callable[..., EventFile | SpikeFile]:
    """The function that opens a file.

    Raises:
      BadFile: no known format.
    """
    with path.open("rb") as file:
        head = file.read(1 << 16)
    for magic, opener in BY_MAGIC.items():
        if head.startswith(magic):
            return opener
    for magic, name in COMPRESSED.items():
        if head.startswith(magic):
            raise BadFile(path, 0, f"the file is compressed by {name}; unpack it first.")
    if head.startswith(b"%"):
        return _prophesee(path)
    if head.startswith(b"#!AER-DAT"):
        raise BadFile(path, 0, f"AEDAT of the version {head[9:12]!r}, expected 2.0, 3.1 or 4.0.")
    # A few bytes are plausible as anything: of short files the name must agree.
    if path.suffix.lower() in (".bin", ".bs2") if len(head) < SHORT else plausible(head):
        return open_bin
    raise BadFile(path, 0, f"no known format: the first bytes are {head[:8].hex(' ') or 'none'}.")


def _prophesee(path: Path) -> Callable[..., EventFile]:
    found = header(path, "Prophesee's")
    if found.version is None:
        return open_dat
    if found.version not in ("2.0", "3.0"):
        raise BadFile(path, 0, f"EVT of the version {found.version}, expected 2.0 or 3.0.")
    return open_evt2 if found.version == "2.0" else open_evt3


def plausible(head: bytes) -> bool:
    """Whether bytes can be 40-bit events: no row beyond the marker of overflow, and nearly all times go on."""
    count = len(head) // bits40.RECORD
    if not count:
        return False
    t, _, y, _ = bits40.decode(np.frombuffer(head, np.uint8, count * bits40.RECORD).reshape(count, bits40.RECORD))
    t += np.cumsum(y == bits40.OVERFLOW_ROW) * bits40.OVERFLOW
    return bool(y.max() <= bits40.OVERFLOW_ROW and np.count_nonzero(t[1:] < t[:-1]) <= 0.05 * count)
