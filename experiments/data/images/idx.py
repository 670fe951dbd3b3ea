"""The IDX format of MNIST and its successors: a header of the shape, then the bytes of the array.

The header is two zero bytes, a byte for the element type (8: unsigned byte), a byte for the number
of axes, and the size of each axis as a big-endian 32-bit integer.
"""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from experiments.data.errors import DataCorrupt

UNSIGNED_BYTE = 8


def read(path: Path) -> np.ndarray:
    """Reads a gzip-compressed IDX file of unsigned bytes.

    Args:
      path: path of the .gz file.

    Returns:
      uint8 array of the shape in the header.

    Raises:
      DataCorrupt: the file is missing, truncated or of another format.
    """
    try:
        return from_bytes(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataCorrupt(
            f"{path} is not a complete gzip-compressed IDX file of unsigned bytes ({error}). "
            "Delete it and fetch or install it again."
        ) from error


def from_bytes(data: bytes) -> np.ndarray:
    """Parses the content of an IDX file of unsigned bytes; inverse of `to_bytes`.

    Raises:
      ValueError: the header is not that of such a file, or the length is not that of the header.
    """
    if len(data) < 4 or data[:3] != bytes((0, 0, UNSIGNED_BYTE)):
        raise ValueError(f"begins with {data[:4].hex()}, expected 0000{UNSIGNED_BYTE:02x}..")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise ValueError(f"{len(data)} bytes cannot hold a header of {start} bytes")
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def to_bytes(array: np.ndarray) -> bytes:
    """The content of the IDX file that holds a uint8 array; inverse of `from_bytes`."""
    header = struct.pack(f">4B{array.ndim}I", 0, 0, UNSIGNED_BYTE, array.ndim, *array.shape)
    return header + array.tobytes()
