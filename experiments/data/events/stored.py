"""Published recordings that lie in a folder: found, counted into bins once, and kept so."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.config import Data
from experiments.console.messages import say, warn
from experiments.data.errors import DataCorrupt, DataUnavailable
from experiments.data.events.binned import Binned, Events
from experiments.data.events.lines import memory, of_splits, of_validation
from safjax.data import BadFile, BuildError, Recipe, cached
from safjax.data.datasets import Incomplete, Samples

Read = Callable[[Path], Samples]
"""Folder ↦ which file is which sample."""


def stored(
    name: str,
    places: Sequence[tuple[Path, Read]],
    how: str,
    recipe: Callable[[Data, int], Recipe],
    *,
    cache: Path,
    used: tuple[str, ...],
    note: str = "",
) -> Events:
    """A data set of files.

    Args:
      name: as given to `load`.
      places: folders where it may lie, each with what reads that layout.
      how: where it is to be had, and how it is to be placed.
      recipe: (flags, T) ↦ what is kept of a recording.
      cache: folder of the counts.
      used: as of `Events`.
      note: one more thing to know of it.

    Raises:
      DataUnavailable: it is in none of the places, or a library is missing.
      DataCorrupt: a file is malformed.
    """
    samples = _found(name, places, how)

    def make(data: Data, steps: int) -> Binned:
        kept = recipe(data, steps)
        try:
            splits = cached(cache, samples, kept, say=say)
        except (BadFile, BuildError) as error:
            raise DataCorrupt(f"the data set {name!r} is damaged: {error}") from error
        except OSError as error:
            raise DataUnavailable(f"the data set {name!r} cannot be counted into bins: {error}") from error
        train, test = splits["train"], splits["test"]
        batch = 4 * data.batch_size * data.chain * int(train.frames[0].size)
        about = (
            f"{samples.name}: T = {kept}; counts {' × '.join(map(str, kept.shape[1:]))}",
            of_splits(train, test, samples.rule),
            *([of_validation(splits["valid"])] if "valid" in splits else []),
            f"{memory(train, test, f'on disk, in {cache}')}, {batch / 1e6:,.0f} MB a batch on the device",
            *([note] if note else []),
        )
        return Binned(name, train, test, samples.classes, about, valid=splits.get("valid"))

    return Events(name, used, make)


def _found(name: str, places: Sequence[tuple[Path, Read]], how: str) -> Samples:
    for folder, read in places:
        if not folder.is_dir():
            continue
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always", Incomplete)
                samples = read(folder)
        except FileNotFoundError:
            continue
        except ImportError as error:
            raise DataUnavailable(f"the data set {name!r} cannot be read: {error}") from error
        except ValueError as error:
            raise DataCorrupt(f"the data set {name!r} is damaged: {error}") from error
        for warning in told:
            warn(str(warning.message))
        if empty := [split for split in ("train", "test") if not samples.splits[split]]:
            raise DataCorrupt(
                f"the data set {name!r} in {folder} has no sample of its split {empty[0]} ({samples.rule})."
            )
        return samples
    looked = "\n".join(f"  - {folder}" for folder, _ in places)
    raise DataUnavailable(
        f"the data set {name!r} is not stored here, or not all of it. Looked for in\n{looked}\n{how}\n"
        "To go on without any download, use the data set 'saccades'."
    )
