"""What the rows on PyTorch share: tensors, synapses, loss and optimizer."""

import itertools
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from experiments.benchmark.work import Prepared, Work


def tensors(work: Work) -> tuple[torch.Tensor, torch.Tensor]:
    """Time-major inputs, x[T, B, 3, H, W] or x[T, B, 700], and labels[B]; a static image takes memory once."""
    inputs, labels = map(torch.from_numpy, work.batch())
    if not work.static:
        return inputs, labels
    images = inputs.permute(0, 3, 1, 2).contiguous()
    return images.expand(work.steps, *images.shape), labels


def synapses(work: Work) -> list[nn.Module]:
    """Of dense and conv: what stands before each layer of neurons, and last what stands before the readout."""
    if not work.static:
        return [nn.Linear(inputs, outputs) for inputs, outputs in itertools.pairwise(work.sizes)]
    image, one, two, three = work.sizes
    return [
        nn.Conv2d(image, one, 3, padding=1),
        nn.Conv2d(one, two, 3, padding=1),
        nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(two, three, 3, padding=1)),
        nn.Sequential(nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(three, work.classes)),
    ]


def loss_of(work: Work) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """`experiments.training.losses.mean_loss` of logits[B, C] and labels[B]."""

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        cross_entropy = F.cross_entropy(logits, labels)
        if not work.mse_weight:
            return cross_entropy
        one_hot = F.one_hot(labels, work.classes).to(logits.dtype)
        return (1 - work.mse_weight) * cross_entropy + work.mse_weight * F.mse_loss(logits, one_hot)

    return loss


def optimizer_of(work: Work, net: nn.Module) -> torch.optim.Optimizer:
    """As `experiments.benchmark.ours.optimizer_of`."""
    if work.static:
        return torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    return torch.optim.Adam(net.parameters(), lr=1e-3)


def through_time(work: Work, net: nn.Module, reset: Callable[[nn.Module], object]) -> Prepared:
    """Back-propagation through time: one loss over all steps, one update.

    Args:
      work: what to do.
      net: x[T, B, ...] ↦ logits[T, B, C].
      reset: forgets the state of the neurons after a step.
    """
    (inputs, labels), loss, optimizer = tensors(work), loss_of(work), optimizer_of(work, net)
    every_label = labels.repeat(work.steps)

    def step() -> float:
        optimizer.zero_grad()
        value = loss(net(inputs).flatten(0, 1), every_label)
        value.backward()
        optimizer.step()
        reset(net)
        return value.item()

    return Prepared(step)
