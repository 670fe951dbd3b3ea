"""Published spiking networks."""

from safjax.models.mlp import SpikingMLP
from safjax.models.recurrent import SpikingRNN
from safjax.models.resnet import SpikingResNet, cifar_resnet18, nf_resnet34
from safjax.models.vgg import SpikingVGG, SpikingVGGF

__all__ = ["SpikingMLP", "SpikingRNN", "SpikingResNet", "SpikingVGG", "SpikingVGGF", "cifar_resnet18", "nf_resnet34"]
