"""The VGGs of online training through time."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn import LIF, Delay, InstantReadout, LeakyReadout, Synapse, WSConv
from safjax.ops import avg_pool, global_avg_pool
from safjax.surrogate import Sigmoid

# 1 / √(p (1 − p)) for the firing rate p = 0.16 of a unit-variance normal current at threshold 1: restores the unit
# variance that weight standardisation assumes of its input.
SPIKE_GAIN = 2.74

PUBLISHED = (64, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512)


class SpikingVGG(nnx.Module):
    """VGG with weight-standardised 3×3 convolutions, average pooling and one dense readout.

    Each convolution feeds LIF neurons, whose spikes are scaled by 2.74; "M" in `cfg` is 2×2 average pooling; the last
    map is averaged over space, or flattened. Xiao et al., "Online training through time for spiking neural networks",
    2022, Sec. 5: 9,228,362 parameters for 10 classes, 9,274,532 for 100.

    Args:
      num_classes: outputs.
      cfg: channels of each convolution, and "M".
      width: multiplies all channels, rounded, at least 1.
      in_features: channels of the image.
      flatten: (height, width) of the images, where the last map is to be flattened; None averages it over space, for
        images of any size. Small maps of few channels tell classes apart by where their spikes are.
      decay, threshold, surrogate: of all neurons.
      readout: of the final current; default `LeakyReadout()`. `InstantReadout()` is the published one.
      dtype: in which synapses compute, for instance bfloat16; None takes that of inputs and parameters. Neurons and
        readout stay in float32 or wider.
      param_dtype: dtype of the parameters.
      rngs: its stream "params" initialises the weights.

    Raises:
      ValueError: num_classes or width not positive, a cfg of other entries or without any convolution, images to be
        flattened that its poolings leave nothing of.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> net = safjax.models.SpikingVGG(10, cfg=(8, "M", 16), in_features=1, rngs=nnx.Rngs(0))
      >>> safjax.predict(net, jnp.ones((2, 8, 8, 1)), steps=4).shape
      (4, 2, 10)
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        cfg: Sequence[int | str] = PUBLISHED,
        width: float = 1.0,
        in_features: int = 3,
        flatten: tuple[int, int] | None = None,
        decay: float = 0.5,
        threshold: float = 1.0,
        surrogate: Callable[[jax.Array], jax.Array] = Sigmoid(),  # noqa: B008 (a frozen value)
        readout: LeakyReadout | InstantReadout | None = None,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        _check(num_classes, cfg, width)
        layers: list[Synapse | LIF] = []
        dtypes: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype}
        channels, poolings = in_features, 0
        for entry in cfg:
            if entry == "M":
                poolings += 1
                continue
            features = max(1, round(width * int(entry)))
            convolution = WSConv(channels, features, **dtypes, rngs=rngs)
            layers += [
                Synapse(nnx.Sequential(Between(scaled=bool(layers), poolings=poolings), convolution)),
                LIF(decay, threshold, surrogate),
            ]
            channels, poolings = features, 0
        places, head = (1, global_avg_pool) if flatten is None else (_places(flatten, cfg), _flattened)
        normal = nnx.initializers.normal(0.01)
        dense = nnx.Linear(places * channels, num_classes, kernel_init=normal, **dtypes, rngs=rngs)
        self.features = nnx.Sequential(*layers)
        self.classifier = Synapse(nnx.Sequential(Between(True, poolings), head, dense))
        self.readout = LeakyReadout() if readout is None else readout

    def __call__(self, x: Any) -> jax.Array:
        """One step: x[B, H, W, C] ↦ logits[B, num_classes]."""
        return self.readout(self.classifier(self.features(x)))


