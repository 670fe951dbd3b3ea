"""SpikingJelly: OTTT and SLTT step by step, back-propagation through time layer by layer ("multi-step")."""

import functools
from collections.abc import Callable

from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.learning.online_learning import ottt_online_training
from spikingjelly.activation_based.model.spiking_vggws_ottt import OTTTSpikingVGG, Scale, cfgs
from torch import nn

from experiments.benchmark.peers.torch_training import loss_of, optimizer_of, synapses, tensors, through_time
from experiments.benchmark.work import Prepared, Work

PUBLISHED = cfgs["S"]


def prepare(work: Work, method: str) -> Prepared:
    """The training step under ottt_a, ottt_o, sltt or bptt."""
    if method == "bptt":
        return through_time(work, _multi_step(work), functional.reset_net)
    return _online(work, _ottt_vgg(work) if method.startswith("ottt") else _sltt_vgg(work), method == "ottt_o")


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
    lif = functools.partial(neuron.LIFNode, **_constants(work), step_mode="m")
    if work.network == "vgg":
        net = nn.Sequential(*_vgg_layers(work, lif))
        functional.set_step_mode(net, "m")
        return net
    *hidden, last = [layer.SeqToANNContainer(synapse) for synapse in synapses(work)]
    return nn.Sequential(*(part for synapse in hidden for part in (synapse, lif())), last)


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
