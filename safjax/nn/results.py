"""What training hands out beside the value of the loss and its gradient."""

from typing import Any, NamedTuple, Protocol

import jax
from flax import nnx

from safjax.nn.absent import Absent
from safjax.nn.task import check_kept
from safjax.rules import Rule
from safjax.rules.refusals import SEGMENTS, SUMS, not_again
from safjax.state import State
from safjax.tally import of_all
from safjax.task import Run, Task


class Aux(NamedTuple):
    """What comes with the value of the loss.

    Attributes:
      output: the net's answer, [B, ...]: under rules that look at the last step only, the output of the last step,
        under the others the mean of all steps'; or the one of them that `outputs` names.
      outputs: those of every step, [T, B, ...], if `outputs="all"` asks for them.
      rates: firing rate of every neuron module by its path: spikes per neuron and step, averaged over batch and steps;
        not with rates=False.
      records: what `record` asked for, {name: {path of the layer: [T, B, ...]}}, as of `safjax.simulate`.
      state: that after the last step, if the call was given one.
    """

    output: Any
    outputs: Any
    rates: dict[str, jax.Array]
    records: dict[str, dict[str, jax.Array]]
    state: State


class Gradient(Protocol):
    """The function that `safjax.value_and_grad` makes."""

    def __call__(
        self,
        net: nnx.Module,
        x: Any,
        *targets: Any,
        key: jax.Array | None = None,
        state: State | None = None,
        lengths: jax.Array | None = None,
    ) -> tuple[tuple[jax.Array, Aux], nnx.State[Any, Any]]:
        """(net, x, *targets) ↦ ((value, aux), grads)."""
        ...


def made_aux(run: Run, task: Task, rule: Rule, state: State | None) -> Aux:
    """What comes with the value, of a run of the task."""
    keep, lengths = task.keep, task.lengths
    every = run.outputs if keep == "all" else _NO_OUTPUTS
    output = of_all(check_kept(None, rule), run.outputs, lengths) if keep == "all" else run.outputs
    records = run.records if task.record else _NO_RECORDS
    return Aux(output, every, run.rates if task.rates else _NO_RATES, records, _NO_STATE if state is None else state)


def once(rule: Rule, results: Any) -> Any:
    """The results; they may be differentiated once more where that is right."""
    if rule.propagation.accumulates or rule.propagation.one_map is not None:
        return not_again(rule.name, SUMS, results)
    # Whatever the number of steps, a schedule goes in parts or it does not.
    return results if rule.schedule.part(1) is None else not_again(rule.name, SEGMENTS, results)


_NO_OUTPUTS: Any = Absent(
    "The outputs of every step were not kept; aux.output is the net's answer, the mean of the steps' or the last. "
    "Write safjax.train_step(..., outputs='all'), or value_and_grad(..., outputs='all'), to have them, [T, B, ...]."
)
_NO_RATES: Any = Absent(
    "The neurons' firing rates were not kept, since this was made with rates=False. Leave that out to have them."
)
_NO_RECORDS: Any = Absent(
    "Nothing of the neurons was kept but their rates, aux.rates. Write safjax.train_step(..., record=('spikes',)), or "
    "value_and_grad(..., record=('spikes', 'potential')), to have it of every step, [T, B, ...]."
)
_NO_STATE: Any = Absent(
    "This call began a sequence at rest and did not keep its state. To go on from call to call, begin with "
    "state = safjax.start(net, x, rule), and hand it to every call: step(net, opt_state, x, y, state=state)."
)
