"""Sinabs: layers that take whole sequences, with a loop over the steps in each layer of neurons."""

import math

import torch
from sinabs import activation, layers
from sinabs.utils import reset_states
from torch import nn

from experiments.benchmark.peers.torch_training import synapses, through_time
from experiments.benchmark.work import Prepared, Work


class Net(nn.Module):
    """Dense synapses with `LIF` neurons between them, one spike a step at most."""

    def __init__(self, work: Work):
        super().__init__()
        *hidden, last = synapses(work)
        parts = [part for synapse in hidden for part in (synapse, _neuron(work))]
        self.layers = nn.Sequential(*parts, last)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """x[T, B, n] ↦ logits[T, B, C]; the library's own order of axes is batch, time."""
        return self.layers(inputs.transpose(0, 1)).transpose(0, 1)


def _neuron(work: Work) -> layers.LIF:
    lif = layers.LIF(
        tau_mem=-1 / math.log(work.decay),
        spike_fn=activation.SingleSpike,
        surrogate_grad_fn=activation.SingleExponential(),
        norm_input=False,
    )
    # The other rows have a fixed decay too.
    lif.tau_mem.requires_grad_(False)
    return lif


def prepare(work: Work, method: str) -> Prepared:
    """The training step; the only method is bptt."""
    del method
    return through_time(work, Net(work), reset_states)
