"""The net of a configuration."""

from collections.abc import Callable

from flax import nnx

from experiments.config import Config, ConfigError
from safjax import surrogate
from safjax.models import SpikingVGG
from safjax.nn import InstantReadout, LeakyReadout

SURROGATES: dict[str, Callable[[], surrogate.Surrogate]] = {
    "sigmoid": surrogate.Sigmoid,
    "triangle": surrogate.Triangle,
    "rectangle": surrogate.Rectangle,
    "arctan": surrogate.Arctan,
    "exponential": surrogate.Exponential,
    "gaussian": surrogate.Gaussian,
}
READOUTS = {"leaky": LeakyReadout, "instant": InstantReadout}


def build_net(config: Config, image_shape: tuple[int, ...], num_classes: int) -> SpikingVGG:
    """A `SpikingVGG` with fresh weights, drawn from the seed.

    Args:
      config: layers, width, neurons, readout and seed are used.
      image_shape: (height, width, channels).
      num_classes: outputs.

    Raises:
      ConfigError: the layers pool more often than the image can be halved.
    """
    height, width, channels = image_shape
    poolings = config.layers.count("M")
    if min(height, width) < 2**poolings:
        raise ConfigError(
            f"--layers halves the image {poolings} times, but one of {height}x{width} pixels ({config.dataset}) can be "
            f"halved {min(height, width).bit_length() - 1} times only. Leave out some of the M."
        )
    return SpikingVGG(
        num_classes,
        cfg=config.layers,
        width=config.width,
        in_features=channels,
        decay=config.decay,
        threshold=config.threshold,
        surrogate=SURROGATES[config.surrogate](),
        readout=READOUTS[config.readout](),
        rngs=nnx.Rngs(config.seed),
    )
