"""Step time, temporary memory and compile time of a training step under each rule.

    python -m experiments.benchmark                     # the published VGG, batch 16, T = 6
    python -m experiments.benchmark --unrolled          # and against each rule's fully unrolled time loop
    python -m experiments.benchmark --methods saf_f ottt_a --steps 32

One process; the rules take turns, so that whatever else the machine does falls on all of them. The time is the median
over `repeats` turns; memory is the compiler's own figure for temporary buffers. Prints a Markdown table.
"""

import dataclasses
import functools
import os
import statistics
import sys
import time
from collections.abc import Callable
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import nnx

import safjax
from experiments.losses import mean_loss
from safjax.rules import RULES


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure."""

    methods: tuple[str, ...] = tuple(RULES)
    """Rules by name."""
    steps: int = 6
    """Time steps T."""
    batch_size: int = 16
    """Images a step."""
    width: float = 1.0
    """Factor of all channels of the published VGG."""
    image_size: int = 32
    """Height and width of the images."""
    repeats: int = 7
    """Timed turns of each rule, after one that is not timed."""
    unrolled: bool = False
    """Also compile each rule without a loop, all T steps written out."""


@dataclasses.dataclass
class Row:
    """One line of the table."""

    name: str
    compile_seconds: float
    temp_megabytes: float
    turn: Callable[[], None]
    seconds: list[float] = dataclasses.field(default_factory=list)


def batch(options: Options) -> tuple[jax.Array, jax.Array]:
    """Images with power at low frequencies, so that deep layers fire, and labels."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(options.batch_size, options.image_size // 8, options.image_size // 8, 3))
    images = coarse.repeat(8, 1).repeat(8, 2).astype(np.float32)
    return jnp.asarray(images), jnp.arange(options.batch_size) % 10


def prepare(name: str, options: Options, unrolled: bool) -> Row:
    """Compiles the training step of a rule and makes the function that takes one step."""
    net = safjax.models.SpikingVGG(10, width=options.width, rngs=nnx.Rngs(0))
    loss = functools.partial(mean_loss, mse_weight=0.05)
    step = safjax.train_step(loss, RULES[name](), optax.sgd(0.01, momentum=0.9), options.steps)
    images, labels = batch(options)
    state = [net, step.init(net)]

    def turn() -> None:
        state[0], state[1], (value, _) = step(state[0], state[1], images, labels)
        jax.block_until_ready((value, state[1]))

    scan = functools.partial(jax.lax.scan, unroll=options.steps) if unrolled else jax.lax.scan
    with mock.patch("jax.lax.scan", scan):
        began = time.perf_counter()
        compiled = step.lower(net, state[1], images, labels).compile()
        seconds = time.perf_counter() - began
        turn()
    megabytes = compiled.memory_analysis().temp_size_in_bytes / 1e6
    return Row(f"{name}, unrolled" if unrolled else name, seconds, megabytes, turn)


def main(arguments: list[str] | None = None) -> None:
    """Measures and prints."""
    options = tyro.cli(Options, args=arguments, prog="python -m experiments.benchmark")
    unknown = set(options.methods) - set(RULES)
    if unknown:
        sys.exit(f"--methods: unknown {', '.join(sorted(unknown))}; known are {', '.join(RULES)}.")
    forms = [False, True] if options.unrolled else [False]
    rows = [prepare(name, options, unrolled) for name in options.methods for unrolled in forms]
    for _ in range(options.repeats):
        for row in rows:
            began = time.perf_counter()
            row.turn()
            row.seconds.append(time.perf_counter() - began)
    print(
        f"VGG × {options.width}, {options.image_size}×{options.image_size}×3, batch {options.batch_size}, "
        f"T = {options.steps}, float32, {jax.default_backend()}, {os.cpu_count()} cores, "
        f"load average {os.getloadavg()[0]:.1f}, jax {jax.__version__}\n"
    )
    print("| rule | s a step, median (min – max) | temp MB | compile s |\n|---|---|---|---|")
    for row in rows:
        spread = f"{statistics.median(row.seconds):.2f} ({min(row.seconds):.2f} – {max(row.seconds):.2f})"
        print(f"| {row.name} | {spread} | {row.temp_megabytes:.1f} | {row.compile_seconds:.1f} |")


if __name__ == "__main__":
    main()
