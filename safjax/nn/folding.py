"""Batch normalisation folded into the layer before it: the trained net without it."""

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn.batch_norm import BatchNorm
from safjax.nn.convolution import WSConv
from safjax.nn.graphs import split_net
from safjax.nn.normalised import NormalisedLIF
from safjax.nn.online_batch_norm import OnlineBatchNorm
from safjax.nn.states import join

Net = TypeVar("Net", bound=nnx.Module)


def fold_batch_norms(net: Net) -> Net:
    """A copy of a net in which each batch normalisation is folded into the layer directly before it.

        kernel ← f · kernel,   bias ← f (bias − m) + β,   f = γ d / √(v + ε)

    m and v are the running statistics. The copy computes what the net does after `net.eval()`, with the same spikes up
    to rounding, holds no normalisation, and trains under every rule that trains affine layers, those that accumulate
    among them. A `BatchNorm` (`OnlineBatchNorm`, `nnx.BatchNorm`) is folded where it comes next after an `nnx.Conv`,
    `nnx.Linear` or `WSConv` in the same `nnx.Sequential`; in its place then stands a function that does nothing, so
    that no other layer moves. Whatever the padding, this is exact. A normalisation before a convolution is not folded:
    what it makes of zeros is not what the padding puts around them. That of the potential of a `NormalisedLIF` becomes
    a threshold.

    Args:
      net: with the statistics and parameters that it has now; left unchanged.

    Raises:
      TypeError: net is no `nnx.Module`.
      ValueError: a batch normalisation stands elsewhere, or is not one map for all steps; the message names all of
        those, and why.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, BatchNorm, LeakyReadout, Synapse, fold_batch_norms
      >>> dense = nnx.Linear(4, 2, use_bias=False, rngs=nnx.Rngs(0))
      >>> net = nnx.Sequential(Synapse(nnx.Sequential(dense, BatchNorm(2, over="time"))), LIF(), LeakyReadout())
      >>> folded = fold_batch_norms(net)
      >>> x = jnp.arange(60.0).reshape(5, 3, 4) / 30
      >>> bool(jnp.allclose(safjax.predict(net, x), safjax.predict(folded, x)))
      True
      >>> "saf_f" in safjax.check(net, x).trained_by, "saf_f" in safjax.check(folded, x).trained_by
      (False, True)
    """
    if not isinstance(net, nnx.Module):
        raise TypeError(
            f"fold_batch_norms(net): expected an nnx.Module, but was given one of type {type(net).__name__}."
        )
    split_net(net)  # Refuses one that a training step has used up.
    folded = copy.deepcopy(net)
    reasons: dict[tuple[Any, ...], str] = {}
    for path, module in list(nnx.iter_modules(folded)):
        if type(module) is nnx.Sequential:
            reasons.update(_fold_within(module, (*path, "layers")))
        if isinstance(module, NormalisedLIF):
            try:
                module.fold()
            except ValueError as error:
                reasons[*path, "norm"] = str(error)
    left = [path for path, module in nnx.iter_modules(folded) if isinstance(module, BatchNorm | nnx.BatchNorm)]
    if left:
        told = " ".join(f"The one at '{join(path)}' {reasons.get(path, _ALONE)}." for path in left)
        raise ValueError(f"fold_batch_norms(net): not every batch normalisation of this net can be folded. {told}")
    return folded


_ALONE = (
    "is no entry of an nnx.Sequential, so that nobody can tell what comes before it: write nnx.Sequential(layer, "
    "norm), with an nnx.Conv, nnx.Linear or WSConv before it"
)


def passed_on(x: Any) -> Any:
    """x; stands where a normalisation was folded away."""
    return x


def _fold_within(sequential: nnx.Sequential, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Folds what can be; (path, why not) of the others."""
    layers: list[Any] = []
    for i, layer in enumerate(sequential.layers):
        layers.append(layer)
        if not isinstance(layer, BatchNorm | nnx.BatchNorm):
            continue
        before = next((j for j in range(i - 1, -1, -1) if layers[j] is not passed_on), None)
        reason = _reason(layer, None if before is None else layers[before])
        if reason is not None:
            yield (*path, i), reason
        elif before is not None:
            # A copy: elsewhere in the net the same layer may stand without a normalisation.
            layers[before], layers[i] = _folded(nnx.clone(layers[before]), layer), passed_on
    if passed_on in layers:
        sequential.layers = nnx.List(layers)


def _reason(norm: Any, before: Any) -> str | None:
    """Why a normalisation cannot be folded into the layer before it; None if it can."""
    if type(norm) not in (BatchNorm, OnlineBatchNorm, nnx.BatchNorm) or getattr(norm, "axis", -1) != -1:
        return "may compute something else than one scale and shift for each entry of the last axis"
    if getattr(norm, "steps", None) is not None:
        return "has running statistics for each step, and is not one map for all of them"
    if type(before) not in (nnx.Conv, nnx.Linear, WSConv):
        what = "comes first in its nnx.Sequential" if before is None else f"stands behind {_named(before)}"
        return f"{what}, but can only be folded into an nnx.Conv, nnx.Linear or WSConv directly before it"
    (*stacked, features), kernel = norm.mean.shape, before.kernel.shape
    rank = len(before.kernel_size) + 2 if isinstance(before, nnx.Conv) else 4 if isinstance(before, WSConv) else 2
    if (*kernel[:-rank], kernel[-1]) != (*stacked, features):
        shape = list(norm.mean.shape)
        return f"has statistics of the shape {shape}, which do not fit the kernel before it, {list(kernel)}"
    return None


def _named(layer: Any) -> str:
    name = getattr(layer, "__name__", None)
    return f"the function '{name}'" if name else f"one of type {type(layer).__name__}"


def _folded(layer: Any, norm: Any) -> Any:
    """The layer with the normalisation in its numbers."""
    factor = getattr(norm, "deviation", 1.0) / jnp.sqrt(norm.var[...] + norm.epsilon)
    factor = factor if norm.scale is None else norm.scale[...] * factor
    bias = ((0 if layer.bias is None else layer.bias[...]) - norm.mean[...]) * factor
    bias = bias if norm.bias is None else bias + norm.bias[...]
    # The gain of a standardised kernel multiplies the whole of it.
    scaled = layer.gain if isinstance(layer, WSConv) else layer.kernel
    scaled.set_value(_times(scaled[...], factor))
    layer.bias = nnx.data(nnx.Param(bias.astype(jnp.promote_types(scaled.dtype, jnp.float32))))
    if not isinstance(layer, WSConv):
        layer.use_bias = True
    return layer


def _times(numbers: jax.Array, factor: jax.Array) -> jax.Array:
    """Numbers [..., features] times factor[features]; of stacked layers, both with an axis of layers in front."""
    *stacked, features = factor.shape
    shaped = factor.reshape(*stacked, *(1,) * (numbers.ndim - factor.ndim), features)
    return (numbers * shaped).astype(numbers.dtype)