class SpikingVGGF(nnx.Module):
    """`SpikingVGG` with feedback: the last spiking map of the step before also drives the first neurons.

        I₁[t] = conv₁(x[t]) + conv_f(upsample(2.74 s_last[t−1]))

    The feedback convolution is a plain 3×3 one whose weights start at 0. Xiao et al., "Online training through time for
    spiking neural networks", 2022, Sec. 5: 9,569,508 parameters for 100 classes. There the feedback with its bias sets
    in at the second step; here the bias acts from the first.

    Args: as of `SpikingVGG`.

    Raises:
      ValueError: as of `SpikingVGG`; or, when called, an image that the pooling does not divide evenly.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> net = safjax.models.SpikingVGGF(10, cfg=(8, "M", 16), in_features=1, rngs=nnx.Rngs(0))
      >>> safjax.predict(net, jnp.ones((2, 8, 8, 1)), steps=4).shape
      (4, 2, 10)
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        cfg: Sequence[int | str] = PUBLISHED,
        width: float = 1.0,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
        **vgg: Any,
    ):
        dtypes: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype}
        self.vgg = SpikingVGG(num_classes, cfg=cfg, width=width, **dtypes, rngs=rngs, **vgg)
        channels = [max(1, round(width * entry)) for entry in cfg if isinstance(entry, int)]
        zeros = nnx.initializers.zeros
        convolution = nnx.Conv(channels[-1], channels[0], (3, 3), kernel_init=zeros, **dtypes, rngs=rngs)
        self.pooling = 2 ** sum(entry == "M" for entry in _before_last_convolution(cfg))
        self.feedback = Synapse(nnx.Sequential(Above(self.pooling), convolution))
        self.delay = Delay()

    def __call__(self, x: Any) -> jax.Array:
        """One step: x[B, H, W, C] ↦ logits[B, num_classes]."""
        self._check_size(x)
        first, *others = self.vgg.features.layers
        x = first(x) + self.feedback(self.delay.recall())
        for layer in others:
            x = layer(x)
        self.delay.keep(x)
        return self.vgg.readout(self.vgg.classifier(x))

    def _check_size(self, x: Any) -> None:
        if isinstance(x, jax.Array) and (x.shape[1] % self.pooling or x.shape[2] % self.pooling):
            raise ValueError(
                f"SpikingVGGF was given images of {x.shape[1]}×{x.shape[2]} pixels. Its last map is {self.pooling} "
                "times smaller and must be enlarged to the first map's size exactly: give images whose sides are "
                f"multiples of {self.pooling}."
            )


def _before_last_convolution(cfg: Sequence[int | str]) -> Sequence[int | str]:
    return cfg[: max(i for i, entry in enumerate(cfg) if isinstance(entry, int))]


class Above(nnx.Module):
    """What lies between the last spikes and the feedback convolution: the gain, then nearest-neighbour upsampling."""

    def __init__(self, factor: int):
        self.factor = factor

    def __call__(self, x: jax.Array) -> jax.Array:
        return SPIKE_GAIN * x.repeat(self.factor, 1).repeat(self.factor, 2)


class Between(nnx.Module):
    """What lies between the spikes of one layer and the weights of the next: the gain, then pooling."""

    def __init__(self, scaled: bool, poolings: int):
        self.scaled, self.poolings = scaled, poolings

    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(self.poolings):
            x = avg_pool(x, (2, 2))
        return SPIKE_GAIN * x if self.scaled else x


def _flattened(x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], -1)


def _places(size: tuple[int, int], cfg: Sequence[int | str]) -> int:
    factor = 2 ** sum(entry == "M" for entry in cfg)
    if min(size) < factor:
        raise ValueError(
            f"SpikingVGG(flatten={size!r}): its poolings divide both sides by {factor}, which leaves nothing to "
            f"flatten. Give the (height, width) of images of {factor} pixels or more, or fewer 'M'."
        )
    return (size[0] // factor) * (size[1] // factor)


def _check(num_classes: int, cfg: Sequence[int | str], width: float) -> None:
    if not isinstance(num_classes, int) or isinstance(num_classes, bool) or num_classes < 1:
        raise ValueError(f"SpikingVGG(num_classes={num_classes!r}): expected a whole number of classes ≥ 1.")
    if not 0 < width < math.inf:
        raise ValueError(f"SpikingVGG(width={width!r}): expected a positive factor for all channels.")
    good = [e == "M" or (isinstance(e, int) and not isinstance(e, bool) and e > 0) for e in cfg]
    if not all(good) or not any(isinstance(e, int) for e in cfg):
        raise ValueError(
            f"SpikingVGG(cfg={tuple(cfg)!r}): expected numbers of channels and 'M' for 2×2 average pooling, with at "
            f"least one convolution, for instance {PUBLISHED}."
        )
