"""The net of a configuration."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.config import Config, ConfigError
from safjax import surrogate
from safjax.models import SpikingMLP, SpikingResNet, SpikingVGG, cifar_resnet18, nf_resnet34
from safjax.models.resnet import WIDTHS
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
PRECISIONS: dict[str, dict[str, Any]] = {
    "float32": {"dtype": jnp.float32, "param_dtype": jnp.float32},
    "bfloat16": {"dtype": jnp.bfloat16, "param_dtype": jnp.float32},
    "float64": {"dtype": jnp.float64, "param_dtype": jnp.float64},
}
RESNETS = {"resnet18": cifar_resnet18, "nf_resnet34": nf_resnet34}

Net = SpikingVGG | SpikingResNet | SpikingMLP


def build_net(config: Config, input_shape: tuple[int, ...], num_classes: int, input_rate: float | None = None) -> Net:
    """The network named for images, a `SpikingMLP` for spike trains, with fresh weights drawn from the seed.

    Args:
      config: network, layers, width, neurons, readout, precision and seed are used.
      input_shape: (height, width, channels) of an image, or (units,).
      num_classes: outputs.
      input_rate: of units, the mean of their inputs; None is that of units each of which fires once.

    Raises:
      ConfigError: the layers pool more often than the input can be halved, or are too narrow.
      RuntimeError: float64 is asked for outside of `experiments.config.settings`.
    """
    if config.precision == "float64" and jax.dtypes.canonicalize_dtype(jnp.float64) != jnp.float64:
        raise RuntimeError("JAX makes float32 of float64: build a net of that precision under jax.enable_x64(True).")
    if len(input_shape) == 1:
        return _build_mlp(config, input_shape[0], num_classes, input_rate)
    if config.network == "vgg":
        return _build_vgg(config, input_shape, num_classes)
    if round(config.width * WIDTHS[0]) < 2:
        raise ConfigError(
            f"--width={config.width} leaves --network={config.network} one of {WIDTHS[0]} channels in its first stage, "
            "and weights from one channel cannot be standardised: they have no variance. Give a larger factor."
        )
    return RESNETS[config.network](
        num_classes,
        width=config.width,
        in_features=input_shape[-1],
        rngs=nnx.Rngs(config.seed),
        **_options(config),
    )


def _options(config: Config) -> dict[str, Any]:
    return {
        **PRECISIONS[config.precision],
        "decay": config.decay,
        "threshold": config.threshold,
        "surrogate": SURROGATES[config.surrogate](),
        "readout": READOUTS[config.readout](),
    }


def _build_vgg(config: Config, image_shape: tuple[int, ...], num_classes: int) -> SpikingVGG:
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
        rngs=nnx.Rngs(config.seed),
        **_options(config),
    )


def _build_mlp(config: Config, units: int, num_classes: int, input_rate: float | None) -> SpikingMLP:
    if config.network != "vgg":
        raise ConfigError(
            f"--network={config.network} is for images, but {config.dataset} has none. Leave it out, and give the "
            "neurons with --layers."
        )
    if "M" in config.layers:
        raise ConfigError(
            f"--layers has an M, which pools images, but {config.dataset} has none. Give neurons only, such as "
            "--layers 128 128."
        )
    hidden = [max(1, round(config.width * int(neurons))) for neurons in config.layers]
    return SpikingMLP(
        [units, *hidden, num_classes],
        input_rate=input_rate or 1 / (config.steps or 1),
        rngs=nnx.Rngs(config.seed),
        **_options(config),
    )
