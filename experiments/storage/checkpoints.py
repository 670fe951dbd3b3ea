"""The checkpoints of a run: written in the background, whole or not at all, and believed only with their checksums.

    checkpoints/STEP/net/          every variable of the net (orbax)
    checkpoints/STEP/optimizer/    the optimizer's state
    checkpoints/STEP/values/       JSON: how far the run had come, what it had recorded, its configuration
    checkpoints/STEP/SHA256SUMS    of all these files; written last (`sha256sum --check SHA256SUMS`)

Arrays and JSON are data: reading a checkpoint executes nothing that it holds.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import orbax.checkpoint as ocp

from experiments.config import ConfigError
from experiments.console.messages import warn
from experiments.storage.arrays import Arrays
from experiments.storage.folders import replace
from experiments.storage.quiet_orbax import quiet_orbax

SUMS = "SHA256SUMS"

# Of several processes that train together one saves, and waits for nobody.
ALONE = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})


class Snapshot(NamedTuple):
    """A run at one moment.

    Attributes:
      step: of two moments of a run, the later one has the larger.
      net, optimizer: their arrays by name.
      values: everything else, made of what JSON has: lists, not tuples. Among it is "best", the step of the
        checkpoint with the best test accuracy or None.
    """

    step: int
    net: Arrays
    optimizer: Arrays
    values: dict[str, Any]


class Damaged(ValueError):
    """A checkpoint that is not what was written."""


class SaveFailed(OSError):
    """A checkpoint, or another result, could not be written; the message says why."""


class Checkpoints:
    """Writes checkpoints into a folder, in a thread of its own.

    Each leaves about 0.7 kB an array behind in memory, as orbax 0.12.8 with tensorstore 0.1.86 does alone; near half
    of it are strings of which tensorstore's `KvStore.Spec.to_json()` loses count, 257 bytes a call.

    Args:
      keep: how many of the latest are kept, beside the best.

    Attributes:
      path: the folder.
    """

    def __init__(self, path: Path, keep: int):
        self.path, self._keep = path, keep
        self._worker = ThreadPoolExecutor(1, "checkpoints")
        self._saving: Future[None] | None = None
        self._manager: ocp.CheckpointManager | None = None
        self._quiet = contextlib.ExitStack()
        self._quiet.enter_context(quiet_orbax())

    @property
    def busy(self) -> bool:
        """Whether one is being written."""
        return self._saving is not None and not self._saving.done()

    def save(self, snapshot: Snapshot) -> None:
        """Writes in the background what nobody changes any more, then deletes what need not be kept; after `wait()`."""
        self._saving = self._worker.submit(self._write, snapshot)

    def wait(self) -> None:
        """Waits until the one under way is written.

        Raises:
          SaveFailed: it could not be; those before it are as they were.
        """
        saving, self._saving = self._saving, None
        if saving is not None and (error := saving.exception()) is not None:
            raise SaveFailed(f"a checkpoint could not be written to {self.path}: {_first_line(error)}") from error

    def close(self) -> None:
        """Ends the thread, after what it is doing."""
        self._worker.shutdown()
        self._quiet.close()

    def _write(self, snapshot: Snapshot) -> None:
        self.path.mkdir(exist_ok=True)
        manager, self._manager = self._manager or _manager(self.path), None
        folder = self.path / str(snapshot.step)
        if not folder.exists():
            manager.save(snapshot.step, args=_save(snapshot), force=True)
        sums = "".join(f"{checksum}  {name}\n" for name, checksum in _checksums(folder).items())
        replace(folder / SUMS, sums)
        kept = {*steps(self.path)[: self._keep], snapshot.values["best"]}
        for step in set(manager.all_steps()) - kept:
            manager.delete(step)
        # Left out after a failure: a new manager begins with clearing away what was half written.
        self._manager = manager


def _manager(path: Path) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
        create=False, cleanup_tmp_directories=True, enable_async_checkpointing=False, multiprocessing_options=ALONE
    )
    return ocp.CheckpointManager(path, options=options)


def _save(snapshot: Snapshot) -> ocp.args.Composite:
    net, optimizer = ocp.args.StandardSave(snapshot.net), ocp.args.StandardSave(snapshot.optimizer)
    return ocp.args.Composite(net=net, optimizer=optimizer, values=ocp.args.JsonSave(snapshot.values))


def steps(path: Path) -> list[int]:
    """The steps of the checkpoints in a folder, the latest first."""
    return [step for step in _folders(path) if (path / str(step) / SUMS).exists()]


def latest(path: Path, items: Sequence[str] = ("net", "optimizer")) -> Snapshot | None:
    """The latest checkpoint in a folder that is whole, None without any; says which ones before it are damaged.

    Raises:
      ConfigError: all are damaged.
    """
    found, problems = steps(path), []
    for step in found:
        try:
            snapshot = read(path, step, items)
        except Damaged as error:
            problems.append(str(error))
            continue
        for problem in problems:
            warn(f"{problem}; the checkpoint of step {step} is used")
        return snapshot
    if problems:
        raise ConfigError(
            f"no checkpoint in {path} can be used: {'; '.join(problems)}. Put a sound copy back, or begin the run "
            "anew in another folder."
        )
    return None


def set_aside(path: Path, step: int) -> None:
    """Renames the checkpoints after `step`, STEP to STEP.damaged, to make room for sound ones."""
    for other in _folders(path):
        if other > step:
            aside = path / f"{other}.damaged"
            shutil.rmtree(aside, ignore_errors=True)
            (path / str(other)).rename(aside)


def _folders(path: Path) -> list[int]:
    """The same, with those that a kill has left without their checksums."""
    names = [entry.name for entry in path.iterdir()] if path.exists() else []
    return sorted((int(name) for name in names if name.isdecimal()), reverse=True)


def read(path: Path, step: int, items: Sequence[str] = ("net", "optimizer")) -> Snapshot:
    """One checkpoint of a folder.

    Args:
      items: the arrays to read; those left out are empty.

    Raises:
      Damaged: it is not as it was written.
    """
    wanted = {item: ocp.args.StandardRestore() for item in items}
    try:
        # First of all: nothing is read that is not as it was written.
        _check(path / str(step))
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler(), multiprocessing_options=ALONE) as reader:
            got = reader.restore(path / str(step), args=ocp.args.Composite(**wanted, values=ocp.args.JsonRestore()))
    except Exception as error:  # Whatever may go wrong in reading what may be anything.
        raise Damaged(f"{path / str(step)} is damaged: {_first_line(error)}") from error
    return Snapshot(step, got["net"], got["optimizer"] if "optimizer" in items else {}, got["values"])


def _check(folder: Path) -> None:
    """Raises Damaged if a file is not as its checksum has it."""
    lines = [line.partition("  ") for line in (folder / SUMS).read_text().splitlines()]
    expected = {name: checksum for checksum, _, name in lines}
    found = _checksums(folder)
    if wrong := sorted(name for name in expected.keys() | found.keys() if found.get(name) != expected.get(name)):
        raise Damaged(f"{wrong[0]} {'is not as its checksum says' if wrong[0] in found else 'is missing'}")


def _checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its path."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and SUMS not in file.name)
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
