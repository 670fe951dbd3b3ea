"""Residual networks without normalisers, whose residual stream is one of currents."""

import functools
from collections.abc import Callable, Iterator, Sequence
from math import sqrt
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.models.stages import WIDTHS, check_stages, scaled_widths, shapes_of_blocks
from safjax.models.vgg import SPIKE_GAIN
from safjax.nn import LIF, InstantReadout, LeakyReadout, Synapse, WSConv
from safjax.ops import avg_pool, global_avg_pool
from safjax.surrogate import Sigmoid

# α: each block adds α² to the variance of the stream.
BRANCH_SCALE = 0.2


class SpikingResNet(nnx.Module):
    """Pre-activation residual network of weight-standardised convolutions and one dense readout.

    With x the stream of currents, s₁ = LIF(x / β) and s₂ = LIF(conv₁(2.74 s₁)), a block is

        x ↦ x + α g conv₂(2.74 s₂)

    where g, a learned number, starts at 0, and β² is the variance expected of x: 1 after the stem, α² more after each
    block. Where a stage changes channels or resolution, its first block has conv(2.74 s₁) in place of the first x, and
    β² starts again from 1. No neuron follows the last block; the readout's weights start at 0. Brock et al.,
    "Characterizing signal propagation to close the performance gap in unnormalized ResNets", 2021, Sec. 3; spiking:
    Xiao et al., "Online training through time for spiking neural networks", 2022, Sec. 5.

    Args:
      num_classes: outputs.
      stem: the layer from the image to the first currents, [B, H, W, C] ↦ [B, H′, W′, channels of the first stage].
      stages: blocks of each stage; every stage but the first halves height and width.
      widths: channels of each stage.
      decay, threshold, surrogate: of all neurons.
      readout: of the final current; default `LeakyReadout()`. `InstantReadout()` is the published one.
      dtype: in which synapses compute, `stem` aside, for instance bfloat16; None takes that of inputs and parameters.
        Neurons, readout and the stream between the blocks stay in float32 or wider.
      param_dtype: dtype of the parameters, those of `stem` aside.
      rngs: its stream "params" initialises the weights.

    Raises:
      TypeError: stem is not callable.
      ValueError: num_classes not positive; stages and widths not as many positive whole numbers.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> rngs = nnx.Rngs(0)
      >>> stem = safjax.nn.WSConv(1, 8, rngs=rngs)
      >>> net = safjax.models.SpikingResNet(10, stem, stages=(1, 1), widths=(8, 16), rngs=rngs)
      >>> safjax.predict(net, jnp.ones((2, 8, 8, 1)), steps=4).shape
      (4, 2, 10)
    """

    def __init__(
        self,
        num_classes: int,
        stem: nnx.Module | Callable[[jax.Array], jax.Array],
        *,
        stages: Sequence[int],
        widths: Sequence[int] = WIDTHS,
        decay: float = 0.5,
        threshold: float = 1.0,
        surrogate: Callable[[jax.Array], jax.Array] = Sigmoid(),  # noqa: B008 (a frozen value)
        readout: LeakyReadout | InstantReadout | None = None,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_stages(self, num_classes, stages, widths)
        lif = functools.partial(LIF, decay, threshold, surrogate)
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        dense = nnx.Linear(widths[-1], num_classes, kernel_init=nnx.initializers.zeros, **options)
        self.stem = Synapse(stem)
        self.blocks = nnx.Sequential(*_blocks(stages, widths, lif, options))
        self.classifier = Synapse(nnx.Sequential(global_avg_pool, dense))
        self.readout = LeakyReadout() if readout is None else readout

    def __call__(self, x: Any) -> jax.Array:
        """One step: x[B, H, W, C] ↦ logits[B, num_classes]."""
        return self.readout(self.classifier(self.blocks(self.stem(x))))


def _blocks(
    stages: Sequence[int], widths: Sequence[int], lif: Callable[[], LIF], options: dict[str, Any]
) -> Iterator["Block"]:
    variance = 1.0
    for shape in shapes_of_blocks(stages, widths):
        block = Block(*shape, sqrt(variance), lif, options)
        variance = (variance if block.projection is None else 1.0) + BRANCH_SCALE**2
        yield block


class Block(nnx.Module):
    """Two neurons and two 3×3 convolutions beside a shortcut; takes currents and gives currents."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        strides: int,
        beta: float,
        lif: Callable[[], LIF],
        options: dict[str, Any],
    ):
        def convolution(channels: int, size: int, strides: int) -> WSConv:
            # As many zeros on either side, where "SAME" puts more of them after the image under strides.
            padding = ((size // 2, size // 2),) * 2
            return WSConv(channels, out_features, (size, size), strides, padding=padding, **options)

        self.beta = beta
        self.lif1, self.lif2 = lif(), lif()
        self.conv1 = Synapse(nnx.Sequential(spike_gain, convolution(in_features, 3, strides)))
        self.conv2 = Synapse(
            nnx.Sequential(spike_gain, convolution(out_features, 3, 1), SkipInit(options["param_dtype"]))
        )
        changes = strides > 1 or in_features != out_features
        self.projection = Synapse(nnx.Sequential(spike_gain, convolution(in_features, 1, strides))) if changes else None

    def __call__(self, x: Any) -> Any:
        spikes = self.lif1(x / self.beta)
        shortcut = x if self.projection is None else self.projection(spikes)
        return self.conv2(self.lif2(self.conv1(spikes))) + shortcut


class SkipInit(nnx.Module):
    """x ↦ α g x with a learned number g that starts at 0, so that a block starts as its shortcut.

    De & Smith, "Batch normalization biases residual blocks towards the identity function in deep networks", 2020.
    """

    def __init__(self, param_dtype: jax.typing.DTypeLike):
        self.gain = nnx.Param(jnp.zeros((), param_dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        return BRANCH_SCALE * self.gain[...] * x


def spike_gain(x: jax.Array) -> jax.Array:
    """2.74 x."""
    return SPIKE_GAIN * x


def nf_resnet34(
    num_classes: int = 1000,
    *,
    width: float = 1.0,
    in_features: int = 3,
    dtype: jax.typing.DTypeLike | None = None,
    param_dtype: jax.typing.DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
    **options: Any,
) -> SpikingResNet:
    """The published NF-ResNet-34 for ImageNet: a 7×7 stem with stride 2 and 3×3 average pooling, stages 3-4-6-3.

    Xiao et al. 2022, Sec. 5: 32 layers of neurons, 21,797,688 parameters for 1000 classes.

    Args:
      num_classes: outputs.
      width: multiplies all channels, rounded, at least 1.
      in_features: channels of the image.
      dtype, param_dtype: as of `SpikingResNet`, the stem included.
      rngs: its stream "params" initialises the weights.
      **options: decay, threshold, surrogate, readout, as of `SpikingResNet`.

    Raises:
      ValueError: num_classes or width not positive.
    """
    widths = scaled_widths("SpikingResNet", width)
    layers: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    convolution = WSConv(in_features, widths[0], (7, 7), 2, padding=((3, 3), (3, 3)), **layers)
    stem = nnx.Sequential(convolution, lambda x: avg_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))))
    return SpikingResNet(num_classes, stem, stages=(3, 4, 6, 3), widths=widths, **layers, **options)


def cifar_resnet18(
    num_classes: int = 10,
    *,
    width: float = 1.0,
    in_features: int = 3,
    dtype: jax.typing.DTypeLike | None = None,
    param_dtype: jax.typing.DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
    **options: Any,
) -> SpikingResNet:
    """A ResNet-18 for images of CIFAR's size: a 3×3 stem without stride or pooling, stages 2-2-2-2.

    Arguments and errors are those of `nf_resnet34`: 16 layers of neurons, 11,173,970 parameters for 10 classes.
    """
    widths = scaled_widths("SpikingResNet", width)
    layers: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    stem = WSConv(in_features, widths[0], **layers)
    return SpikingResNet(num_classes, stem, stages=(2, 2, 2, 2), widths=widths, **layers, **options)
