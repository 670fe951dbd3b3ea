"""Which folder a run has, and that it has it alone."""

import contextlib
import fcntl
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from experiments.config import Config, ConfigError, differences
from experiments.console.messages import warn

LOCK = "lock"
BEGINNINGS = {LOCK, ".config.json.new"}
"""What a run leaves that is killed before it has written its configuration."""


class Claim(NamedTuple):
    """A folder, the lock on it, and the configuration that was found there: of an earlier part of the run, or None.

    The system takes the lock back when the process ends, however it ends.
    """

    path: Path
    lock: TextIO
    stored: dict[str, Any] | None


def claim(config: Config) -> Claim:
    """Makes the folder of a new run, or opens that of the one to be resumed.

    Raises:
      ConfigError: the folder holds something else, another process trains in it, or the run there is another one.
      OSError: the folder cannot be written.
    """
    check = _check_run if config.run.resume else _check_empty
    path = _folder(config) or _next_number(config)
    path.mkdir(parents=True, exist_ok=True)
    # Before the lock, so that nothing is written where something else is; and after it, since only then nobody writes.
    check(path)
    lock = _locked(path)
    check(path)
    stored = stored_config(path)
    if stored is not None:
        check_same(stored, config, path)
    return Claim(path, lock, stored)


def finished(config: Config) -> dict[str, Any] | None:
    """The summary of the run to be resumed, if there is nothing left to do.

    Raises:
      ConfigError: the run there is another one.
    """
    path = _folder(config) if config.run.resume else None
    summary = None if path is None else summary_of(path)
    if path is None or summary is None or summary["interrupted"]:
        return None
    check_same(stored_config(path) or {}, config, path)
    return summary


def summary_of(path: Path) -> dict[str, Any] | None:
    """`summary.json` of a folder, or None."""
    return _json(path / "summary.json", "interrupted")


def stored_config(path: Path) -> dict[str, Any] | None:
    """`config.json` of a folder, or None."""
    return _json(path / "config.json", "method")


def check_same(stored: dict[str, Any], config: Config, path: Path) -> None:
    """Raises ConfigError if the run in `path` is not the one that `config` describes."""
    if different := differences(stored, config):
        raise ConfigError(
            f"the run in {path} is another one: {'; '.join(different)}. Resume it with its own flags, or begin another "
            "run without --resume."
        )


def replace(path: Path, text: str) -> None:
    """Writes a file anew: whoever reads it, and after a kill at any moment, finds the old text or the new."""
    new = path.with_name(f".{path.name}.new")
    # Whatever the locale: a page says that it is UTF-8.
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _folder(config: Config) -> Path | None:
    """The folder that is given, or the one to be resumed; None if a new number is to be taken."""
    if config.run.workdir is not None:
        return Path(config.run.workdir).expanduser().absolute()
    if not config.run.resume:
        return None
    there = list(itertools.takewhile(Path.is_dir, _numbers(config)))
    unfinished = [path for path in there if (summary_of(path) or {"interrupted": True})["interrupted"]]
    return next(reversed(unfinished or there), None)


def _numbers(config: Config) -> Iterator[Path]:
    name = f"{config.data.dataset}-{config.training.method}-{config.training.seed}"
    for number in itertools.count(1):
        yield Path("runs").absolute() / (name if number == 1 else f"{name}-{number}")


def _next_number(config: Config) -> Path:
    for path in _numbers(config):
        # Making it is claiming it: of two runs that start together, one gets the next number.
        with contextlib.suppress(FileExistsError):
            path.mkdir(parents=True)
            break
    return path


def _check_empty(path: Path) -> None:
    if {entry.name for entry in path.iterdir()} - BEGINNINGS:
        raise ConfigError(
            f"--workdir={path} is not empty, and results are never written over. Give a folder that is new or empty, "
            "or --resume to continue the run there."
        )


def _check_run(path: Path) -> None:
    """Raises ConfigError for a folder with something in it that is no run."""
    if path.exists() and stored_config(path) is None and {entry.name for entry in path.iterdir()} - BEGINNINGS:
        raise ConfigError(
            f"{path} holds something, but no run that could be resumed: there is no config.json. Put that file back, "
            "or give the folder of a run with --workdir, or a folder that is new or empty."
        )


def _locked(path: Path) -> TextIO:
    lock = (path / LOCK).open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise ConfigError(
            f"another process is training in {path}. Wait for its end, or give another folder with --workdir."
        ) from None
    except OSError as error:
        warn(f"{path} cannot be locked ({error}): see to it that no other process trains there")
    return lock


def _json(path: Path, needed: str) -> dict[str, Any] | None:
    """The object in a file, which has a certain field; None where there can be no such file."""
    if not os.path.exists(path):
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or needed not in values:
            raise ValueError(f"it has no {needed!r}")
        return values
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}. It is written once and whole, so something else has changed it: put the "
            "file back as it was, or begin another run in another folder."
        ) from error
