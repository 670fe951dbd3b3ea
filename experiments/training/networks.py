"""The net of a configuration."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.config import ConfigError
from experiments.config import Net as NetFlags
from experiments.data import Shape
from safjax import surrogate
from safjax.models import SpikingMLP, SpikingResNet, SpikingVGG, cifar_resnet18, nf_resnet34
from safjax.models.mlp import RATE
from safjax.models.stages import WIDTHS
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


def build_net(flags: NetFlags, shape: Shape, seed: int) -> Net:
    """The network named for images, a `SpikingMLP` for spike trains, with fresh weights drawn from the seed.

    Args:
      flags: network, layers, width, neurons, readout and precision.
      shape: of what the net takes, (height, width, channels) of an image or (units,), and gives.
      seed: of the weights.

    Raises:
      ConfigError: the layers pool more often than the input can be halved, or are too narrow.
      RuntimeError: float64 is asked for outside of `experiments.config.settings`.
    """
    if flags.precision == "float64" and jax.dtypes.canonicalize_dtype(jnp.float64) != jnp.float64:
        raise RuntimeError("JAX makes float32 of float64: build a net of that precision under jax.enable_x64(True).")
    if len(shape.input_shape) == 1:
        return _build_mlp(flags, shape, seed)
    if flags.network == "vgg":
        return _build_vgg(flags, shape, seed)
    if round(flags.width * WIDTHS[0]) < 2:
        raise ConfigError(
            f"--width={flags.width} leaves --network={flags.network} one of {WIDTHS[0]} channels in its first stage, "
            "and weights from one channel cannot be standardised: they have no variance. Give a larger factor."
        )
    return RESNETS[flags.network](
        shape.num_classes,
        width=flags.width,
        in_features=shape.input_shape[-1],
        rngs=nnx.Rngs(seed),
        **_options(flags),
    )


def _options(flags: NetFlags) -> dict[str, Any]:
    return {
        **PRECISIONS[flags.precision],
        "decay": flags.decay,
        "threshold": flags.threshold,
        "surrogate": SURROGATES[flags.surrogate](),
        "readout": READOUTS[flags.readout](),
    }


def _build_vgg(flags: NetFlags, shape: Shape, seed: int) -> SpikingVGG:
    height, width, channels = shape.input_shape
    poolings = flags.layers.count("M")
    if min(height, width) < 2**poolings:
        raise ConfigError(
            f"--layers halves the image {poolings} times, but one of {height}x{width} pixels can be "
            f"halved {min(height, width).bit_length() - 1} times only. Leave out some of the M."
        )
    return SpikingVGG(
        shape.num_classes,
        cfg=flags.layers,
        width=flags.width,
        in_features=channels,
        flatten=(height, width) if flags.head == "flatten" else None,
        rngs=nnx.Rngs(seed),
        **_options(flags),
    )


def _build_mlp(flags: NetFlags, shape: Shape, seed: int) -> SpikingMLP:
    if flags.network != "vgg":
        raise ConfigError(
            f"--network={flags.network} is for images, but the data are sequences. Leave it out, and give the "
            "neurons with --layers."
        )
    if flags.head != "average":
        raise ConfigError(
            f"--head={flags.head} is for maps of images, but the data are sequences of units. Leave it out."
        )
    if "M" in flags.layers:
        raise ConfigError(
            "--layers has an M, which pools images, but the data are sequences. Give neurons only, such as "
            "--layers 128 128."
        )
    hidden = [max(1, round(flags.width * int(neurons))) for neurons in flags.layers]
    return SpikingMLP(
        [*shape.input_shape, *hidden, shape.num_classes],
        input_rate=RATE if shape.input_rate is None else shape.input_rate,
        rngs=nnx.Rngs(seed),
        **_options(flags),
    )
