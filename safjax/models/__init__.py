"""Published spiking networks."""

from safjax.models.dvs_gesture import DVSGestureNet
from safjax.models.mlp import SpikingMLP
from safjax.models.resnet import SpikingResNet, cifar_resnet18, nf_resnet34
from safjax.models.vgg import SpikingVGG, SpikingVGGF

__all__ = ["DVSGestureNet", "SpikingMLP", "SpikingResNet", "SpikingVGG", "SpikingVGGF", "cifar_resnet18", "nf_resnet34"]
