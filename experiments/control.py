"""A spiking policy that learns to balance a pole while it acts: an actor-critic with an update at every time step.

    python -m experiments.control --method=ottt_o

A cart is pushed left or right, 50 times a second, so that the pole on it does not fall (Barto, Sutton & Anderson,
"Neuronlike adaptive elements that can solve difficult learning control problems", 1983). Many carts run side by side;
each begins anew when its pole has fallen, and so does its member of the net's state, while the others go on.

The reward of an action is known only after it. But no call changes a state: a step is first looked at, by a stream, and
when the world has answered it is learned from, from the same state:

    advantage = reward + γ V[t+1] − V[t],   loss = −advantage · log π(action) + (V[t] − (reward + γ V[t+1]))² / 2

with reward −1 for a pole that falls. At first poles stay up for 25 steps; after 4,000 steps for 300 to 500, the
most possible; later it varies between 200 and 500 as long as the net goes on learning.
"""

import dataclasses
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

GRAVITY, POLE_MASS, MASS, HALF_LENGTH, FORCE, TICK = 9.8, 0.1, 1.1, 0.5, 10.0, 0.02
TRACK, ANGLE, LONGEST = 2.4, 0.2094, 500
"""An episode ends when the cart is so far out (m), the pole so far off (rad), or after so many steps."""
SCALE = jnp.array([TRACK, 2.0, ANGLE, 2.0])


@dataclasses.dataclass(frozen=True)
class Options:
    """What learns to balance, and for how long."""

    method: Literal["ottt_o", "saf_e", "ottt_a", "sltt"] = "ottt_o"
    """Learning rule."""
    steps: int = 16_000
    """Time steps."""
    every: int = 500
    """Time steps between two lines of the report."""
    carts: int = 32
    """Side by side."""
    hidden: int = 128
    """Hidden neurons."""
    learning_rate: float = 5e-4
    """Of Adam; it falls to 0."""
    discount: float = 0.99
    """γ."""
    entropy: float = 0.003
    """Weight of the policy's entropy, which keeps it trying both actions."""
    seed: int = 0
    """Of the weights, the carts and the actions."""

    def __post_init__(self):
        if min(self.steps, self.every, self.carts, self.hidden) < 1 or self.steps % self.every:
            raise ConfigError(f"--steps={self.steps} must be a multiple of --every={self.every}, all sizes 1 or more.")


class Carts(NamedTuple):
    """Position, speed, angle, angular speed [B, 4], and the steps [B] since each began."""

    motion: jax.Array
    age: jax.Array


def new_carts(key: jax.Array, members: int) -> Carts:
    """Near the middle, the poles nearly upright."""
    return Carts(jax.random.uniform(key, (members, 4), minval=-0.05, maxval=0.05), jnp.zeros(members, int))


def push(carts: Carts, right: jax.Array) -> Carts:
    """One step of the equations of motion."""
    _, v, angle, spin = carts.motion.T
    force, sin, cos = jnp.where(right, FORCE, -FORCE), jnp.sin(angle), jnp.cos(angle)
    pull = (force + POLE_MASS * HALF_LENGTH * spin**2 * sin) / MASS
    turn = (GRAVITY * sin - cos * pull) / (HALF_LENGTH * (4 / 3 - POLE_MASS * cos**2 / MASS))
    speed = pull - POLE_MASS * HALF_LENGTH * turn * cos / MASS
    rates = jnp.stack([v, speed, spin, turn], axis=1)
    return Carts(carts.motion + TICK * rates, carts.age + 1)


def seen(carts: Carts) -> jax.Array:
    """What the net is given [B, 4]."""
    return carts.motion / SCALE


