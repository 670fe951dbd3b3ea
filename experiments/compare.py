"""How like the gradients of all rules are to exact ones: on random nets, and along a training run on digits.

    python -m experiments.compare

The random nets have 20-24-24-24-6 neurons with biases, λ = 0.5 and T = 6 or λ = 0.9 and T = 12, a static input, a
sigmoid slope with α = 4, an instantaneous readout and the cross-entropy of each step; layers fire at 23 to 36 %.
The net for the digits (scikit-learn's, no download) is 64-64-64-10 with a leaky readout, T = 6. Exact is BPTT, once
with the reset in its gradient and once without.

Leaves tables.md, random_nets.png and training.png in --output. About a minute on two cores.
"""

import dataclasses
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import nnx

import safjax
from experiments.config import ConfigError
from experiments.data.images.digits import load_digits
from experiments.report.cosines import draw_by_part, draw_over_updates
from safjax.models import SpikingMLP
from safjax.nn import LIF, InstantReadout, Synapse
from safjax.rules import RULES, Rule, bptt
from safjax.surrogate import Sigmoid

SIZES, CLASSES = (20, 24, 24, 24), 6
GAINS = (1.0, 1.5, 2.0, 1.0)
"""Standard deviations of the weights times √inputs: of spikes, which have less power than the input, larger ones."""
SETTINGS = ((0.5, 6), (0.9, 12))
"""(λ, T)."""
REFERENCES = {"bptt": bptt(), "bptt(detach_reset=True)": bptt(detach_reset=True)}
PARTS = ("1", "2", "3", "readout", "all")
"""Of a random net: the weights of its layers, and all parameters together."""
Curves = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Options:
    """What is compared, and on what.

    Raises:
      ConfigError: a number is out of its range.
    """

    rules: tuple[Literal[tuple(RULES)], ...] = tuple(RULES)  # type: ignore[valid-type]
    """Learning rules."""
    nets: int = 20
    """Random nets of each kind."""
    batch_size: int = 16
    """Of the random nets' batches; those of digits have four times as many."""
    method: Literal[tuple(RULES)] = "bptt"  # type: ignore[valid-type]
    """Learning rule that trains on the digits."""
    updates: int = 200
    """Batches of digits."""
    every: int = 10
    """Batches between two comparisons."""
    learning_rate: float = 3e-3
    """Of Adam."""
    turns: int = 0
    """How often each rule's gradient of digits is timed; 0 measures no cost."""
    seed: int = 0
    """Of the nets and the data."""
    output: Path = Path("runs/compare")
    """Folder of the tables and figures."""

    def __post_init__(self):
        if not self.rules or min(self.nets, self.batch_size, self.updates, self.every) < 1 or self.turns < 0:
            raise ConfigError(
                "--rules needs a rule, and --nets, --batch-size, --updates and --every must be 1 or more."
            )

    @property
    def compared(self) -> dict[str, Rule]:
        """The rules by name."""
        return {name: RULES[name]() for name in self.rules}


