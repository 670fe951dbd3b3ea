"""Frames of a whole data set kept as plain .npy files, made once.

A cache is a folder that appears in one step when it is complete: its name is a digest of everything that its content
depends on (readers' version, recipe, rule of the split, names and sizes of the files), so other settings make another
one. A start that is killed leaves nothing that could be taken for a cache, and of two starts at once one builds and the
other waits.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import shutil
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from safjax.data.datasets.samples import Sample, Samples
from safjax.data.events import BadFile
from safjax.data.frames import Frames

READERS = 1
"""Goes up whenever a reader or a frame changes what it returns."""

MARKER = "complete.json"
ROOM = 64 << 20
"""Bytes that must stay free on the disk."""

TOGETHER = 128 << 20
"""Bytes that the samples of one file are made into at once."""


class Recipe(Protocol):
    """What is kept of each sample; a frozen data class, since its fields are part of the cache's name."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""

    @property
    def dtype(self) -> np.dtype:
        """Of the counts."""

    def __call__(self, path: Path, samples: Sequence[Sample]) -> Iterator[Frames]:
        """The frames of some samples that lie in one file."""


class Split(NamedTuple):
    """The samples of a split.

    Attributes:
      frames: uint8 or uint16 [N, T, ...], memory-mapped and read-only.
      labels: int32 [N].
      dropped: events that no frame holds, in all samples together.
    """

    frames: np.ndarray
    labels: np.ndarray
    dropped: int


class BuildError(RuntimeError):
    """A sample could not be made into frames; the file is named."""


def cached(
    folder: Path | str, samples: Samples, recipe: Recipe, *, workers: int = 2, say: Callable[[str], Any] = print
) -> dict[str, Split]:
    """The frames of all samples, read from a folder in `folder` or made and stored there.

    Args:
      folder: of all caches; made if missing.
      samples: the data set.
      recipe: what is kept of each sample, such as `EventFrames`.
      workers: threads that read files.
      say: takes one line for each thing to know: what is built, how large it is, how many events no frame holds.

    Returns:
      Splits by name.

    Raises:
      BadFile: a file of the data set is malformed, or one of the cache is not as it was written.
      BuildError: something else went wrong with a file.
      OSError: the disk is too small for the cache, or a file is missing.
      TypeError: the recipe is no data class.
    """
    key = _key(samples, recipe)
    place = Path(folder) / f"{_plain(samples.name)}-{_digest(key)}"
    if not (place / MARKER).is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        with _alone(place, say):
            # The start that was waited for may have made it.
            if not (place / MARKER).is_file():
                _build(place, key, samples, recipe, workers, say)
    return _load(place, samples)


def bytes_of(samples: Samples, recipe: Recipe) -> int:
    """The size that a cache will have."""
    count = sum(len(split) for split in samples.splits.values())
    return count * int(np.prod(recipe.shape)) * recipe.dtype.itemsize


def _key(samples: Samples, recipe: Recipe) -> dict[str, Any]:
    if not dataclasses.is_dataclass(recipe) or isinstance(recipe, type):
        raise TypeError(
            f"cached: the recipe {recipe!r} is no data class, so the cache could not be named by its settings."
        )
    kind = type(recipe)
    names: dict[str, list[Any]] = {}
    sizes: dict[Path, int] = {}
    for split, chosen in samples.splits.items():
        for sample in chosen:
            if sample.path not in sizes:
                sizes[sample.path] = sample.path.stat().st_size
        names[split] = [["/".join(s.path.parts[-3:]), sizes[s.path], *s[1:]] for s in chosen]
    return {
        "readers": READERS,
        "recipe": [f"{kind.__module__}.{kind.__qualname__}", dataclasses.asdict(recipe)],
        "samples": [samples.name, samples.rule, samples.classes],
        "files": hashlib.sha256(json.dumps(names).encode()).hexdigest(),
    }


def _digest(key: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True, default=repr).encode()).hexdigest()[:16]


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name).strip("_").lower()


