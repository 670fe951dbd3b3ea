"""A spiking vision transformer."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.models.stages import Layers, Normalisation, halved, is_count
from safjax.nn import LIF, BatchNorm, InstantReadout, LeakyReadout, Neuron, Synapse

SCALE = 0.125
"""Of the product of queries and keys, whatever the number of heads."""


class Spikformer(nnx.Module):
    """Vision transformer of spikes, with attention that has no softmax.

    An image becomes tokens x[B, N, C] by four normalised 3×3 convolutions with neurons, of C/8, C/4, C/2 and C
    channels, max pooling behind some of them, and a fifth one whose spikes are added as a relative position. Then, with
    f normalised dense layers and N neurons, blocks follow of

        x ↦ x + N(f(N(Q Kᵀ V / 8))),   Q, K, V = N(f(x)) each, by heads        attention
        x ↦ x + N(f(N(f(x))))                                                  multi-layer perceptron of width 4 C

    and the mean over tokens is classified. Zhou et al., "Spikformer: when spiking neural network meets transformer",
    ICLR 2023: for CIFAR-10 4,155,178 parameters at C = 256 and 9,324,730 at C = 384, four blocks each. The published
    code lays out keys and values in another order of tokens and channels before it takes the heads; here it is the
    paper's equation.

    A product of spikes is not affine: no rule that accumulates trains it. Trained by bptt(layerwise=True), exodus and
    slayer; with `norm=lambda n: BatchNorm(n, over="step", deviation=0.5)` by bptt and sltt too.

    Args:
      num_classes: outputs.
      features: C, a multiple of 8 and of `heads`.
      depth: blocks.
      heads: of the attention.
      expansion: width of the perceptrons in units of C.
      pooled: behind which of the four convolutions the resolution is halved; of CIFAR the last two, of ImageNet all.
      in_features: channels of the image.
      neuron: makes the neurons of one place; default `LIF()`.
      norm: features ↦ the normalisation; None for `BatchNorm(features, over="time", deviation=0.5)`, which takes the
        currents by half as the published neurons do at τ = 2. What attention gives is not normalised, and counts
        double at its neurons, whose published threshold is 0.5.
      readout: of the final current; default `InstantReadout()`, whose mean over time is the published answer.
      dtype: in which synapses compute, for instance bfloat16; None takes that of inputs and parameters.
      param_dtype: dtype of the parameters, those of `norm` aside.
      rngs: its stream "params" initialises the weights.

    Raises:
      ValueError: sizes that are not positive whole numbers; features no multiple of 8 and of heads; not four truth
        values in pooled.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> net = safjax.models.Spikformer(10, features=16, depth=1, heads=2, rngs=nnx.Rngs(0))
      >>> safjax.predict(net, jnp.ones((2, 8, 8, 3)), steps=4).shape
      (4, 2, 10)
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        features: int = 384,
        depth: int = 4,
        heads: int = 12,
        expansion: int = 4,
        pooled: Sequence[bool] = (False, False, True, True),
        in_features: int = 3,
        neuron: Callable[[], Neuron] = LIF,
        norm: Normalisation | None = None,
        readout: LeakyReadout | InstantReadout | None = None,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        _check(num_classes, features, depth, heads, expansion, pooled)
        layers = Layers(_norm(norm, param_dtype), dtype, param_dtype, rngs)
        self.patches = Patches(in_features, features, pooled, neuron, layers)
        self.blocks = nnx.Sequential(*(Block(features, heads, expansion, neuron, layers) for _ in range(depth)))
        self.classifier = layers.classifier(features, num_classes)
        self.readout = InstantReadout() if readout is None else readout

    def __call__(self, x: Any) -> jax.Array:
        """One step: x[B, H, W, C] ↦ logits[B, num_classes]."""
        return self.readout(self.classifier(self.blocks(self.patches(x))))


