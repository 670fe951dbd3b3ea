"""Step time, temporary memory and compile time of a training step under each rule.

    python -m experiments.benchmark                     # the published VGG, batch 16, T = 6
    python -m experiments.benchmark --unrolled          # and against each rule's fully unrolled time loop
    python -m experiments.benchmark --methods saf_f ottt_a --steps 32
    python -m experiments.benchmark --network=dense --methods bptt exodus slayer sltt --repeats 15

One process; the rules take turns, so that whatever else the machine does falls on all of them. The time is the median
over `repeats` turns, and its ratio to that of the first row; memory is the compiler's own figure for temporary buffers.
Prints a Markdown table.
"""

import dataclasses
import functools
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Literal, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import nnx

import safjax
from experiments.losses import mean_loss
from safjax.rules import RULES, Rule, bptt

METHODS: dict[str, Callable[[], Rule]] = {
    **RULES,
    "bptt_layerwise": functools.partial(bptt, layerwise=True),
    "bptt_remat": functools.partial(bptt, remat=True),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure."""

    methods: tuple[str, ...] = tuple(RULES)
    """Rules by name, and bptt_layerwise and bptt_remat; the first one is what the others are compared with."""
    network: Literal["vgg", "dense"] = "vgg"
    """The published VGG, shown images; or dense layers 700-256-256-20, fed with random spikes."""
    steps: int | None = None
    """Time steps T; None is 6 for vgg, 100 for dense."""
    batch_size: int | None = None
    """Examples a step; None is 16 for vgg, 64 for dense."""
    width: float = 1.0
    """Factor of all channels of vgg, of the hidden neurons of dense."""
    image_size: int | None = None
    """Height and width of the images of vgg; None is 32."""
    repeats: int = 7
    """Timed turns of each rule, after one that is not timed."""
    unrolled: bool = False
    """Also compile each rule without a loop, all T steps written out."""


class Task(NamedTuple):
    """What is trained, and on what.

    Attributes:
      title: in words.
      steps: T.
      static: whether the inputs are images, shown for T steps, or time-major sequences.
    """

    title: str
    net: nnx.Module
    inputs: jax.Array
    labels: jax.Array
    mse_weight: float
    optimizer: optax.GradientTransformation
    steps: int
    static: bool


@dataclasses.dataclass
class Row:
    """One line of the table."""

    name: str
    compile_seconds: float
    temp_megabytes: float
    turn: Callable[[], None]
    seconds: list[float] = dataclasses.field(default_factory=list)

    @property
    def median(self) -> float:
        """Seconds of a step."""
        return statistics.median(self.seconds)

    def line(self, first: "Row") -> str:
        """In Markdown, compared with the first row."""
        spread = f"{duration(self.median)} ({duration(min(self.seconds))} – {duration(max(self.seconds))})"
        ratio = f"{self.median / first.median:.2f}"
        return f"| {self.name} | {spread} | {ratio} | {self.temp_megabytes:.1f} | {self.compile_seconds:.1f} |"


def vgg(options: Options) -> Task:
    """Images with power at low frequencies, so that deep layers fire."""
    steps, batch, size = options.steps or 6, options.batch_size or 16, options.image_size or 32
    coarse = np.random.default_rng(0).normal(size=(batch, size // 8, size // 8, 3))
    images = coarse.repeat(8, 1).repeat(8, 2).astype(np.float32)
    net = safjax.models.SpikingVGG(10, width=options.width, rngs=nnx.Rngs(0))
    title = f"VGG × {options.width}, {'×'.join(map(str, images.shape[1:]))}, batch {batch}, T = {steps}"
    optimizer = optax.sgd(0.01, momentum=0.9)
    return Task(title, net, jnp.asarray(images), jnp.arange(batch) % 10, 0.05, optimizer, steps, static=True)


def dense(options: Options) -> Task:
    """Spike trains x[T, B, 700] in which each unit fires at random in 3 % of the steps."""
    steps, batch, rate = options.steps or 100, options.batch_size or 64, 0.03
    hidden = max(1, round(256 * options.width))
    sizes = (700, hidden, hidden, 20)
    spikes = np.random.default_rng(0).random((steps, batch, sizes[0])) < rate
    net = safjax.models.SpikingMLP(sizes, input_rate=rate, rngs=nnx.Rngs(0))
    title = f"dense {'-'.join(map(str, sizes))}, {rate:.0%} spikes, batch {batch}, T = {steps}"
    inputs, labels = jnp.asarray(spikes, jnp.float32), jnp.arange(batch) % sizes[-1]
    return Task(title, net, inputs, labels, 0.0, optax.adam(1e-3), steps, static=False)


def prepare(name: str, task: Task, unrolled: bool) -> Row:
    """Compiles the training step of a rule and makes the function that takes one step."""
    loss = functools.partial(mean_loss, mse_weight=task.mse_weight)
    step = safjax.train_step(loss, METHODS[name](), task.optimizer, task.steps if task.static else None)
    state = [task.net, step.init(task.net)]

    def turn() -> None:
        state[0], state[1], (value, _) = step(state[0], state[1], task.inputs, task.labels)
        jax.block_until_ready((value, state[1]))

    scan = functools.partial(jax.lax.scan, unroll=task.steps) if unrolled else jax.lax.scan
    with mock.patch("jax.lax.scan", scan):
        began = time.perf_counter()
        compiled = step.lower(task.net, state[1], task.inputs, task.labels).compile()
        seconds = time.perf_counter() - began
        turn()
    megabytes = compiled.memory_analysis().temp_size_in_bytes / 1e6
    return Row(f"{name}, unrolled" if unrolled else name, seconds, megabytes, turn)


def main(arguments: list[str] | None = None) -> None:
    """Measures and prints."""
    options = tyro.cli(Options, args=arguments, prog="python -m experiments.benchmark", description=__doc__)
    _check(options)
    task = vgg(options) if options.network == "vgg" else dense(options)
    forms = [False, True] if options.unrolled else [False]
    rows = [prepare(name, task, unrolled) for name in options.methods for unrolled in forms]
    for _ in range(options.repeats):
        for row in rows:
            began = time.perf_counter()
            row.turn()
            row.seconds.append(time.perf_counter() - began)
    print(
        f"{task.title}, float32, {jax.default_backend()}, {os.cpu_count()} cores, "
        f"load average {os.getloadavg()[0]:.1f}, jax {jax.__version__}\n"
    )
    print(f"| rule | step, median (min – max) | ÷ {rows[0].name} | temp MB | compile s |\n|---|---|---|---|---|")
    for row in rows:
        print(row.line(rows[0]))


def duration(seconds: float) -> str:
    """In milliseconds below one second."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def _check(options: Options) -> None:
    unknown = set(options.methods) - set(METHODS)
    if unknown:
        sys.exit(f"--methods: unknown {', '.join(sorted(unknown))}; known are {', '.join(METHODS)}.")
    if not options.methods:
        sys.exit(f"--methods: none given; known are {', '.join(METHODS)}.")
    if not options.width > 0:
        sys.exit(f"--width={options.width} is not possible: expected a number above 0.")
    for name in ("steps", "batch_size", "repeats"):
        value = getattr(options, name)
        if value is not None and value < 1:
            sys.exit(f"--{name.replace('_', '-')}={value} is not possible: expected a whole number, 1 or more.")
    if options.image_size is not None and (options.network == "dense" or options.image_size < 8):
        sys.exit(f"--image-size={options.image_size} is not possible: expected 8 or more, and --network=vgg.")


if __name__ == "__main__":
    main()
