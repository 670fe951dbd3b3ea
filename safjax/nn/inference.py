"""Entry points of inference: plain spiking simulation of a net, whatever rule trained it."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from safjax import loops
from safjax.nn.absent import Absent
from safjax.nn.carrying import handed_on
from safjax.nn.graphs import Graph, split_net
from safjax.nn.module import SpikingModule
from safjax.nn.recording import check_record
from safjax.nn.several_steps import in_parts
from safjax.nn.states import modules
from safjax.nn.task import check_call, check_kept, make_task
from safjax.parts import simulate_in_parts
from safjax.rules import Rule, bptt
from safjax.schedules import WholeSequence
from safjax.state import State
from safjax.tally import Kept


class Simulation(NamedTuple):
    """A recorded run.

    Attributes:
      outputs: the net's, [T, B, ...].
      records: what was asked for, {name: {path of the layer: [T, B, ...]}}, in the order in which it was.
      state: that after the last step, if the run was given one.
    """

    outputs: Any
    records: dict[str, dict[str, jax.Array]]
    state: State

    @property
    def spikes(self) -> dict[str, jax.Array]:
        """The spikes of every neuron module [T, B, ...] by its path, if they were recorded."""
        if "spikes" not in self.records:
            raise ValueError(
                f"This run recorded {', '.join(map(repr, self.records)) or 'nothing'}. Write safjax.simulate(..., "
                "record=('spikes', ...)) to have the spikes of every step too."
            )
        return self.records["spikes"]


def predict(
    net: nnx.Module,
    x: Any,
    steps: int | None = None,
    *,
    state: State | None = None,
    lengths: jax.Array | None = None,
    outputs: Kept = "all",
) -> Any:
    """Plain spiking inference, whatever rule trained the net; dropout off.

    A net without feedback, whose examples are computed each by itself, takes several steps at once where these are
    small: the same numbers up to rounding, in less time. Memory does not grow with T, but for what is kept.

    Args:
      net: a spiking net; left unchanged.
      x: a static image [B, ...] with `steps`, or a sequence [T, B, ...] without.
      steps: T, or None.
      state: with which the sequence goes on, from `safjax.start` or an earlier call; None begins at rest. To have the
        next state too, call `simulate` or a `stream`.
      lengths: in a padded batch, how many steps each member has, [B]; None for all T. Outputs beyond are 0.
      outputs: what is kept of the outputs, "all", "last" or "mean"; the last and the mean are those of each member's
        own steps.

    Returns:
      The outputs of all steps, [T, B, ...], or as `outputs` says. A net trained on its last step is read at
      outputs[-1], one trained on every step as outputs.mean(0).

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, LeakyReadout, Synapse
      >>> net = nnx.Sequential(Synapse(nnx.Linear(4, 2, rngs=nnx.Rngs(0))), LIF(), LeakyReadout())
      >>> safjax.predict(net, jnp.ones((3, 4)), steps=6).shape
      (6, 3, 2)
      >>> safjax.predict(net, jnp.ones((9, 3, 4))).shape
      (9, 3, 2)
    """
    return _run(net, x, steps, (), state, outputs, lengths).outputs


def simulate(
    net: nnx.Module,
    x: Any,
    steps: int | None = None,
    *,
    record: Sequence[str] = ("spikes",),
    state: State | None = None,
    lengths: jax.Array | None = None,
) -> Simulation:
    """As `predict`, and records what the neurons do: for rasters and firing-rate plots.

    Args:
      net, x, steps: as of `predict`.
      record: names of what is recorded of every neuron module, each where there is such a thing: "spikes" s[t], input
        "current" I[t], "potential" u[t] before the reset (of a PSN h[t]), "membrane" m[t] after it, the
        "synaptic_current" of `CurrentLIF`, the "adaptation" of `ALIF`. A cell of one's own names its records by a
        method records(before, current, after, spikes), see `safjax.neurons.Cell`.
      state, lengths: as of `predict`; the run's own `state` is the next one.

    Raises:
      TypeError: record is no tuple of names.
      ValueError: a name that no layer has; the message lists those that there are.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, LeakyReadout, Synapse
      >>> net = nnx.Sequential(Synapse(nnx.Linear(4, 2, rngs=nnx.Rngs(0))), LIF(), LeakyReadout())
      >>> run = safjax.simulate(net, jnp.ones((3, 4)), steps=6)
      >>> run.outputs.shape, {path: spikes.shape for path, spikes in run.spikes.items()}
      ((6, 3, 2), {'layers.1': (6, 3, 2)})
    """
    return _run(net, x, steps, check_record(record), state, "all", lengths)


def _run(
    net: Any, x: Any, steps: int | None, record: tuple[Any, ...], state: Any, keep: Any, lengths: Any
) -> Simulation:
    rule = bptt() if not isinstance(state, State) else Rule("inference", state.kind, WholeSequence())
    check_call(net, x, steps, rule, None, state, lengths)
    run = _simulate(*evaluating(net), x, steps, record, state, check_kept(keep, rule), lengths)
    # JAX hands dictionaries back sorted by their keys; whoever unpacks the values means the order of the names.
    named = {name: run.records[name] for name in record if name in run.records}
    return run._replace(records={**named, **run.records})


@functools.partial(jax.jit, static_argnums=(0, 4, 5, 7))
def _simulate(
    graph: Graph,
    params: Any,
    rest: Any,
    x: Any,
    steps: int | None,
    record: tuple[str, ...],
    state: State | None,
    keep: Kept,
    lengths: jax.Array | None,
) -> Simulation:
    if state is None:
        rule = inference_rule(graph.merge(params, rest))
    else:
        rule = Rule("inference", state.kind, WholeSequence())
    options: dict[str, Any] = {"keep": keep, "record": record, "state": state, "lengths": lengths, "training": False}
    bound, task = make_task(graph, params, rest, rule, lambda output: 0.0, (), x, steps, **options)
    alone = state is None and lengths is None and not record
    parts = in_parts(graph, params, rest, x, steps, keep, bound) if alone else None
    if parts is not None:
        run = simulate_in_parts(parts[1], *parts[::2])
    elif rule.propagation.whole_sequence:
        run = loops.run_of_all(task, jnp.zeros(()), *loops.at_once(task, bound.params))
    else:
        run = loops.simulate(task, bound.params)
    after = _NO_STATE if state is None else handed_on(bound, run.carry, bound.params, state, running=True)
    return Simulation(run.outputs, run.records, after)


_NO_STATE: Any = Absent(
    "This run began a sequence at rest and did not keep its state. To go on from run to run, begin with "
    "state = safjax.start(net, x), and hand it to every run: safjax.simulate(net, x, state=state)."
)


def inference_rule(net: nnx.Module) -> Rule:
    """The rule under which a net is simulated: step by step, where its layers can."""
    whole = any(isinstance(module, SpikingModule) and not module.stepwise for _, module in modules(net))
    return bptt(layerwise=whole)


def evaluating(net: nnx.Module) -> tuple[Any, ...]:
    """(graph, parameters, other variables) of `evaluated`."""
    graph, *variables = split_net(net)
    if graph not in _GRAPHS:
        own, *after = split_net(evaluated(net))
        while len(_GRAPHS) >= 128:
            _GRAPHS.pop(next(iter(_GRAPHS)))
        # Of a net whose own `eval` changes variables there is no other way than to copy it at every call.
        _GRAPHS[graph] = own if _identical(variables, after) else None
    found = _GRAPHS[graph]
    return split_net(evaluated(net)) if found is None else (found, *variables)


_GRAPHS: dict[Graph, Graph | None] = {}
"""Of nets in evaluation, by those of nets as they are: to copy a net takes longer than to run a small one."""


def _identical(one: Any, other: Any) -> bool:
    forms: list[Any] = [jax.tree.structure(tree) for tree in (one, other)]
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=False)
    return forms[0] == forms[1] and all(a is b for a, b in leaves)


def evaluated(net: nnx.Module) -> nnx.Module:
    """A copy of the net with dropout off."""
    net = nnx.clone(net)
    net.eval()
    return net