class Patches(nnx.Module):
    """An image as tokens of spikes, [B, H, W, channels] ↦ [B, H′ W′, features]."""

    def __init__(
        self,
        channels: int,
        features: int,
        pooled: Sequence[bool],
        neuron: Callable[[], Neuron],
        layers: Layers,
    ):
        parts: list[nnx.Module] = []
        for pool, outputs in zip(pooled, (features // 8, features // 4, features // 2, features), strict=True):
            parts += [Synapse(layers.normalised(channels, outputs, 3, 1)), neuron()]
            parts += [Synapse(halved)] if pool else []
            channels = outputs
        self.maps = nnx.Sequential(*parts)
        self.position, self.neuron = Synapse(layers.normalised(features, features, 3, 1)), neuron()
        self.tokens = Synapse(tokens)

    def __call__(self, x: Any) -> Any:
        x = self.maps(x)
        return self.tokens(x + self.neuron(self.position(x)))


class Block(nnx.Module):
    """Attention and a perceptron, each added to what it is given; takes and gives tokens."""

    def __init__(self, features: int, heads: int, expansion: int, neuron: Callable[[], Neuron], layers: Layers):
        def dense(inputs: int, outputs: int) -> nnx.Sequential:
            return nnx.Sequential(Synapse(_dense(inputs, outputs, layers)), neuron())

        self.queries, self.keys, self.values = (dense(features, features) for _ in range(3))
        self.attention, self.attended = Synapse(Attention(heads)), neuron()
        self.projection = dense(features, features)
        self.perceptron = nnx.Sequential(dense(features, expansion * features), dense(expansion * features, features))

    def __call__(self, x: Any) -> Any:
        attended = self.attended(self.attention(self.queries(x), self.keys(x), self.values(x)))
        x = x + self.projection(attended)
        return x + self.perceptron(x)


class Attention(nnx.Module):
    """Q Kᵀ V / 8 of each head; of three arrays of tokens, [B, N, C], one such array."""

    def __init__(self, heads: int):
        self.heads = heads

    def __call__(self, queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
        q, k, v = (x.reshape(*x.shape[:2], self.heads, -1) for x in (queries, keys, values))
        weights = SCALE * jnp.einsum("bnhc,bmhc->bhnm", q, k)
        return jnp.einsum("bhnm,bmhc->bnhc", weights, v).reshape(values.shape)


def tokens(x: jax.Array) -> jax.Array:
    """[B, H, W, C] ↦ [B, H W, C]."""
    return x.reshape(x.shape[0], -1, x.shape[-1])


def _dense(inputs: int, outputs: int, layers: Layers) -> nnx.Sequential:
    options: dict[str, Any] = {"dtype": layers.dtype, "param_dtype": layers.param_dtype, "rngs": layers.rngs}
    dense = nnx.Linear(inputs, outputs, kernel_init=nnx.initializers.truncated_normal(0.02), **options)
    return nnx.Sequential(dense, layers.normalisation(outputs))


def _norm(norm: Normalisation | None, param_dtype: jax.typing.DTypeLike) -> Normalisation:
    if norm is not None:
        return norm
    return functools.partial(BatchNorm, over="time", deviation=0.5, param_dtype=param_dtype)


def _check(num_classes: int, features: int, depth: int, heads: int, expansion: int, pooled: Sequence[bool]) -> None:
    sizes = {"num_classes": num_classes, "features": features, "depth": depth, "heads": heads, "expansion": expansion}
    for name, size in sizes.items():
        if not is_count(size):
            raise ValueError(f"Spikformer({name}={size!r}): expected a whole number ≥ 1.")
    if features % 8 or features % heads:
        raise ValueError(
            f"Spikformer(features={features}, heads={heads}): expected a multiple of 8, for the channels of the first "
            "convolution, and of heads, for the features of each; the published ones are 384 and 12."
        )
    if len(pooled) != 4 or not all(isinstance(pool, bool) for pool in pooled):
        raise ValueError(
            f"Spikformer(pooled={tuple(pooled)!r}): expected four truth values, whether to halve the resolution behind "
            "each of the four convolutions; of CIFAR (False, False, True, True)."
        )
