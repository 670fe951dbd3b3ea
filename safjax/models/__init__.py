"""Published spiking networks."""

from safjax.models.vgg import SpikingVGG

__all__ = ["SpikingVGG"]
