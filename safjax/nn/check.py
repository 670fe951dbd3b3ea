"""Which rules train a net, and why the others do not."""

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from safjax.nn.graphs import Graph, split_net
from safjax.nn.inference import inference_rule
from safjax.nn.refusing import Reason, Refusals
from safjax.nn.shapes import Reading, reading
from safjax.nn.task import check_call, one_step
from safjax.nn.verdicts import ASKED, Enquiry, Trial, bound_to
from safjax.rules import Rule, bptt

WIDTH = 100


@dataclass(frozen=True)
class Verdict:
    """What one rule says of a net.

    Attributes:
      rule: its name.
      reasons: why it does not train the net, all of them: (path of the layer, sentence).
    """

    rule: str
    reasons: tuple[Reason, ...]

    @property
    def trains(self) -> bool:
        """Whether the rule trains the net as it is."""
        return not self.reasons


@dataclass(frozen=True)
class Report(Mapping[str, Verdict]):
    """What every rule says of a net: {name of the rule: `Verdict`}. Printed, it is a table.

    Attributes:
      verdicts: of the rules of `safjax.rules.RULES`, and of bptt and rate_backprop with layerwise=True.
    """

    verdicts: tuple[Verdict, ...]

    @property
    def trained_by(self) -> tuple[str, ...]:
        """The names of the rules that train the net."""
        return tuple(verdict.rule for verdict in self.verdicts if verdict.trains)

    def __getitem__(self, rule: str) -> Verdict:
        return {verdict.rule: verdict for verdict in self.verdicts}[rule]

    def __iter__(self) -> Iterator[str]:
        return (verdict.rule for verdict in self.verdicts)

    def __len__(self) -> int:
        return len(self.verdicts)

    def __repr__(self) -> str:
        width = max(len(rule) for rule in ("rule", *self))
        lines, seen = [_row(width, "rule", "trains", "reasons")], {"": ""}
        for verdict in self.verdicts:
            told = "\n".join(f"{reason.path}: {reason.sentence}" for reason in verdict.reasons)
            # Of rules that are refused in the same words those are told once.
            name = verdict.rule.partition("(")[0]
            first = seen.setdefault(told.replace(f"'{name}'", ""), verdict.rule)
            told = told if first in ("", verdict.rule) else f"as {first}"
            lines.append(_row(width, verdict.rule, "yes" if verdict.trains else "no", told))
        return "\n".join(lines)


def _row(width: int, rule: str, trains: str, told: str) -> str:
    """A row of the table; the reasons go on below one another."""
    left, below = f"{rule:{width}} | {trains:6} | ", f"{'':{width}} | {'':6} | "
    lines = [
        row for text in told.splitlines() for row in textwrap.wrap(text, WIDTH - len(left), break_on_hyphens=False)
    ]
    return (left + f"\n{below}".join(lines)).rstrip()


def check(net: nnx.Module, x: Any, steps: int | None = None) -> Report:
    """Which rules train a net on inputs like x, and all that keeps the others from it.

        print(safjax.check(net, x, steps=6))

    Every rule meets a copy of the net on shapes alone; nothing is computed, and the net is left unchanged. A rule that
    trains the net does so with any loss of one step, for a sequence that begins at rest.

    Args:
      net: a spiking net, as it is to be trained: after `net.eval()` batch statistics, for instance, stay as they are.
      x: inputs as training has them, of which only the shapes and dtypes matter: a sequence [T, B, ...], or an image
        [B, ...] with `steps`.
      steps: T of an image, or None.

    Returns:
      A mapping from the names of the rules of `safjax.rules.RULES`, and "bptt(layerwise=True)" and
      "rate_backprop(layerwise=True)", to verdicts with `trains` and `reasons`, each (path of a layer, sentence).
      `trained_by` has the names of those that train it.

    Raises:
      TypeError, ValueError: net is no net, or does not fit x: no rule is needed to see that, and
        `safjax.value_and_grad` raises the same.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, LeakyReadout, Synapse
      >>> dense = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
      >>> net = nnx.Sequential(Synapse(nnx.Sequential(dense, nnx.relu)), LIF(floor=0.0), LeakyReadout())
      >>> report = safjax.check(net, jnp.ones((3, 4)), steps=6)
      >>> report["sltt"].trains, report.trained_by
      (True, ('bptt', 'exodus', 'slayer', 'sltt', 'ostl', 'otpe', 'eprop', 'bptt(layerwise=True)'))
      >>> [path for path, sentence in report["saf_f"].reasons]
      ['layers.0', 'layers.1']
    """
    check_call(net, x, steps, bptt(), None)
    graph, *arrays = split_net(net)
    return Report(verdicts_of(graph, arrays, x, steps, ASKED))


def verdicts_of(graph: Graph, arrays: Any, x: Any, steps: int | None, asked: Mapping[str, Rule]) -> tuple[Verdict, ...]:
    """What each of the rules says of a net.

    Args:
      graph: of the net.
      arrays: (parameters, other variables) of it; shapes will do.
      x, steps: as of `check`; shapes will do.
      asked: the rules, by the names that the verdicts get.
    """
    static, read = steps is not None, reading(x, steps)
    found: list[Verdict] = []
    length = steps if steps is not None else len(jax.tree.leaves(x)[0])

    def ask(params: Any, rest: Any) -> None:
        trial = Trial(lambda: graph.merge(params, rest), one_step(x, static), length, static)
        enquiry = Enquiry(trial)
        _refuse_unfit(trial, read, enquiry)
        found.extend(Verdict(name, enquiry.reasons(rule)) for name, rule in asked.items())

    jax.eval_shape(ask, *arrays)
    return tuple(found)


def _refuse_unfit(trial: Trial, read: Reading | None, enquiry: Enquiry) -> None:
    """Raises what is wrong about the net and its input under every rule, as plain simulation would."""
    refusals, rule = Refusals(collecting=True), inference_rule(trial.make())
    try:
        bound = bound_to(trial, enquiry.like(rule), read, refusals=refusals)
    except Exception as error:
        # Behind a refusal, what is not ours may be due to what stands in for the layer that was refused.
        if error is not refusals.raised and not refusals.reasons:
            raise
    else:
        enquiry.know(rule, bound, refusals.reasons)
