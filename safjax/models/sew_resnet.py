"""Spike-element-wise residual networks, whose residual stream is one of spikes."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.models.stages import WIDTHS, Layers, Normalisation, check_stages, halved, scaled_widths, shapes_of_blocks
from safjax.nn import IF, InstantReadout, LeakyReadout, Neuron, Synapse

Connection = Callable[[jax.Array, jax.Array], jax.Array]


def sew_add(residual: jax.Array, shortcut: jax.Array) -> jax.Array:
    """ADD: the sum of both, up to one spike more a block."""
    return residual + shortcut


def sew_and(residual: jax.Array, shortcut: jax.Array) -> jax.Array:
    """AND: a spike where both fire."""
    return residual * shortcut


def sew_iand(residual: jax.Array, shortcut: jax.Array) -> jax.Array:
    """IAND: a spike where the shortcut fires and the residual does not."""
    return (1 - residual) * shortcut


class SEWResNet(nnx.Module):
    """Residual network of convolutions, normalisations and neurons in which the spikes of block and shortcut meet.

    With s the spikes that a block is given, f₁ and f₂ normalised 3×3 convolutions and N neurons, the block returns

        g(N(f₂(N(f₁(s)))), s)

    Where a stage changes channels or resolution, N(f₃(s)) stands in the place of the last s, with f₃ a normalised 1×1
    convolution. g is `sew_add`, `sew_and`, `sew_iand`, or any function of two arrays, of (residual, shortcut). Fang,
    Yu, Chen, Huang, Masquelier & Tian, "Deep residual learning in spiking neural networks", NeurIPS 2021.

    Trained by bptt(layerwise=True), exodus and slayer; with `norm=lambda n: BatchNorm(n, over="step")` by bptt and sltt
    too. Rules that accumulate (OTTT, SAF, SR) take g = `sew_add`, affine layers, as average pooling for `pool`, and for
    `norm` one without statistics of the batch, or net.eval().

    Args:
      num_classes: outputs.
      stem: the layer from the image to the first currents, [B, H, W, C] ↦ [B, H′, W′, channels of the first stage].
      stages: blocks of each stage; every stage but the first halves height and width.
      widths: channels of each stage.
      connect: g, of (residual, shortcut).
      pool: what follows the stem's neurons; None for nothing.
      neuron: makes the neurons of one place; the published ones are `IF`.
      norm: features ↦ the normalisation behind a convolution; None for `BatchNorm(features, over="time")`.
      readout: of the final current; default `LeakyReadout()`: of neurons without leak the mean over time.
      dtype: in which synapses compute, `stem` aside, for instance bfloat16; None takes that of inputs and parameters.
      param_dtype: dtype of the parameters, those of `stem` and `norm` aside.
      rngs: its stream "params" initialises the weights.

    Raises:
      TypeError: stem, connect or pool are not callable.
      ValueError: num_classes not positive; stages and widths not as many positive whole numbers.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.models import SEWResNet, sew_iand
      >>> stem = nnx.Conv(1, 4, (3, 3), rngs=nnx.Rngs(0))
      >>> net = SEWResNet(10, stem, stages=(1, 1), widths=(4, 6), connect=sew_iand, rngs=nnx.Rngs(0))
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
        connect: Connection = sew_add,
        pool: Callable[[jax.Array], jax.Array] | None = None,
        neuron: Callable[[], Neuron] = IF,
        norm: Normalisation | None = None,
        readout: LeakyReadout | InstantReadout | None = None,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_stages(self, num_classes, stages, widths)
        layers = Layers(norm, dtype, param_dtype, rngs)
        self.stem, self.neuron = Synapse(stem), neuron()
        self.pool = None if pool is None else Synapse(pool)
        shapes = shapes_of_blocks(stages, widths)
        self.blocks = nnx.Sequential(*(SEWBlock(*shape, connect, neuron, layers) for shape in shapes))
        self.classifier = layers.classifier(widths[-1], num_classes)
        self.readout = LeakyReadout() if readout is None else readout

    def __call__(self, x: Any) -> jax.Array:
        """One step: x[B, H, W, C] ↦ logits[B, num_classes]."""
        spikes = self.neuron(self.stem(x))
        spikes = spikes if self.pool is None else self.pool(spikes)
        return self.readout(self.classifier(self.blocks(spikes)))


class SEWBlock(nnx.Module):
    """Two convolutions with neurons, and the shortcut that meets them; takes spikes and gives spikes."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        strides: int,
        connect: Connection,
        neuron: Callable[[], Neuron],
        layers: Layers,
    ):
        self.conv1 = Synapse(layers.normalised(in_features, out_features, 3, strides))
        self.conv2 = Synapse(layers.normalised(out_features, out_features, 3, 1))
        self.neuron1, self.neuron2, self.connect = neuron(), neuron(), Synapse(connect)
        changes = strides > 1 or in_features != out_features
        projected = [Synapse(layers.normalised(in_features, out_features, 1, strides)), neuron()] if changes else []
        self.projection = nnx.Sequential(*projected)

    def __call__(self, spikes: Any) -> Any:
        residual = self.neuron2(self.conv2(self.neuron1(self.conv1(spikes))))
        return self.connect(residual, self.projection(spikes))


def sew_resnet18(
    num_classes: int = 1000,
    *,
    width: float = 1.0,
    in_features: int = 3,
    pool: Callable[[jax.Array], jax.Array] | None = halved,
    norm: Normalisation | None = None,
    dtype: jax.typing.DTypeLike | None = None,
    param_dtype: jax.typing.DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
    stages: Sequence[int] = (2, 2, 2, 2),
    **options: Any,
) -> SEWResNet:
    """The published SEW-ResNet-18 for ImageNet: a 7×7 stem with stride 2, 3×3 max pooling, stages 2-2-2-2.

    11,689,512 parameters for 1000 classes, those of the ordinary ResNet-18.

    Args:
      num_classes: outputs.
      width: multiplies all channels, rounded, at least 1.
      in_features: channels of the image.
      pool: what follows the stem's neurons.
      norm, dtype, param_dtype: as of `SEWResNet`, the stem included.
      rngs: its stream "params" initialises the weights.
      stages: blocks of each stage.
      **options: connect, neuron, readout, as of `SEWResNet`.

    Raises:
      ValueError: num_classes or width not positive.
    """
    widths = scaled_widths("SEWResNet", width)
    stem = Layers(norm, dtype, param_dtype, rngs).normalised(in_features, widths[0], 7, 2)
    dtypes: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype}
    return SEWResNet(
        num_classes, stem, stages=stages, widths=widths, pool=pool, norm=norm, **dtypes, rngs=rngs, **options
    )


def sew_resnet34(num_classes: int = 1000, *, rngs: nnx.Rngs, **options: Any) -> SEWResNet:
    """The published SEW-ResNet-34 for ImageNet: as `sew_resnet18` with stages 3-4-6-3, 21,797,672 parameters."""
    return sew_resnet18(num_classes, stages=(3, 4, 6, 3), rngs=rngs, **options)
