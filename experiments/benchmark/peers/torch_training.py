"""What the rows on PyTorch share: tensors, synapses, loss and optimizer."""

import itertools
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from experiments.benchmark.work import RECURRENT_WEIGHT, Prepared, Work


def tensors(work: Work) -> tuple[torch.Tensor, torch.Tensor]:
    """Time-major inputs, x[T, B, C, H, W] or x[T, B, 700], and labels[B]; a static image takes memory once."""
    inputs, labels = map(torch.from_numpy, work.batch())
    if len(work.shape) == 1:
        return inputs, labels
    images = inputs.movedim(-1, -3).contiguous()
    return images.expand(work.steps, *images.shape) if work.static else images, labels


def synapses(work: Work) -> list[nn.Module]:
    """What stands before each layer of neurons, and last what stands before the readout; not of vgg and spikformer."""
    if work.network == "conv":
        return _conv(work)
    if work.network == "pooled":
        return _pooled(work)
    if work.network == "gesture":
        return _gesture(work)
    if work.network == "recurrent":
        return _recurrent(work)
    return [nn.Linear(inputs, outputs) for inputs, outputs in itertools.pairwise(work.sizes)]


def _conv(work: Work) -> list[nn.Module]:
    image, one, two, three = work.sizes
    return [
        nn.Conv2d(image, one, 3, padding=1),
        nn.Conv2d(one, two, 3, padding=1),
        nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(two, three, 3, padding=1)),
        nn.Sequential(nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(three, work.classes)),
    ]


def _pooled(work: Work) -> list[nn.Module]:
    convs = [nn.Sequential(nn.Conv2d(c, o, 5), nn.MaxPool2d(2)) for c, o in itertools.pairwise(work.sizes)]
    return [*convs, nn.Sequential(nn.Flatten(), nn.Linear(work.flat, work.classes))]


def _gesture(work: Work) -> list[nn.Module]:
    convs = [
        nn.Sequential(nn.Conv2d(c, o, 3, padding=1, bias=False), nn.BatchNorm2d(o))
        for c, o in itertools.pairwise(work.sizes)
    ]
    pooled = [convs[0], *(nn.Sequential(nn.MaxPool2d(2), *conv) for conv in convs[1:])]
    return [*pooled, nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(work.flat, work.classes))]


def _recurrent(work: Work) -> list[nn.Module]:
    hidden, last = (nn.Linear(inputs, outputs, bias=False) for inputs, outputs in itertools.pairwise(work.sizes))
    nn.init.normal_(hidden.weight, std=RECURRENT_WEIGHT)
    return [hidden, last]


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


def predicting(work: Work, net: nn.Module, reset: Callable[[nn.Module], object]) -> Prepared:
    """The mean output over all steps, without gradients; arguments as of `through_time`."""
    (inputs, _), _ = tensors(work), net.eval()

    def turn() -> float:
        with torch.inference_mode():
            value = net(inputs).mean(0).mean().item()
        reset(net)
        return value

    return Prepared(turn)
