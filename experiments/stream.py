"""A net that learns from a stream without end: it never returns to rest, and sees no sequence as a whole.

    python -m experiments.stream --method=ottt_o

Every pattern lights eight groups of channels one after the other, two steps each, in an order of its own: all patterns
have the same number of spikes, so that only time tells them apart. They follow each other without a break, those of the
batch at different times. Half-way their names are exchanged, and the net learns anew while the stream goes on. The
accuracy counts the answers at the last steps of patterns, each given before it is learned from. Of 100,000 steps, under
ottt_o and saf_e: 97 % and more before the names change and at the end, 62 to 69 % in the first 1,000 steps
after they have.
"""

import dataclasses
import resource
import sys
import time
from collections.abc import Iterator
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
import tyro
from flax import nnx

import safjax
from experiments.config import ConfigError
from safjax.nn import LIF, LeakyReadout, Synapse

PATTERNS, GROUPS, CHANNELS, DWELL = 4, 8, 5, 2
LENGTH, INPUTS = GROUPS * DWELL, GROUPS * CHANNELS
NOISE, SIGNAL = 0.02, 0.82
"""How likely a channel is to spike in a step, while its group is dark or lit."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What learns from the stream, and for how long.

    Raises:
      ConfigError: the numbers of steps do not divide each other.
    """

    method: Literal["ottt_o", "saf_e", "ottt_a", "sltt"] = "ottt_o"
    """Learning rule, with an update at every step or, of the others, after every chunk."""
    steps: int = 100_000
    """Time steps; at half of them the names of the patterns change."""
    chunk: int = 1
    """Time steps that one call takes."""
    every: int = 1_000
    """Time steps that a compiled loop takes, over which the accuracy is counted."""
    batch_size: int = 16
    """Streams side by side."""
    hidden: int = 100
    """Hidden neurons."""
    learning_rate: float = 1e-3
    """Of Adam."""
    seed: int = 0
    """Of the weights and the stream."""

    def __post_init__(self):
        if min(self.chunk, self.every, self.batch_size, self.hidden) < 1 or self.every % self.chunk:
            raise ConfigError(f"--every={self.every} must be a multiple of --chunk={self.chunk}, all sizes 1 or more.")
        if self.steps < 1 or self.steps % (2 * self.every):
            raise ConfigError(
                f"--steps={self.steps} is not possible: expected a multiple of {2 * self.every}, 2 × --every."
            )


class World(NamedTuple):
    """The pattern [B] that each stream shows, and how many of its steps [B] are over."""

    pattern: jax.Array
    position: jax.Array


def world_step(world: World, key: jax.Array) -> tuple[World, tuple[jax.Array, jax.Array, jax.Array]]:
    """(world, (spikes[B, INPUTS], patterns[B], whether this is a pattern's last step [B])) of the next step."""
    choice, noise = jax.random.split(key)
    members = world.pattern.shape
    drawn = jax.random.randint(choice, members, 0, PATTERNS)
    pattern = jnp.where(world.position == 0, drawn, world.pattern)
    orders = jax.vmap(lambda k: jax.random.permutation(k, GROUPS))(jax.random.split(jax.random.key(7), PATTERNS))
    lit = jnp.arange(INPUTS) // CHANNELS == orders[pattern, world.position // DWELL][:, None]
    spikes = jax.random.bernoulli(noise, jnp.where(lit, SIGNAL, NOISE)).astype(jnp.float32)
    last = world.position == LENGTH - 1
    return World(pattern, (world.position + 1) % LENGTH), (spikes, pattern, last)


def net_of(options: Options) -> nnx.Module:
    """One hidden layer. Its neurons and the readout forget with λ = 0.8, so a pattern wipes out the one before."""
    rngs = nnx.Rngs(options.seed)
    first = nnx.Linear(INPUTS, options.hidden, kernel_init=nnx.initializers.normal(0.3), rngs=rngs)
    second = nnx.Linear(options.hidden, PATTERNS, rngs=rngs)
    return nnx.Sequential(Synapse(first), LIF(decay=0.8), Synapse(second), LeakyReadout())


def loss(output: jax.Array, names: jax.Array) -> jax.Array:
    """Cross-entropy of one step."""
    return optax.softmax_cross_entropy_with_integer_labels(output, names).mean()


class Report(NamedTuple):
    """Of `every` steps: their number so far, the share of right answers, each layer's firing rate."""

    steps: int
    accuracy: float
    rates: dict[str, float]


def learn(options: Options) -> Iterator[Report]:
    """Learns from the stream; the names of the patterns are those of the next ones from half-way on."""
    rule = safjax.rules.RULES[options.method]()
    step = safjax.train_step(loss, rule, optax.adam(options.learning_rate), mean_over=1, outputs="all")
    net, members = net_of(options), jnp.arange(options.batch_size)
    state = step.start(net, jnp.zeros((1, options.batch_size, INPUTS)))
    world = World(members % PATTERNS, 5 * members % LENGTH)

    @jax.jit
    def run(learner, keys, names):
        def body(learner, keys):
            net, opt_state, state, world = learner
            world, (x, pattern, last) = jax.lax.scan(world_step, world, keys)
            targets = safjax.losses.Timed(names[pattern])
            net, opt_state, (_, aux) = step(net, opt_state, x, targets, state=state)
            right = jnp.argmax(aux.outputs, -1) == names[pattern]
            return (net, opt_state, aux.state, world), (jnp.sum(right & last), jnp.sum(last), aux.rates)

        learner, (right, of, rates) = jax.lax.scan(body, learner, keys.reshape(-1, options.chunk))
        return learner, right.sum() / of.sum(), jax.tree.map(jnp.mean, rates)

    learner, names = (net, step.init(net), state, world), jnp.arange(PATTERNS)
    for begin in range(0, options.steps, options.every):
        if begin == options.steps // 2:
            names = jnp.roll(names, 1)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(options.seed), begin), options.every)
        learner, accuracy, rates = run(learner, keys, names)
        yield Report(begin + options.every, float(accuracy), {path: float(rate) for path, rate in rates.items()})


def main() -> int:
    """Learns, and prints the accuracy before the names change, just after, and at the end."""
    options = tyro.cli(Options, prog="python -m experiments.stream", description=__doc__)
    began, half, shown = time.perf_counter(), options.steps // 2, max(options.steps // 10, options.every)
    for report in learn(options):
        if report.steps % shown and report.steps not in (options.every, half, half + options.every):
            continue
        said = " (the names have changed)" if report.steps == half + options.every else ""
        arrays = sum(array.nbytes for array in jax.live_arrays()) / 1e3
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
        print(
            f"{report.steps:>8} steps, {time.perf_counter() - began:6.1f} s: accuracy {report.accuracy:6.1%}, "
            f"{arrays:.0f} kB of arrays, {peak:.0f} MB at most{said}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
