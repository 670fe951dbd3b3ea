"""SpikingJelly: OTTT and SLTT step by step, back-propagation through time layer by layer ("multi-step") or by a loop in
Python over the steps ("single-step", bptt_single).
"""

import functools
from collections.abc import Callable

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.learning.online_learning import ottt_online_training
from spikingjelly.activation_based.model.spiking_vggws_ottt import OTTTSpikingVGG, Scale, cfgs
from torch import nn

from experiments.benchmark.peers.torch_spikformer import Spikformer
from experiments.benchmark.peers.torch_training import (
    loss_of,
    optimizer_of,
    predicting,
    synapses,
    tensors,
    through_time,
)
from experiments.benchmark.work import Prepared, Work

PUBLISHED = cfgs["S"]


def prepare(work: Work, method: str) -> Prepared:
    """The training step under ottt_a, ottt_o, sltt, bptt or bptt_single; inference in step mode "m" under predict."""
    if method == "predict":
        return predicting(work, _multi_step(work), functional.reset_net)
    net = net_of(work, method)
    if method.startswith("bptt"):
        return through_time(work, net, functional.reset_net)
    return _online(work, net, method == "ottt_o")


def net_of(work: Work, method: str) -> nn.Module:
    """The network, freshly initialised."""
    if method == "bptt":
        return _multi_step(work)
    if method == "bptt_single":
        return SingleStep(_layers(work, "s"))
    return _ottt_vgg(work) if method.startswith("ottt") else _sltt_vgg(work)


class SingleStep(nn.Module):
    """Layers in step mode "s", in a loop over the steps."""

    def __init__(self, layers: nn.Module):
        super().__init__()
        self.layers = layers

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """x[T, B, ...] ↦ logits[T, B, C]."""
        return torch.stack([self.layers(x) for x in inputs])


def _online(work: Work, net: nn.Module, update_each_step: bool) -> Prepared:
    (inputs, labels), loss, optimizer = tensors(work), loss_of(work), optimizer_of(work, net)
    inputs, every_label = inputs.transpose(0, 1), labels[:, None].expand(-1, work.steps)

    def step() -> float:
        value, _ = ottt_online_training(
            net, optimizer, inputs, every_label, lambda y, target: loss(y, target) / work.steps, update_each_step
        )
        functional.reset_net(net)
        return value.item()

    return Prepared(step)


def _ottt_vgg(work: Work) -> nn.Module:
    """The library's model of the published VGG: at width 1, `ottt_spiking_vggws(num_classes=10)`."""
    cfg = [entry if entry == "A" else work.scaled(entry) for entry in PUBLISHED]
    net = OTTTSpikingVGG(cfg, num_classes=work.classes, spiking_neuron=neuron.OTTTLIFNode, light_classifier=True)
    net.classifier = layer.OTTTSequential(*_readout(cfg[-1], work.classes))
    return net


def _sltt_vgg(work: Work) -> nn.Module:
    lif = functools.partial(neuron.SLTTLIFNode, **_constants(work))
    return nn.Sequential(*_vgg_layers(work, lif))


def _multi_step(work: Work) -> nn.Module:
    if work.network != "vgg":
        return _layers(work, "m")
    lif = functools.partial(neuron.LIFNode, **_constants(work), step_mode="m")
    net = nn.Sequential(*_vgg_layers(work, lif))
    functional.set_step_mode(net, "m")
    return net


def _layers(work: Work, step_mode: str) -> nn.Module:
    """All others, x[T, B, ...] ↦ logits[T, B, C] in step mode "m", one step of it in "s"."""
    lif = functools.partial(neuron.LIFNode, **_constants(work))
    if work.network == "spikformer":
        return Spikformer(work, lambda: lif(step_mode=step_mode))
    if work.network == "recurrent":
        neurons = [_Recurrent(work.sizes[1], lif(), step_mode)]
    else:
        neurons = [lif(step_mode=step_mode) for _ in synapses(work)[1:]]
    *hidden, last = [layer.SeqToANNContainer(part) if step_mode == "m" else part for part in synapses(work)]
    pairs = zip(hidden, neurons, strict=True)
    return nn.Sequential(*(part for pair in pairs for part in pair), last)


class _Recurrent(layer.ElementWiseRecurrentContainer):
    """Neurons that also receive their own spikes of the step before, through weights."""

    weights: nn.Module

    def __init__(self, size: int, neurons: nn.Module, step_mode: str):
        super().__init__(neurons, lambda spikes, current: current + self.weights(spikes), step_mode)
        self.weights = nn.Linear(size, size, bias=False)


def _constants(work: Work) -> dict[str, object]:
    return {
        "tau": 1 / (1 - work.decay),
        "decay_input": False,
        "v_reset": None,
        "surrogate_function": surrogate.Sigmoid(alpha=4.0),
        "detach_reset": True,
    }


def _vgg_layers(work: Work, lif: Callable[[], nn.Module]) -> list[nn.Module]:
    parts, channels = [], 3
    for entry in PUBLISHED:
        if entry == "A":
            parts.append(layer.AvgPool2d(2, 2))
            continue
        features = work.scaled(entry)
        parts += [layer.WSConv2d(channels, features, 3, padding=1), lif(), Scale(2.74)]
        channels = features
    return [*parts, *_readout(channels, work.classes)]


def _readout(channels: int, classes: int) -> list[nn.Module]:
    return [layer.AdaptiveAvgPool2d((1, 1)), layer.Flatten(1), layer.Linear(channels, classes)]
