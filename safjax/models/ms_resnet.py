"""Membrane-shortcut residual networks, whose residual stream is one of currents."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.models.stages import (
    WIDTHS,
    Layers,
    Normalisation,
    check_stages,
    check_strides,
    scaled_widths,
    shapes_of_blocks,
)
from safjax.nn import LIF, BatchNorm, InstantReadout, LeakyReadout, Neuron, Synapse
from safjax.surrogate import Rectangle

THRESHOLD = 0.5

published_lif = functools.partial(LIF, 0.25, THRESHOLD, Rectangle())
"""The neurons of the published networks, but for their reset to 0, which is one by subtraction here."""


class MSResNet(nnx.Module):
    """Residual network whose shortcuts carry currents past the neurons, to the membranes of later blocks.

    With x the stream of currents, f₁ and f₂ normalised 3×3 convolutions and N neurons, a block is

        x ↦ f₂(N(f₁(N(x)))) + x

    Where a stage changes channels or resolution, f₃(x) stands in the place of the last x, with f₃ a normalised 1×1
    convolution. The normalisation of f₂ starts from a scale of 0, so that a block starts as its shortcut. Neurons
    follow the last block. Hu, Deng, Wu, Yao & Li, "Advancing spiking neural networks towards deep residual learning",
    2021 (MS-ResNet).

    Trained by bptt(layerwise=True), exodus and slayer; with `norm=lambda n: BatchNorm(n, over="step")` by bptt and sltt
    too. Rules that accumulate (OTTT, SAF, SR) take a `norm` without statistics of the batch, or net.eval().

    Args:
      num_classes: outputs.
      stem: the layer from the image to the first currents, [B, H, W, C] ↦ [B, H′, W′, channels of the first stage].
      stages: blocks of each stage.
      widths: channels of each stage.
      strides: by how much the first block of each stage divides height and width.
      neuron: makes the neurons of one place; default `LIF(0.25, 0.5, Rectangle())`.
      norm: features ↦ the normalisation behind a convolution; None for `BatchNorm(features, over="time",
        deviation=0.5)`, tdBN at the threshold 0.5.
      readout: of the final current; default `InstantReadout()`, whose mean over time is the published answer.
      dtype: in which synapses compute, `stem` aside, for instance bfloat16; None takes that of inputs and parameters.
      param_dtype: dtype of the parameters, those of `stem` and `norm` aside.
      rngs: its stream "params" initialises the weights.

    Raises:
      TypeError: stem is not callable.
      ValueError: num_classes not positive; stages, widths and strides not as many positive whole numbers.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> stem = nnx.Conv(1, 4, (3, 3), rngs=nnx.Rngs(0))
      >>> net = safjax.models.MSResNet(10, stem, stages=(1, 1), widths=(4, 6), strides=(1, 2), rngs=nnx.Rngs(0))
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
        strides: Sequence[int] = (2, 2, 2, 2),
        neuron: Callable[[], Neuron] = published_lif,
        norm: Normalisation | None = None,
        readout: LeakyReadout | InstantReadout | None = None,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_stages(self, num_classes, stages, widths)
        check_strides(self, stages, strides)
        layers = Layers(_norm(norm, param_dtype), dtype, param_dtype, rngs)
        self.stem = Synapse(stem)
        shapes = shapes_of_blocks(stages, widths, strides)
        self.blocks, self.neuron = nnx.Sequential(*(MSBlock(*shape, neuron, layers) for shape in shapes)), neuron()
        self.classifier = layers.classifier(widths[-1], num_classes)
        self.readout = InstantReadout() if readout is None else readout

    def __call__(self, x: Any) -> jax.Array:
        """One step: x[B, H, W, C] ↦ logits[B, num_classes]."""
        return self.readout(self.classifier(self.neuron(self.blocks(self.stem(x)))))


class MSBlock(nnx.Module):
    """Two neurons, each with a convolution behind it, beside a shortcut; takes currents and gives currents."""

    def __init__(self, in_features: int, out_features: int, strides: int, neuron: Callable[[], Neuron], layers: Layers):
        self.neuron1, self.neuron2 = neuron(), neuron()
        self.conv1 = Synapse(layers.normalised(in_features, out_features, 3, strides))
        last = layers.normalised(out_features, out_features, 3, 1)
        self.conv2, norm = Synapse(last), last.layers[-1]
        if isinstance(norm, BatchNorm) and norm.scale is not None:
            norm.scale[...] = jnp.zeros_like(norm.scale[...])
        changes = strides > 1 or in_features != out_features
        self.projection = Synapse(layers.normalised(in_features, out_features, 1, strides)) if changes else None

    def __call__(self, x: Any) -> Any:
        shortcut = x if self.projection is None else self.projection(x)
        return self.conv2(self.neuron2(self.conv1(self.neuron1(x)))) + shortcut


def _norm(norm: Normalisation | None, param_dtype: jax.typing.DTypeLike) -> Normalisation:
    if norm is not None:
        return norm
    return functools.partial(BatchNorm, over="time", deviation=THRESHOLD, param_dtype=param_dtype)


def ms_resnet18(
    num_classes: int = 1000,
    *,
    width: float = 1.0,
    in_features: int = 3,
    norm: Normalisation | None = None,
    dtype: jax.typing.DTypeLike | None = None,
    param_dtype: jax.typing.DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
    stages: Sequence[int] = (2, 2, 2, 2),
    **options: Any,
) -> MSResNet:
    """The published MS-ResNet-18 for ImageNet: a 7×7 stem with stride 2, no pooling, stages 2-2-2-2 that all halve.

    11,693,736 parameters for 1000 classes: those of the ordinary ResNet-18 and one more projection.

    Args:
      num_classes: outputs.
      width: multiplies all channels, rounded, at least 1.
      in_features: channels of the image.
      norm, dtype, param_dtype: as of `MSResNet`, the stem included.
      rngs: its stream "params" initialises the weights.
      stages: blocks of each stage.
      **options: strides, neuron, readout, as of `MSResNet`.

    Raises:
      ValueError: num_classes or width not positive.
    """
    widths = scaled_widths("MSResNet", width)
    stem = Layers(_norm(norm, param_dtype), dtype, param_dtype, rngs).normalised(in_features, widths[0], 7, 2)
    dtypes: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype}
    return MSResNet(num_classes, stem, stages=stages, widths=widths, norm=norm, **dtypes, rngs=rngs, **options)


def ms_resnet34(num_classes: int = 1000, *, rngs: nnx.Rngs, **options: Any) -> MSResNet:
    """The published MS-ResNet-34 for ImageNet: as `ms_resnet18` with stages 3-4-6-3, 21,801,896 parameters."""
    return ms_resnet18(num_classes, stages=(3, 4, 6, 3), rngs=rngs, **options)
