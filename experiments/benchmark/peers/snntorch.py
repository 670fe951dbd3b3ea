"""snnTorch: a loop in Python over the steps, `Leaky` neurons whose reset acts one step later."""

import snntorch
import torch
from snntorch import surrogate
from torch import nn

from experiments.benchmark.peers.torch_training import synapses, through_time
from experiments.benchmark.work import Prepared, Work


class Net(nn.Module):
    """Synapses with neurons between them.

    u[t] = λ u[t−1] + I[t] − s[t−1],   s[t] = H(u[t] − 1)
    """

    def __init__(self, work: Work):
        super().__init__()
        self.synapses = nn.ModuleList(synapses(work))
        spike = surrogate.sigmoid(slope=4)
        self.neurons = nn.ModuleList(
            snntorch.Leaky(beta=work.decay, spike_grad=spike) for _ in range(len(self.synapses) - 1)
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """x[T, B, ...] ↦ logits[T, B, C]."""
        membranes = [neuron.reset_mem() for neuron in self.neurons]
        *hidden, last = self.synapses
        logits = []
        for x in inputs:
            for layer, (synapse, neuron) in enumerate(zip(hidden, self.neurons, strict=True)):
                x, membranes[layer] = neuron(synapse(x), membranes[layer])
            logits.append(last(x))
        return torch.stack(logits)


def prepare(work: Work, method: str) -> Prepared:
    """The training step; the only method is bptt."""
    del method
    # Its neurons start from zero at the beginning of a sequence.
    return through_time(work, Net(work), reset=lambda net: None)