def net_of(options: Options) -> nnx.Module:
    """One hidden layer; of its three outputs two are the logits of the actions, the third is V."""
    rngs = nnx.Rngs(options.seed)
    normal = nnx.initializers.normal
    first = nnx.Linear(4, options.hidden, kernel_init=normal(1.0), bias_init=normal(0.5), rngs=rngs)
    second = nnx.Linear(options.hidden, 3, kernel_init=normal(0.01), rngs=rngs)
    return nnx.Sequential(Synapse(first), LIF(decay=0.5), Synapse(second), LeakyReadout())


def loss(output: jax.Array, right: jax.Array, goal: jax.Array, advantage: jax.Array, entropy: float) -> jax.Array:
    """Of the actions taken, and of the values foretold, in one step."""
    log_policy = jax.nn.log_softmax(output[:, :2])
    chosen = jnp.take_along_axis(log_policy, right[:, None].astype(int), axis=1)[:, 0]
    spread = -jnp.sum(jnp.exp(log_policy) * log_policy, axis=1)
    return jnp.mean(-advantage * chosen + 0.5 * (output[:, 2] - goal) ** 2 - entropy * spread)


class Report(NamedTuple):
    """Of `every` steps: their number so far, the mean length of the episodes that ended, their number, firing rates."""

    steps: int
    length: float
    episodes: int
    rates: dict[str, float]


def learn(options: Options) -> Iterator[Report]:
    """Learns while it acts."""
    rule, schedule = (
        safjax.rules.RULES[options.method](),
        optax.linear_schedule(options.learning_rate, 0, options.steps),
    )
    step = safjax.train_step(loss, rule, optax.adam(schedule), mean_over=1)
    net = net_of(options)
    carts = new_carts(jax.random.key(options.seed), options.carts)
    state = step.start(net, seen(carts)[None])
    # The first reset gives each member a gain of its own; inside a loop the shapes may not change.
    state = safjax.reset(state, jnp.ones(options.carts, bool))

    def body(learner, key):
        net, opt_state, state, carts = learner
        acting, beginning = jax.random.split(key)
        stream = safjax.stream(net)
        after, output = stream(state, seen(carts))
        right = jax.random.bernoulli(acting, jax.nn.softmax(output[:, :2])[:, 1])
        pushed = push(carts, right)
        fallen = (jnp.abs(pushed.motion[:, 0]) > TRACK) | (jnp.abs(pushed.motion[:, 2]) > ANGLE)
        _, ahead = stream(after, seen(pushed))
        goal = jnp.where(fallen, -1.0, options.discount * ahead[:, 2])
        targets = right, goal, goal - output[:, 2], options.entropy
        net, opt_state, (_, aux) = step(net, opt_state, seen(carts)[None], *targets, state=state)
        ended = fallen | (pushed.age == LONGEST)
        fresh = new_carts(beginning, options.carts)
        carts = jax.tree.map(lambda a, b: jnp.where(ended.reshape(-1, *(1,) * (a.ndim - 1)), a, b), fresh, pushed)
        learner = net, opt_state, safjax.reset(aux.state, ended), carts
        return learner, (jnp.sum(jnp.where(ended, pushed.age, 0)), jnp.sum(ended), aux.rates)

    run = jax.jit(lambda learner, keys: jax.lax.scan(body, learner, keys))
    learner = net, step.init(net), state, carts
    for begin in range(0, options.steps, options.every):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(options.seed), begin), options.every)
        learner, (lengths, ended, rates) = run(learner, keys)
        episodes = int(ended.sum())
        length = float(lengths.sum()) / max(episodes, 1)
        yield Report(
            begin + options.every, length, episodes, {path: float(rate.mean()) for path, rate in rates.items()}
        )


def main() -> int:
    """Learns, and prints how long the poles stay up."""
    options, began = tyro.cli(Options, prog="python -m experiments.control", description=__doc__), time.perf_counter()
    for report in learn(options):
        print(
            f"{report.steps:>7} steps, {time.perf_counter() - began:5.1f} s: {report.episodes:>6} episodes of "
            f"{report.length:.0f} steps on average",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
