"""What the residual networks have in common: stages of blocks, and convolutions with a normalisation behind them."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Any

import jax
from flax import nnx

from safjax.nn import BatchNorm, Synapse
from safjax.ops import global_avg_pool, max_pool

WIDTHS = (64, 128, 256, 512)
"""Channels of the four stages of the usual ResNets."""

HE = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")

Normalisation = Callable[[int], Callable[[jax.Array], jax.Array]]
"""features ↦ the layer behind a convolution of so many features."""


def check_stages(owner: object, num_classes: Any, stages: Sequence[Any], widths: Sequence[Any]) -> None:
    """Refuses what are no stages of blocks.

    Raises:
      ValueError: num_classes not positive; stages and widths not as many positive whole numbers.
    """
    name = type(owner).__name__
    if not is_count(num_classes):
        raise ValueError(f"{name}(num_classes={num_classes!r}): expected a whole number of classes ≥ 1.")
    if not stages or len(stages) != len(widths) or not all(map(is_count, (*stages, *widths))):
        raise ValueError(
            f"{name}(stages={tuple(stages)!r}, widths={tuple(widths)!r}): expected the blocks and the channels of each "
            "stage, as many of the one as of the other and all whole numbers ≥ 1, for instance stages=(3, 4, 6, 3), "
            f"widths={WIDTHS}."
        )


def check_strides(owner: object, stages: Sequence[Any], strides: Sequence[Any]) -> None:
    """Refuses what are no strides of stages.

    Raises:
      ValueError: they are not as many positive whole numbers as there are stages.
    """
    if len(strides) != len(stages) or not all(map(is_count, strides)):
        raise ValueError(
            f"{type(owner).__name__}(strides={tuple(strides)!r}): expected the stride of the first block of each "
            f"of the {len(stages)} stages, whole numbers ≥ 1, for instance {(1, *[2] * (len(stages) - 1))}."
        )


def shapes_of_blocks(
    stages: Sequence[int], widths: Sequence[int], strides: Sequence[int] | None = None
) -> Iterator[tuple[int, int, int]]:
    """(channels in, channels out, strides) of one block after the other; the first of a stage has its stride, others 1.

    Without `strides` every stage but the first halves the image.
    """
    strides = (1, *[2] * (len(stages) - 1)) if strides is None else strides
    channels = widths[0]
    for count, features, stride in zip(stages, widths, strides, strict=True):
        for place in range(count):
            yield channels, features, 1 if place else stride
            channels = features


def scaled_widths(name: str, width: Any) -> tuple[int, ...]:
    """`WIDTHS` times a factor, rounded, at least 1.

    Raises:
      ValueError: the factor is not positive.
    """
    if not 0 < width < inf:
        raise ValueError(f"{name}: width is {width!r}; expected a positive factor for all channels, such as 0.5.")
    return tuple(max(1, round(width * channels)) for channels in WIDTHS)


def is_count(value: Any) -> bool:
    """Whether it is a whole number ≥ 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def halved(x: jax.Array) -> jax.Array:
    """The largest of each 3×3 pixels, every second of them, as behind the stem of the usual ResNets."""
    return max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))


@dataclasses.dataclass(frozen=True)
class Layers:
    """Makes the layers of a residual network: convolutions without bias, each with a normalisation, and the last one.

    Attributes:
      norm: the normalisation; None for `BatchNorm(features, over="time")`.
      dtype, param_dtype, rngs: of the layers.
    """

    norm: Normalisation | None
    dtype: jax.typing.DTypeLike | None
    param_dtype: jax.typing.DTypeLike
    rngs: nnx.Rngs

    def normalised(self, inputs: int, outputs: int, size: int, strides: int) -> nnx.Sequential:
        """size×size convolution with as many zeros on either side, as PyTorch pads; then the normalisation."""
        padding = ((size // 2, size // 2),) * 2
        options: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype, "rngs": self.rngs}
        convolution = nnx.Conv(
            inputs, outputs, (size, size), strides, padding=padding, use_bias=False, kernel_init=HE, **options
        )
        return nnx.Sequential(convolution, self.normalisation(outputs))

    def normalisation(self, features: int) -> Callable[[jax.Array], jax.Array]:
        """One that stands behind so many features."""
        if self.norm is None:
            return BatchNorm(features, over="time", param_dtype=self.param_dtype)
        return self.norm(features)

    def classifier(self, features: int, num_classes: int) -> Synapse:
        """The mean over space and a dense layer."""
        dense = nnx.Linear(features, num_classes, dtype=self.dtype, param_dtype=self.param_dtype, rngs=self.rngs)
        return Synapse(nnx.Sequential(global_avg_pool, dense))
