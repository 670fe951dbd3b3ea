"""The block of `safjax.models.Spikformer` in PyTorch, with neurons of another library; of one step or of all."""

from collections.abc import Callable

import torch
from torch import nn

from experiments.benchmark.work import HEADS, Work

SCALE = 0.125


class Dense(nn.Module):
    """A dense layer, normalised over all leading axes together, then neurons: [..., C] ↦ [..., O]."""

    def __init__(self, inputs: int, outputs: int, neuron: nn.Module):
        super().__init__()
        self.linear, self.norm, self.neuron = nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), neuron

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        currents = self.linear(x)
        return self.neuron(self.norm(currents.flatten(0, -2)).view_as(currents))


class Block(nn.Module):
    """x ↦ x + N(f(N(Q Kᵀ V / 8))), then x ↦ x + N(f(N(f(x)))), of tokens x[..., N, C]."""

    def __init__(self, features: int, neuron: Callable[[], nn.Module]):
        super().__init__()
        self.inputs = nn.ModuleList(Dense(features, features, neuron()) for _ in range(3))
        self.attended, self.projection = neuron(), Dense(features, features, neuron())
        widened = Dense(features, 4 * features, neuron())
        self.perceptron = nn.Sequential(widened, Dense(4 * features, features, neuron()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (self._heads(dense(x)) for dense in self.inputs)
        attention = SCALE * (q @ k.transpose(-2, -1)) @ v
        x = x + self.projection(self.attended(attention.transpose(-3, -2).flatten(-2)))
        return x + self.perceptron(x)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (HEADS, -1)).transpose(-3, -2)


class Spikformer(nn.Module):
    """One block on the pixels of an image as tokens, then a dense layer on the mean over them."""

    def __init__(self, work: Work, neuron: Callable[[], nn.Module]):
        super().__init__()
        [features] = work.sizes
        self.block, self.classifier = Block(features, neuron), nn.Linear(features, work.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x[..., C, H, W] ↦ logits[..., classes], the leading axes being those that the neurons take."""
        tokens = x.flatten(-2).transpose(-2, -1).contiguous()
        return self.classifier(self.block(tokens).mean(-2))
