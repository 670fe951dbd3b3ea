"""One run, killed again and again at random moments and damaged once, beside the same run left in peace.

    python -m tests.experiments.chaos --kills=20 --minutes=60

Both must end with the same metrics and the same arrays, to the last bit. A copy, made at the last kill, is finished on
two devices: the same before, and nearly the same after. The moments are drawn from --seed, which is printed: while
Python starts, while the net compiles, while a checkpoint is written, while the net trains. On failure the folder with
the output of every process is kept.
"""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import tyro

from experiments.storage import checkpoints

NET = ("--layers", "4", "M", "8", "--steps=2", "--batch-size=128", "--save-every=3")
PATIENCE = 600
"""Seconds after which a process that does not get to where it is to be killed counts as hanging."""


@dataclasses.dataclass(frozen=True)
class Options:
    """How much chaos."""

    kills: int = 20
    """Kills by SIGKILL; a SIGTERM comes on top."""
    minutes: float = 60
    """How long the undisturbed run takes, roughly, if --epochs does not say."""
    epochs: int | None = None
    """Epochs of the run."""
    method: str = "saf_e"
    """Learning rule."""
    seed: int | None = None
    """Of the random moments; None draws one."""


class Process:
    """A process that trains, with what it says going to a file."""

    def __init__(self, folder: Path, log: Path, flags: tuple[str, ...]):
        self.folder, self.log = folder, log
        command = [sys.executable, "-m", "experiments.digits", f"--workdir={folder}", "--resume", *flags]
        environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
        with log.open("w") as file:
            self._process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)

    def wait_until(self, reached: Callable[[], bool]) -> bool:
        """Waits for a moment; whether it came before the process ended."""
        until = time.monotonic() + PATIENCE
        while not reached():
            if self._process.poll() is not None:
                return False
            assert time.monotonic() < until, f"hangs: see {self.log}"
            time.sleep(0.002)
        return self._process.poll() is None

    def end(self, number: signal.Signals | None = None) -> int:
        """The exit code, after a signal if one is given."""
        if number is not None:
            self._process.send_signal(number)
        return self._process.wait(PATIENCE)


