"""The parts of the run, each in a process of its own, so that none holds the accelerator's memory for the next."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from safjax.aot import DEVICES

ROOT = Path(__file__).parents[2]
KINDS = {"v5e": ("v5 lite", "v5e"), "v5p": ("v5p", "v5"), "v6e": ("v6 lite", "v6e")}
"""What devices are called that do not go by their names; the first that fits is taken."""
_RESULT = re.compile(r"(\S+::.+?) (PASSED|FAILED|ERROR)\b")
"""How `pytest -vv` tells of a test; names may have spaces."""


class Found(NamedTuple):
    """What JAX computes on.

    Attributes:
      platform: "cpu", "gpu" or "tpu".
      kind: its name as its maker has it.
      devices: how many there are.
    """

    platform: str
    kind: str
    devices: int

    @property
    def known(self) -> str | None:
        """Its name among `safjax.aot.DEVICES`, for the compiler; None of one that is not there."""
        words = f" {self.kind.lower().replace('-', ' ')} "
        called = {name: KINDS.get(name, (name,)) for name in DEVICES}
        return next((name for name, parts in called.items() if any(f" {part} " in words for part in parts)), None)


class Proofs(NamedTuple):
    """How the tests ended.

    Attributes:
      passed: how many.
      failed: their names.
      ended: whether all were run in the time that there was.
    """

    passed: int
    failed: tuple[str, ...]
    ended: bool


def found_device() -> Found | None:
    """What JAX finds; None where it does not start."""
    code = "import jax; d = jax.devices(); print(f'{d[0].platform}|{d[0].device_kind}|{len(d)}')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return None
    platform, kind, count = done.stdout.splitlines()[-1].split("|")
    return Found(platform, kind, int(count))


def proofs(selection: Sequence[str], seconds: float, say: Callable[[str], None]) -> Proofs:
    """Runs the tests of a selection, as pytest takes it.

    Raises:
      RuntimeError: none was run.
    """
    passed, failed = 0, []
    command = [sys.executable, "-m", "pytest", "-vv", "-p", "no:xdist", "-p", "no:cacheprovider", *selection]
    with _running(command, seconds) as (lines, timed_out):
        said = []
        for line in lines:
            said.append(line)
            if (result := _RESULT.match(line)) is not None:
                name, word = result.groups()
                passed += word == "PASSED"
                failed += [name] if word != "PASSED" else []
                say(f"{word.lower()} {name}")
    if not passed and not failed and not timed_out.is_set():
        raise RuntimeError(f"no test was run: {''.join(said)[-2000:]}")
    return Proofs(passed, tuple(dict.fromkeys(failed)), not timed_out.is_set())


def benchmark(flags: Sequence[str], seconds: float, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """The rows of the benchmark `rules` that were measured in time, or failed."""
    with tempfile.TemporaryDirectory(prefix="safjax-device-") as folder:
        command = [sys.executable, "-m", "experiments.benchmark", "rules", *flags, "--output", folder]
        with _running(command, seconds) as (lines, _):
            for line in lines:
                say(line.rstrip())
        file = Path(folder) / "rows.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@contextmanager
def _running(command: list[str], seconds: float) -> Iterator[tuple[Iterable[str], threading.Event]]:
    """A process's lines, and whether its time ran out; it has ended when this is left."""
    env = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "PYTHONUNBUFFERED": "1"}
    timed_out = threading.Event()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=env, start_new_session=True
    ) as process:

        def end() -> None:
            timed_out.set()
            _end(process)

        timer = threading.Timer(max(seconds, 1), end)
        timer.start()
        try:
            yield process.stdout or (), timed_out
        finally:
            timer.cancel()
            if process.poll() is None:
                _end(process)


def _end(process: subprocess.Popen) -> None:
    """With all that it has started: rows of the benchmark are processes of their own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