@contextlib.contextmanager
def _alone(place: Path, say: Callable[[str], Any]) -> Iterator[None]:
    """Waits until no other process builds this cache. The system takes the lock back when a process ends, however it
    ends."""
    try:
        import fcntl
    except ImportError:  # on systems without it, two starts at once both build
        yield
        return
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{place}: another process builds it; waiting.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        # Whoever built before was killed: what it left is no use.
        for left in place.parent.glob(f"{place.name}.*.tmp"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def _build(
    place: Path, key: dict[str, Any], samples: Samples, recipe: Recipe, workers: int, say: Callable[[str], Any]
) -> None:
    size, free = bytes_of(samples, recipe), shutil.disk_usage(place.parent).free
    say(f"{samples}")
    say(f"{recipe}; {list(recipe.shape)} {recipe.dtype} a sample, {size / 1e6:,.1f} MB in {place}")
    if size + ROOM > free:
        raise OSError(f"{place}: needs {size:,} bytes, and {free:,} are free on that disk.")
    temporary = place.with_name(f"{place.name}.{uuid.uuid4().hex}.tmp")
    temporary.mkdir()
    try:
        marker: dict[str, Any] = {"key": key, "classes": samples.classes, "splits": {}}
        for split, chosen in samples.splits.items():
            path = temporary / f"{split}.npy"
            events, dropped = _write(path, chosen, recipe, workers)
            marker["splits"][split] = {"samples": len(chosen), "bytes": path.stat().st_size, "dropped": dropped}
            say(f"{split}: {len(chosen):,} samples, {events:,} counts, {dropped:,} events in no frame")
        _put(temporary / MARKER, json.dumps(marker, indent=1).encode())
        _sync(temporary)
        shutil.rmtree(place, ignore_errors=True)  # a folder without a marker is none of a whole cache
        os.replace(temporary, place)
        _sync(place.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(path: Path, chosen: Sequence[Sample], recipe: Recipe, workers: int) -> tuple[int, int]:
    """One .npy file of all samples, written as they come; the sum of the counts, and the events in no frame."""
    total, dropped, written = 0, 0, 0
    header = {"shape": (len(chosen), *recipe.shape), "fortran_order": False, "descr": recipe.dtype.str}
    with path.open("wb") as file:
        np.lib.format.write_array_header_2_0(file, header)
        for made in _made(chosen, recipe, workers):
            for frames in made:
                file.write(np.ascontiguousarray(frames.counts).data)
                total, dropped = total + int(frames.counts.sum(dtype=np.int64)), dropped + frames.dropped
                written += 1
        file.flush()
        os.fsync(file.fileno())
    if written != len(chosen):
        raise BuildError(f"{path.name}: {written:,} samples were made of {len(chosen):,}.")
    return total, dropped


def _made(chosen: Sequence[Sample], recipe: Recipe, workers: int) -> Iterator[list[Frames]]:
    """What a recipe makes of each file, in order; a few files are read ahead."""
    together = max(1, TOGETHER // (int(np.prod(recipe.shape)) * recipe.dtype.itemsize))
    groups = [list(group) for _, group in itertools.groupby(chosen, lambda sample: sample.path)]
    files = [group[i : i + together] for group in groups for i in range(0, len(group), together)]
    ahead: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(max(1, workers)) as pool:
        try:
            for group in files:
                ahead.append(pool.submit(_of_file, recipe, group))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _of_file(recipe: Recipe, group: list[Sample]) -> list[Frames]:
    path = group[0].path
    try:
        made = list(recipe(path, group))
    except (BadFile, ImportError, FileNotFoundError):
        raise
    except Exception as error:
        raise BuildError(f"{path}: {type(error).__name__}: {error}") from error
    kinds = {(frames.counts.shape, frames.counts.dtype) for frames in made}
    wrong = list(kinds - {(recipe.shape, recipe.dtype)})
    if wrong or len(made) != len(group):
        one = f", one of {wrong[0]}" if wrong else ""
        expected = f"{recipe.shape} of {recipe.dtype} each"
        raise BuildError(f"{path}: the recipe made {len(made)} samples of {len(group)}{one}; expected {expected}.")
    return made


def _put(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """What the folder lists is on the disk, before what is said of it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _load(place: Path, samples: Samples) -> dict[str, Split]:
    found = {}
    try:
        marker = json.loads((place / MARKER).read_bytes())["splits"]
        for split, chosen in samples.splits.items():
            path = place / f"{split}.npy"
            size, expected = path.stat().st_size, marker[split]["bytes"]
            if size != expected or marker[split]["samples"] != len(chosen):
                raise OSError(f"{path.name} has {size:,} bytes, and {expected:,} were written")
            frames = np.load(path, mmap_mode="r", allow_pickle=False)
            found[split] = Split(frames, samples.labels(split), marker[split]["dropped"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadFile(
            place / MARKER, 0, f"the cache is damaged ({error}). Delete {place}; it is made again."
        ) from error
    return found
