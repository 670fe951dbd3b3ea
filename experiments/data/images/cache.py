"""Decoded images kept as plain .npy files, so that only the first start decodes."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np

from experiments.data.errors import DataCorrupt
from experiments.data.images.images import Splits


def cached(folder: Path, make: Callable[[], Splits]) -> Splits:
    """The arrays stored in `folder`, made and stored there if they are not.

    Each file appears in one step, so a run that is cut off leaves no half-written array behind
    and two runs that start together do not disturb each other.

    Args:
      folder: holds one .npy file for each field of `Splits`; created if missing.
      make: called without arguments when a file is missing.

    Returns:
      The arrays, memory-mapped and read-only.

    Raises:
      DataCorrupt: a stored file cannot be read.
    """
    paths = {field: folder / f"{field}.npy" for field in Splits._fields}
    if not all(path.exists() for path in paths.values()):
        arrays = make()._asdict()
        folder.mkdir(parents=True, exist_ok=True)
        for field, path in paths.items():
            _write(path, arrays[field])
    return Splits(**{field: _read(path) for field, path in paths.items()})


def _write(path: Path, array: np.ndarray) -> None:
    # The temporary file lies in the same folder: a rename is atomic within one file system only.
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            np.save(file, array, allow_pickle=False)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataCorrupt(
            f"{path} is not a readable array ({error}). Delete the folder {path.parent}; the next start makes it again."
        ) from error
