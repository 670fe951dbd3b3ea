"""Programs compiled for devices that are not there, in a process of their own; what was compiled once is kept."""

import dataclasses
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from safjax.aot import plugins, worker
from safjax.aot.devices import Device
from safjax.aot.targets import target_of

CACHE = "~/.cache/safjax/aot"


class CompilationFailed(RuntimeError):
    """The compiler refused a program, or ended; the message says why in its own words."""


class Call(NamedTuple):
    """A compiled function's call: `jitted(*arguments)`, where shapes may stand for arrays."""

    jitted: Any
    arguments: tuple[Any, ...]


class Memory(NamedTuple):
    """Bytes on each device while a program runs.

    Attributes:
      arguments: what it is given.
      outputs: what it returns; `shared` of them lie where arguments lay that are not needed any more.
      temporary: what it needs meanwhile.
    """

    arguments: int
    outputs: int
    shared: int
    temporary: int

    @property
    def total(self) -> int:
        """All at once."""
        return self.arguments + self.outputs - self.shared + self.temporary


class Program(NamedTuple):
    """A compiled program.

    Attributes:
      device: for which it was compiled.
      devices: how many of them it runs on.
      memory: of each.
      text: what the compiler made of it, in XLA's language (HLO).
    """

    device: Device
    devices: int
    memory: Memory
    text: str


def compile_for(
    device: Device,
    calls: Mapping[str, Call],
    *,
    cache: str | None = CACHE,
    announce: Callable[[str], None] | None = None,
) -> dict[str, "Program | CompilationFailed"]:
    """Compiles the programs of some calls for a device that need not be there.

    Args:
      calls: by any names. Those of several devices are made for as many CPU devices, with meshes of one axis.
      cache: folder where compiled programs are kept; None keeps none.
      announce: is told what is compiled, before it is, and what is done.

    Returns:
      The programs; in the place of one that was refused, as one too large for a TPU is, the error.

    Raises:
      CompilerMissing: the compiler is not installed.
    """
    known = plugins.versions(device.platform)
    exports = {name: _exported(call, device.platform) for name, call in calls.items()}
    folder = None if cache is None else Path(cache).expanduser()
    found: dict[str, Program | CompilationFailed] = {}
    for count in sorted({exported.nr_devices for exported, _ in exports.values()}):
        part = {name: export for name, export in exports.items() if export[0].nr_devices == count}
        results = _results(part, target_of(device, count), known, folder, announce or (lambda _: None), device.title)
        for name, result in results.items():
            found[name] = result if isinstance(result, CompilationFailed) else Program(device, count, *result)
    return {name: found[name] for name in calls}


def _results(
    exports: dict[str, tuple[Any, list[int]]],
    target: dict[str, Any],
    known: dict[str, str],
    folder: Path | None,
    announce: Callable[[str], None],
    title: str,
) -> dict[str, Any]:
    """(memory, text) of each, or an error; from the folder, or compiled and put there."""
    keys = {name: _key(*export, target, known) for name, export in exports.items()}
    results = {} if folder is None else {name: _read(folder / key) for name, key in keys.items()}
    missing = {name: export for name, export in exports.items() if results.get(name) is None}
    if not missing:
        return results
    announce(f"compiling for {title}, 5 s to some minutes each: {', '.join(missing)}")
    made = _compile(missing, target, announce)
    for name, result in made.items():
        if folder is not None and not isinstance(result, CompilationFailed):
            _keep(folder / keys[name], *result)
    return results | made


def _exported(call: Call, platform: str) -> tuple[Any, list[int]]:
    """The program for a platform, of arrays to arrays, and which arguments it may use up."""
    traced = call.jitted.trace(*call.arguments)
    donated = [number for number, info in enumerate(jax.tree.leaves(traced.args_info)) if info.donated]
    exported = jax.export.export(call.jitted, platforms=[platform])(*call.arguments)
    inputs, outputs = (0,) * len(exported.in_avals), (0,) * len(exported.out_avals)
    return (
        dataclasses.replace(
            exported, in_tree=jax.tree.structure((inputs, {})), out_tree=jax.tree.structure(outputs), _get_vjp=None
        ),
        donated,
    )


def _key(exported: Any, donated: list[int], target: dict[Any, Any], known: dict[str, str]) -> str:
    told = json.dumps([donated, target, known, hashlib.sha256(Path(worker.__file__).read_bytes()).hexdigest()])
    return hashlib.sha256(f"{exported.mlir_module()}{told}".encode()).hexdigest()[:32]


def _read(path: Path) -> tuple[Memory, str] | None:
    try:
        memory = Memory(**json.loads((path / "memory.json").read_text()))
        with gzip.open(path / "program.hlo.gz", "rt", encoding="utf-8") as file:
            return memory, file.read()
    except (OSError, ValueError, TypeError, EOFError):
        # Not there, or of a process that was stopped while it wrote.
        return None


def _keep(path: Path, memory: Memory, text: str) -> None:
    """Where nothing can be written, nothing is kept."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(dir=path.parent))
        with gzip.open(new / "program.hlo.gz", "wt", encoding="utf-8") as file:
            file.write(text)
        (new / "memory.json").write_text(json.dumps(memory._asdict()))
        shutil.rmtree(path, ignore_errors=True)
        os.replace(new, path)
    except OSError:
        return


def _compile(exports: dict[str, Any], target: dict[Any, Any], announce: Callable[[str], None]) -> dict[str, Any]:
    numbers = {str(number): name for number, name in enumerate(exports)}
    with tempfile.TemporaryDirectory(prefix="safjax-aot-") as place:
        folder = Path(place)
        with plugins.importable():
            for number, name in numbers.items():
                (folder / f"{number}.program").write_bytes(exports[name][0].serialize())
        programs = {number: exports[name][1] for number, name in numbers.items()}
        (folder / "task.json").write_text(json.dumps({**target, "programs": programs}))
        said = _run(folder, target["platform"], numbers, announce)
        return {name: _result(folder, number, name, said) for number, name in numbers.items()}


def _run(folder: Path, platform: str, numbers: dict[str, str], announce: Callable[[str], None]) -> str:
    """Runs the process; returns what it had to say on stderr."""
    command = [sys.executable, "-P", worker.__file__, str(folder)]
    with (folder / "stderr").open("w+") as log:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=plugins.environment(platform)
        ) as running:
            try:
                for line in running.stdout or ():
                    announce(f"compiled {numbers.get(line.strip(), line.strip())}")
            finally:
                running.kill()
        log.seek(0)
        return log.read()


def _result(folder: Path, number: str, name: str, said: str) -> "tuple[Memory, str] | CompilationFailed":
    if (error := folder / f"{number}.error").exists():
        return CompilationFailed(f"{name}: {error.read_text()}")
    try:
        memory = json.loads((folder / f"{number}.json").read_text())
    except OSError:
        return CompilationFailed(f"{name}: the compiler ended without a result. Its last words:\n{said[-2000:]}")
    with gzip.open(folder / f"{number}.hlo.gz", "rt", encoding="utf-8") as file:
        return Memory(**memory), file.read()
