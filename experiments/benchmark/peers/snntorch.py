"""snnTorch: a loop in Python over the steps, `Leaky` neurons whose reset acts one step later."""

import snntorch
import torch
from snntorch import surrogate
from torch import nn

from experiments.benchmark.peers.torch_training import predicting, synapses, through_time
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


class RecurrentNet(nn.Module):
    """A layer of `RLeaky` neurons, which also receive their own spikes of the step before, between two synapses.

    u[t] = λ u[t−1] + I[t] + V s[t−1] − s[t−1],   s[t] = H(u[t] − 1)
    """

    def __init__(self, work: Work):
        super().__init__()
        self.hidden, self.last = synapses(work)
        neurons = work.sizes[1]
        spike = surrogate.sigmoid(slope=4)
        self.neuron = snntorch.RLeaky(beta=work.decay, linear_features=neurons, spike_grad=spike)
        # The other rows have no bias there either.
        self.neuron.recurrent = nn.Linear(neurons, neurons, bias=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """x[T, B, n] ↦ logits[T, B, C]."""
        spikes, membrane = self.neuron.reset_mem()
        logits = []
        for x in inputs:
            spikes, membrane = self.neuron(self.hidden(x), spikes, membrane)
            logits.append(self.last(spikes))
        return torch.stack(logits)


def net_of(work: Work, method: str = "bptt") -> nn.Module:
    """The network, freshly initialised."""
    del method
    return RecurrentNet(work) if work.network == "recurrent" else Net(work)


def prepare(work: Work, method: str) -> Prepared:
    """The training step under bptt, or inference under predict."""
    # Its neurons start from zero at the beginning of a sequence.
    take = predicting if method == "predict" else through_time
    return take(work, net_of(work, method), reset=lambda net: None)
