"""Published spiking networks."""

from safjax.models.dvs_gesture import DVSGestureNet
from safjax.models.mlp import SpikingMLP
from safjax.models.ms_resnet import MSResNet, ms_resnet18, ms_resnet34
from safjax.models.recurrent import SpikingRNN
from safjax.models.resnet import SpikingResNet, cifar_resnet18, nf_resnet34
from safjax.models.sew_resnet import SEWResNet, sew_add, sew_and, sew_iand, sew_resnet18, sew_resnet34
from safjax.models.spikformer import Spikformer
from safjax.models.vgg import SpikingVGG, SpikingVGGF

__all__ = [
    "DVSGestureNet",
    "MSResNet",
    "SEWResNet",
    "Spikformer",
    "SpikingMLP",
    "SpikingRNN",
    "SpikingResNet",
    "SpikingVGG",
    "SpikingVGGF",
    "cifar_resnet18",
    "ms_resnet18",
    "ms_resnet34",
    "nf_resnet34",
    "sew_add",
    "sew_and",
    "sew_iand",
    "sew_resnet18",
    "sew_resnet34",
]
