"""Published spiking networks."""

from safjax.models.mlp import SpikingMLP
from safjax.models.resnet import SpikingResNet, cifar_resnet18, nf_resnet34
from safjax.models.vgg import SpikingVGG

__all__ = ["SpikingMLP", "SpikingResNet", "SpikingVGG", "cifar_resnet18", "nf_resnet34"]
