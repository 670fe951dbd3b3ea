"""The binary format of CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), read with the standard library.

A record is one label byte (CIFAR-10) or two, coarse and fine (CIFAR-100), and then 3072 bytes:
the red plane of 32 rows of 32 pixels, the green one, the blue one.
"""

import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data.errors import DataCorrupt

SIDE = 32
PIXEL_BYTES = 3 * SIDE * SIDE


class Records(NamedTuple):
    """Images with their labels.

    Attributes:
      labels: uint8 [N, K], with K label bytes a record.
      images: uint8 [N, 32, 32, 3].
    """

    labels: np.ndarray
    images: np.ndarray


def read_members(archive: Path, members: Iterable[str]) -> dict[str, bytes]:
    """Unpacks files of a .tar.gz archive in memory.

    Args:
      archive: path of the archive.
      members: paths inside the archive.

    Returns:
      The content of each member, by its path.

    Raises:
      DataCorrupt: the archive cannot be read, or lacks a member.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            return {member: _content(tar, member) for member in members}
    except (tarfile.TarError, EOFError, KeyError, OSError) as error:
        raise DataCorrupt(
            f"{archive} is not a complete CIFAR archive in the binary version ({error}). Delete it and fetch it again."
        ) from error


def _content(tar: tarfile.TarFile, member: str) -> bytes:
    file = tar.extractfile(member)
    if file is None:
        raise KeyError(f"{member} is not a regular file")
    return file.read()


def decode(data: bytes, label_bytes: int) -> Records:
    """Splits the content of a batch file into labels and images.

    Args:
      data: N records one after another.
      label_bytes: label bytes at the head of each record.

    Returns:
      The `Records`, in the order of the file.

    Raises:
      DataCorrupt: the content does not end where a record does.
    """
    length = label_bytes + PIXEL_BYTES
    if len(data) % length:
        raise DataCorrupt(
            f"a CIFAR batch of {len(data)} bytes is not a whole number of records "
            f"of {length} bytes; fetch the archive again."
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, length)
    planes = records[:, label_bytes:].reshape(-1, 3, SIDE, SIDE)
    return Records(labels=records[:, :label_bytes], images=planes.transpose(0, 2, 3, 1))