def loss(output: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy of one step."""
    return optax.softmax_cross_entropy_with_integer_labels(output, labels).mean()


def random_net(decay: float, seed: int) -> nnx.Module:
    """Weights N(0, gain² / inputs), biases N(0.2, 0.2²)."""
    rngs = nnx.Rngs(seed)
    layers: list[Synapse | LIF] = []
    for gain, (inputs, outputs) in zip(GAINS, itertools.pairwise((*SIZES, CLASSES)), strict=True):
        normal = nnx.initializers.normal(gain / inputs**0.5)
        layers += [Synapse(nnx.Linear(inputs, outputs, kernel_init=normal, bias_init=_bias, rngs=rngs))]
        layers += [LIF(decay, surrogate=Sigmoid(alpha=4.0))]
    return nnx.Sequential(*layers[:-1], InstantReadout())


def _bias(key: jax.Array, shape: Sequence[int], dtype: Any, **_: Any) -> jax.Array:
    return 0.2 + 0.2 * jax.random.normal(key, shape, dtype)


def random_batch(size: int, seed: int) -> tuple[jax.Array, jax.Array]:
    """(x[B, inputs], labels[B])."""
    inputs, labels = jax.random.split(jax.random.key(seed))
    return jax.random.normal(inputs, (size, SIZES[0])), jax.random.randint(labels, (size,), 0, CLASSES)


class OverNets(NamedTuple):
    """Of many random nets of one kind.

    Attributes:
      cosines: {reference: {rule: [nets, parts]}}.
      ratios: the same of norms over norms.
      rates: firing rates [nets, layers].
      refused: {rule that does not train them: path of the layer}.
    """

    cosines: dict[str, Curves]
    ratios: dict[str, Curves]
    rates: np.ndarray
    refused: dict[str, str]


def over_nets(options: Options, decay: float, steps: int) -> OverNets:
    """Compares the rules on random nets."""
    found, rates = [], []
    for seed in range(options.seed, options.seed + options.nets):
        net, (x, labels) = random_net(decay, seed), random_batch(options.batch_size, seed)
        found.append(
            safjax.compare(net, x, labels, loss=loss, steps=steps, rules=options.compared, references=REFERENCES)
        )
        rates.append([float(spikes.mean()) for spikes in safjax.simulate(net, x, steps).spikes.values()])

    trained = [rule for rule in options.rules if found[0][rule].trains]
    refused = {rule: found[0][rule].reasons[0][0] for rule in options.rules if rule not in trained}

    def curves(quantity: str) -> dict[str, Curves]:
        return {
            reference: {
                rule: np.array([[getattr(like, quantity) for like in _parts(each[rule], reference)] for each in found])
                for rule in trained
            }
            for reference in REFERENCES
        }

    return OverNets(curves("cosine"), curves("ratio"), np.array(rates), refused)


def _parts(row: Any, reference: str) -> list:
    kernels = [like for path, like in row.layers[reference].items() if path.endswith("kernel")]
    return [*kernels, row.together[reference]]


def table(curves: dict[str, Curves]) -> str:
    """Means over the nets, in Markdown; on the left beside BPTT, on the right beside BPTT without the reset."""
    lines = [["", *(f"{part}{mark}" for mark in ("", ", detached") for part in PARTS)], ["---"] * (1 + 2 * len(PARTS))]
    for rule in next(iter(curves.values())):
        means = np.concatenate([curves[reference][rule].mean(0) for reference in REFERENCES])
        lines.append([f"`{rule}`", *(f"{mean:.3f}" for mean in means)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


class Moment(NamedTuple):
    """A comparison after so many updates, and the loss of its batch."""

    updates: int
    report: Any
    loss: float


def along_training(options: Options) -> Iterator[Moment]:
    """Trains on digits, and compares the rules on every so many batches before they are learned."""
    data, rng, size = load_digits(size=8), np.random.default_rng(options.seed), 4 * options.batch_size
    images = jnp.asarray(data.train_images.reshape(-1, 64) / 255, jnp.float32)
    net = SpikingMLP((64, 64, 64, 10), input_rate=0.3, decay=0.5, rngs=nnx.Rngs(options.seed))
    step = safjax.train_step(loss, RULES[options.method](), optax.adam(options.learning_rate), steps=6)
    opt_state = step.init(net)
    for update in range(options.updates + 1):
        chosen = rng.choice(len(images), size, replace=False)
        x, labels = images[chosen], jnp.asarray(data.train_labels[chosen])
        if update % options.every == 0:
            turns = options.turns if update == 0 else 0
            report = safjax.compare(
                net, x, labels, loss=loss, steps=6, rules=options.compared, references=REFERENCES, turns=turns
            )
            value = float(loss(safjax.predict(net, x, 6, outputs="mean"), labels))
            yield Moment(update, report, value)
        if update < options.updates:
            net, opt_state, _ = step(net, opt_state, x, labels)


def run(options: Options) -> str:
    """Compares, leaves tables and figures in the folder, and returns the tables."""
    options.output.mkdir(parents=True, exist_ok=True)
    results = {setting: over_nets(options, *setting) for setting in SETTINGS}
    panels = {
        f"λ = {decay}, T = {steps}: beside {reference}": cosines
        for (decay, steps), result in results.items()
        for reference, cosines in result.cosines.items()
    }
    draw_by_part(panels, PARTS, len(REFERENCES), options.output / "random_nets.png")
    said = []
    for (decay, steps), result in results.items():
        low, high = result.rates.mean(0).min(), result.rates.mean(0).max()
        said.append(f"{options.nets} random nets, λ = {decay}, T = {steps}; layers fire at {low:.0%} to {high:.0%}.")
        said += [f"`{rule}` does not train them, at '{path}'." for rule, path in result.refused.items()]
        said += ["Cosines:", table(result.cosines), "Norms over norms:", table(result.ratios)]
    moments = list(along_training(options))
    panels = {
        f"digits, trained by {options.method}: beside {reference}": {
            rule: np.array([moment.report[rule].together[reference].cosine for moment in moments])
            for rule in options.rules
            if moments[0].report[rule].trains
        }
        for reference in REFERENCES
    }
    draw_over_updates(panels, [moment.updates for moment in moments], options.output / "training.png")
    for moment in (moments[0], moments[-1]):
        said.append(f"Digits after {moment.updates} updates by {options.method}, loss {moment.loss:.3f}.")
        said.append(f"```\n{moment.report}\n```")
    text = "\n\n".join(said)
    (options.output / "tables.md").write_text(f"{text}\n")
    return text


def main(args: Sequence[str] | None = None) -> int:
    """Compares, and prints the tables."""
    options = tyro.cli(Options, prog="python -m experiments.compare", description=__doc__, args=args)
    try:
        print(run(options))
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
