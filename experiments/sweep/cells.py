"""One cell of a sweep: a run as a process of its own."""

import contextlib
import fcntl
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from experiments.config import ConfigError
from experiments.console.interrupt import Interrupt
from experiments.console.messages import warn
from experiments.storage import folders
from experiments.sweep.grid import Cell, folder

PAUSE = 0.2
"""Seconds between looks at a process."""


class Result(NamedTuple):
    """What came of a cell.

    Attributes:
      summary: as the run printed it last; None before its end.
      error: the last words of a run that failed.
    """

    cell: Cell
    status: Literal["finished", "unfinished", "failed"]
    summary: dict[str, Any] | None = None
    error: str | None = None

    @property
    def words(self) -> str:
        """For people."""
        if self.status == "finished" and self.summary is not None:
            return f"test accuracy {self.summary['test_accuracy']:.2%}, {self.summary['seconds']:.0f} s"
        return self.status if self.error is None else f"{self.status}: {self.error}"


def known(sweep: Path, cell: Cell) -> Result:
    """What its folder tells of a cell.

    Raises:
      ConfigError: it holds another run, or its files cannot be read.
    """
    path = folder(sweep, cell)
    stored, summary = folders.stored_config(path), folders.summary_of(path)
    if stored is not None:
        folders.check_same(stored, cell.config, path)
    if stored is None or summary is None or summary["interrupted"]:
        return Result(cell, "unfinished")
    return Result(cell, "finished", summary)


def run(experiment: str, sweep: Path, interrupt: Interrupt, cell: Cell) -> Result:
    """Runs a cell, or resumes it; hands on a signal that asks to stop, upon which the run saves."""
    log = sweep / f"{cell.name}.log"
    try:
        with log.open("ab") as file:
            waited = _lock(file, cell, interrupt)
            before = known(sweep, cell)
            if not waited or before.status == "finished":
                return before
            code = _run(_command(experiment, sweep, cell), file, interrupt)
        result = known(sweep, cell)
    except (ConfigError, OSError) as error:
        return Result(cell, "failed", error=str(error))
    if result.status == "finished" or interrupt.signal is not None:
        return result
    return Result(cell, "failed", error=_last_words(log, code))


def _command(experiment: str, sweep: Path, cell: Cell) -> list[str]:
    program = [sys.executable, "-m", f"experiments.{experiment}"]
    return [*program, *cell.flags, f"--workdir={folder(sweep, cell)}", "--resume"]


def _run(command: list[str], log: BinaryIO, interrupt: Interrupt) -> int:
    """The exit code."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        # Ctrl-C on a terminal goes to a whole session: handed on, it would come twice, and a second one does not save.
        start_new_session=True,
    )
    told = False
    while (code := process.poll()) is None:
        if interrupt.signal is not None and not told:
            process.send_signal(interrupt.signal)
            told = True
        time.sleep(PAUSE)
    return code


def _lock(log: BinaryIO, cell: Cell, interrupt: Interrupt) -> bool:
    """Waits until no other process is at work on the cell, and keeps others off; False if asked to stop meanwhile.

    The run inherits the lock together with its output: it holds as well if this process is killed and the run goes on.
    """
    waiting = False
    while interrupt.signal is None:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        if not waiting:
            warn(f"another process is at work on {cell.name}: waiting for its end")
            waiting = True
        time.sleep(PAUSE)
    return False


def _last_words(log: Path, code: int) -> str:
    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    by = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"{by}; {said[-1] if said else 'it said nothing'} ({log})"
