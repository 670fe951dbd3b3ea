"""Synaptic operations of a spiking net and an estimate of the energy that they take.

A spike costs an accumulation (AC) at each neuron that it reaches, and two in one step cost two; what arrives as a real
number costs a multiply-accumulation (MAC) a connection, whether it is 0 or not. A synapse of the static image is
computed once a sequence and not T times, as safjax does (`safjax.hoist`). Average pooling before the weights of a
synapse counts as part of them: each spike reaches all neurons behind its window by itself, where a machine that pools
first accumulates once a window. How inputs that meet in one synapse are counted, as in residual blocks and attention,
is said in `experiments.energy.meeting`. Leak, threshold, bias and memory traffic are not counted, as is usual in the
literature.

    E = 0.9 pJ · AC + 4.6 pJ · MAC

for 32-bit floats in 45 nm CMOS: M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

import safjax
from experiments.energy.counting import Counted, inputs_of, replaced
from experiments.energy.operations import operations
from safjax.nn import Synapse
from safjax.rules import Rule

PICOJOULES = {"AC": 0.9, "MAC": 4.6}


@dataclasses.dataclass(frozen=True)
class Operations:
    """What a synapse did.

    Attributes:
      fan_out: connections of each input, [*shape of one example]; of several inputs [entries of all], each with all
        others at 1.
      dense: MAC of the same synapse in a net of real numbers: one pass over one example, as a program has them.
      events: inputs that were not 0, [T, B].
      accumulations: AC of each step and example, [T, B]; 0 where the input is no spikes.
      multiplications: MAC of each step, the mean over the examples, [T].
      steps: of an example, the mean over the examples: T, where all have as many.
    """

    fan_out: np.ndarray
    dense: int
    events: np.ndarray
    accumulations: np.ndarray
    multiplications: np.ndarray
    steps: float

    @property
    def connections(self) -> int:
        """Of all inputs together."""
        return int(self.fan_out.sum())

    @property
    def rate(self) -> float:
        """Inputs that are not 0, as a fraction of all inputs, steps and examples."""
        return float(self.events.sum(0).mean() / (self.fan_out.size * self.steps))

    @property
    def picojoules(self) -> float:
        """Of one example over all steps, the mean over the examples."""
        accumulations = self.accumulations.sum(0).mean()
        return float(PICOJOULES["AC"] * accumulations + PICOJOULES["MAC"] * self.multiplications.sum())


class Inference(NamedTuple):
    """Outputs and spikes as of `safjax.simulate`, and what every synapse did, by its path, from the input up."""

    outputs: Any
    spikes: dict[str, jax.Array]
    synapses: dict[str, Operations]

    @property
    def picojoules(self) -> float:
        """Of one example, the mean over the examples."""
        return sum(synapse.picojoules for synapse in self.synapses.values())


def inference(net: nnx.Module, x: jax.Array, steps: int | None = None, lengths: jax.Array | None = None) -> Inference:
    """Runs the net as a spiking net and counts; it is the same whatever rule trained it.

    Args:
      net: every synapse must be affine in each of its inputs.
      x: as of `safjax.predict`. A static image is analog, and so is a sequence with entries other than 0 and 1.
      steps: T of a static image.
      lengths: of a padded batch of sequences, how many steps each has, [B]; what is beyond takes no energy.

    Raises:
      ValueError: a synapse is not affine; the message names it.
    """
    net = nnx.clone(net)
    net.eval()
    inputs = inputs_of(net, x, steps)
    counted = replaced(net, Synapse, lambda path, one: Counted(one, inputs[path]))
    run = safjax.simulate(counted, x, steps, lengths=lengths)
    length, batch = jax.tree.leaves(run.outputs)[0].shape[:2]
    own = np.full(batch, length) if lengths is None else np.asarray(lengths)
    going = np.arange(length)[:, None] < own
    synapses = {}
    for path, sees in inputs.items():
        counted_here = (run.records[name][path] for name in ("events", "accumulations", "multiplications"))
        counts = (np.asarray(n, np.int64).reshape(-1, batch) for n in counted_here)
        events, accumulations, each = (np.broadcast_to(n, (length, batch)) for n in counts)
        once = steps and not any(sees.spikes)
        multiplications = np.mean(each * going * (np.arange(length)[:, None] < (1 if once else length)), axis=1)
        operations_here = events, accumulations, multiplications
        synapses[path] = Operations(sees.fan_out, sees.dense, *operations_here, float(own.mean()))
    return Inference(run.outputs, run.spikes, synapses)


def training_multiplications(
    net: nnx.Module,
    loss: Callable[..., jax.Array],
    rule: Rule,
    x: Any,
    *targets: Any,
    steps: int | None = None,
    lengths: jax.Array | None = None,
) -> int:
    """MAC of one training step under a rule: forward pass and gradient, of the whole batch, as the program has them.

    Nothing is run. Spikes save nothing here: a program for dense arrays multiplies by each 0.

    Args:
      loss, rule, steps: as of `safjax.value_and_grad`.
      x, targets, lengths: a batch; the padding of a padded one is computed, too.
    """
    value_and_grad = safjax.value_and_grad(loss, rule, steps)
    return operations(lambda x, *targets: value_and_grad(net, x, *targets, lengths=lengths), x, *targets) // 2