def after(seconds: float) -> Callable[[], bool]:
    """A moment so many seconds from now."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


def moment(kind: str, process: Process, epochs: int, dice: random.Random) -> bool:
    """Waits for a random moment of a kind, at most `epochs` on; whether it came."""
    if kind == "start":
        return process.wait_until(after(dice.uniform(0, 6)))
    if not process.wait_until(lambda: "parameters: " in process.log.read_text()):
        return False
    if kind == "compile":
        return process.wait_until(after(dice.uniform(0, 3)))
    lines = count(process.folder) + dice.randint(0, epochs)
    if not process.wait_until(lambda: count(process.folder) > lines):
        return False
    if kind == "train":
        return process.wait_until(after(dice.uniform(0, 0.5)))
    return process.wait_until(lambda: any(process.folder.glob("checkpoints/*tmp*"))) and process.wait_until(
        after(dice.uniform(0, 0.05))
    )


def count(folder: Path) -> int:
    """Lines of `metrics.jsonl`."""
    path = folder / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def kinds(dice: random.Random) -> Iterator[str]:
    """Kinds of moments: of every four, one of each."""
    while True:
        yield from dice.sample(["start", "compile", "save", "train"], 4)


def damage(folder: Path, dice: random.Random) -> int | None:
    """Changes a bit, or cuts off the end, of a file of the latest checkpoint; its step, None if it is the only one."""
    path = folder / "checkpoints"
    steps = checkpoints.steps(path)
    files = sorted(file for file in (path / str(steps[0])).rglob("*/d/*")) if len(steps) > 1 else []
    for file in dice.sample(files, len(files)):
        before = file.read_bytes()
        place = dice.randrange(len(before))
        changed = before[:place] + bytes([before[place] ^ 1 << dice.randrange(8)]) + before[place + 1 :]
        file.write_bytes(before[:place] if dice.random() < 0.5 else changed)
        try:
            checkpoints.read(path, steps[0])
        except checkpoints.Damaged:
            return steps[0]
        file.write_bytes(before)  # Not every byte is in use.
    return None


def calibrate(folder: Path, flags: tuple[str, ...], minutes: float) -> int:
    """How many epochs take so many minutes."""
    process = Process(folder / "calibration", folder / "calibration.txt", (*flags, "--epochs=4"))
    assert process.end() == 0, (folder / "calibration.txt").read_text()
    lines = (folder / "calibration" / "metrics.jsonl").read_text().splitlines()
    return max(10, round(60 * minutes / json.loads(lines[-1])["seconds"]))


def disturb(folder: Path, flags: tuple[str, ...], epochs: int, kills: int, dice: random.Random) -> Counter:
    """Trains to the end through all the kills; how many there were of each kind."""
    done, order, damaged = Counter(), kinds(dice), None
    for number in range(kills + 1):
        process = Process(folder, folder.parent / f"{number}.txt", flags)
        if number == kills // 2:  # Saved and stopped, so that all of what is damaged must be found.
            if moment("train", process, 0, dice):
                assert process.end(signal.SIGTERM) in (143, -signal.SIGTERM)
                done["sigterm"] += 1
            damaged = damage(folder, dice)
            assert damaged is not None
            continue
        kind = next(order)
        # What is left, divided among the kills to come: the run does not end before them.
        step = (epochs - count(folder)) // (kills - number + 2)
        assert moment(kind, process, step, dice), f"ended before it was killed {kills} times: {process.log.read_text()}"
        assert process.end(signal.SIGKILL) == -signal.SIGKILL
        done[kind] += 1
    shutil.copytree(folder, folder.with_name("two"))
    last = Process(folder, folder.parent / "last.txt", flags)
    assert last.end() == 0, last.log.read_text()
    said = "".join(log.read_text() for log in folder.parent.glob("*.txt"))
    assert f"checkpoints/{damaged} is damaged" in said
    done["resumed"], done["damaged"] = said.count("resumed in epoch"), 1
    return done


def differences(one: Path, other: Path) -> list[str]:
    """In what two finished runs differ, times apart."""
    found = []
    for name in ("metrics.jsonl", "summary.json"):
        mine, theirs = (timeless((folder / name).read_text()) for folder in (one, other))
        if mine != theirs:
            found.append(name)
    mine, theirs = (checkpoints.latest(folder / "checkpoints") for folder in (one, other))
    for item in ("net", "optimizer"):
        arrays, others = getattr(mine, item), getattr(theirs, item)
        names = arrays.keys() | others.keys()
        found += [f"{item} {name}" for name in sorted(names) if arrays[name].tobytes() != others[name].tobytes()]
    return found


def change_devices(folder: Path, peace: Path, flags: tuple[str, ...]) -> float:
    """Finishes an unfinished run on two devices; the distance of its last test loss from that of the run in peace."""
    before = checkpoints.latest(folder / "checkpoints").values["position"]["epoch"] - 1
    process = Process(folder, folder.with_suffix(".txt"), (*flags, "--devices=2"))
    assert process.end() == 0, process.log.read_text()
    mine, theirs = (timeless((run / "metrics.jsonl").read_text()) for run in (folder, peace))
    assert mine[:before] == theirs[:before] and len(mine) == len(theirs)
    return abs(mine[-1]["test_loss"] - theirs[-1]["test_loss"])


def timeless(text: str) -> list[dict]:
    """JSON values, one after another, without what two runs need not share."""
    values, decoder, text = [], json.JSONDecoder(), text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        text = text[end:].strip()
        own = ("seconds", "examples_per_second", "workdir")
        values.append({key: entry for key, entry in value.items() if key not in own})
    return values


def main(options: Options) -> dict:
    """Both runs; what happened. The folder with all files is removed only when they are equal."""
    seed = random.randrange(2**32) if options.seed is None else options.seed
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"seed {seed}, in {folder}", flush=True)
    flags = (*NET, f"--method={options.method}")
    epochs = options.epochs or calibrate(folder, flags, options.minutes)
    flags += (f"--epochs={epochs}",)
    began = time.monotonic()
    assert Process(folder / "peace", folder / "peace.txt", flags).end() == 0
    peace = time.monotonic() - began
    done = disturb(folder / "chaos", flags, epochs, options.kills, random.Random(seed))
    chaos = time.monotonic() - began - peace
    different = differences(folder / "peace", folder / "chaos")
    assert not different, f"seed {seed}: the runs differ in {', '.join(different)}; see {folder}"
    assert done["resumed"] > 0
    summary = json.loads((folder / "chaos" / "summary.json").read_text())
    distance = change_devices(folder / "two", folder / "peace", flags)
    assert distance < 0.05 * summary["test_loss"], f"seed {seed}: on two devices {distance} away; see {folder}"
    shutil.rmtree(folder)
    figures = {
        "epochs": epochs,
        "seconds_in_peace": peace,
        "seconds_in_chaos": chaos,
        "test_loss": summary["test_loss"],
    }
    return {"seed": seed, **done, **figures, "distance_on_two_devices": distance}


if __name__ == "__main__":
    print(json.dumps(main(tyro.cli(Options, description=__doc__))))
