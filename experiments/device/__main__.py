"""Proves and measures safjax on the accelerator that JAX finds, beside what the compiler foretells: `make gpu`.

    python -m experiments.device
    python -m experiments.device --on=cpu     # a small trial of the same on a machine without an accelerator

It runs the tests marked `device` (theorems, goldens and equivalences in float64), the benchmark `rules` on the VGG, and
`safjax.cost` for a device of the same kind, and writes a Markdown table to --output, after each part anew.

    0    all tests passed, all rows were measured
    1    a test failed, a row failed, or there was no time left for all of it; the table says so
    2    there is no accelerator, or a flag is not possible
"""

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from experiments.device.runs import Found, Proofs, benchmark, found_device, proofs
from experiments.device.table import foretold, report

RULES = (
    *("saf_f", "spike_representation", "saf_e", "ottt_o", "ottt_a", "sltt"),
    *("bptt", "exodus", "exodus_segments"),
)
"""Of each kind those that differ in time or memory."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Where, and for how long."""

    on: Literal["accelerator", "cpu"] = "accelerator"
    """The CPU is for a trial: a few tests, and a small net."""
    output: Path = Path("gpu.md")
    """The table."""
    minutes: float = 20.0
    """For all of it; what is not done by then is left out."""
    steps: tuple[int, ...] = (6, 48)
    """Time steps T of the benchmark."""
    methods: tuple[str, ...] = RULES
    """Rules of the benchmark."""

    @property
    def tests(self) -> list[str]:
        """What pytest is to run."""
        if self.on == "cpu":
            return ["tests/test_theorems.py", "-m", "device", "-k", "theorem_1 and conv-static-leaky"]
        return ["tests", "-m", "device and not slow"]

    @property
    def net(self) -> list[str]:
        """The net of the benchmark, in its flags."""
        return ["--width=0.125", "--batch-size=2", "--image-size=8"] if self.on == "cpu" else []

    @property
    def rows(self) -> list[str]:
        """What the benchmark is to measure."""
        steps, methods = map(str, self.steps), self.methods
        return [*self.net, "--repeats=3", "--seconds=10", "--steps", *steps, "--methods", *methods]

    @property
    def plan(self) -> str:
        """What would be run."""
        return (
            f"  python -m pytest {' '.join(self.tests)}\n"
            f"  python -m experiments.benchmark rules {' '.join(self.rows)}\n"
            f"  safjax.cost of the same steps\nand written to {self.output}, in {self.minutes:g} minutes at most."
        )


def main(args: Sequence[str] | None = None) -> int:
    """Runs all parts.

    Args:
      args: the command line; None takes the program's.

    Returns:
      The exit code.
    """
    options = tyro.cli(Options, args=args, prog="python -m experiments.device", description=__doc__)
    found = found_device()
    if found is None or (found.platform == "cpu" and options.on == "accelerator"):
        print(
            "error: JAX finds no accelerator here. With one (`pip install 'safjax[gpu]'`, or the extra tpu) this runs\n"
            f"{options.plan}\nWrite --on=cpu for a small trial of it on this machine.",
            file=sys.stderr,
        )
        return 2
    return _run(options, found)


def _run(options: Options, found: Found) -> int:
    deadline = time.monotonic() + 60 * options.minutes

    def left() -> float:
        return deadline - time.monotonic()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def write(tested: Proofs, rows: Sequence[dict], costs: dict) -> None:
        options.output.write_text(report(found, tested, rows, costs, options.plan))

    # The rows are what cannot be had elsewhere: the tests may take two fifths of the time.
    tested = proofs(options.tests, 0.4 * left(), say)
    write(tested, [], {})
    rows = benchmark(options.rows, 0.8 * left(), say)
    write(tested, rows, {})
    costs = foretold(found.known, rows, left, say)
    write(tested, rows, costs)
    print(options.output)
    wanted = len(options.steps) * len(options.methods)
    return int(bool(tested.failed) or not tested.ended or len([r for r in rows if r["error"] is None]) < wanted)


if __name__ == "__main__":
    sys.exit(main())
