"""NIR's linear nodes as ordinary layers, channels last; all but their names and shapes follow PyTorch."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from safjax.nir.arrays import Shape, batch_first, batch_last, channels_last, field, listed, shape_of, whole
from safjax.ops import avg_pool


def _refused(name: str, node: Any, given: Shape, expected: str) -> ValueError:
    return ValueError(
        f"from_nir: the {type(node).__name__} '{name}' is given what has the shape {listed(given)}, channels first and "
        f"without the batch, but expected is {expected}. Exporters such as norse leave the batch axis in the Input "
        "node: write the shape of one example there."
    )


def _floating(array: Any) -> np.ndarray:
    """Real numbers, also where a file has whole ones."""
    array = np.asarray(array)
    return array if array.dtype.kind == "f" else array.astype(np.float64)


class Kept(nnx.Module):
    """y = W x + b along the last axis of [B, *kept, in], channels first, with a matrix for each entry of the others.

    Args:
      weight: W[*kept, out, in].
      bias: b[*kept, out], or None.
    """

    def __init__(self, weight: np.ndarray, bias: np.ndarray | None):
        self.weight = nnx.Param(jnp.asarray(weight))
        self.bias = None if bias is None else nnx.Param(jnp.asarray(bias))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, in, ...] with channels last ↦ [B, out, ...]."""
        y = jnp.einsum("...oi,b...i->b...o", self.weight[...], batch_first(x))
        return batch_last(y if self.bias is None else y + self.bias[...])


class Factor(nnx.Module):
    """y = s ⊙ x, learned.

    Args:
      scale: s, of the shape of a sample, channels last.
    """

    def __init__(self, scale: np.ndarray):
        self.scale = nnx.Param(jnp.asarray(scale))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, ...] ↦ the same shape."""
        return self.scale[...] * x


def dense(name: str, node: Any, given: Shape, convention: Any) -> tuple[Any, Shape]:
    """`Affine` and `Linear`: an `nnx.Linear`; with leading axes a matrix for each of their entries."""
    del convention
    weight, bias = _floating(node.weight), getattr(node, "bias", None)
    if weight.ndim < 2 or given != (*weight.shape[:-2], weight.shape[-1]):
        raise _refused(name, node, given, f"{listed((*weight.shape[:-2], weight.shape[-1]))}")
    made = (*weight.shape[:-2], weight.shape[-2])
    bias = None if bias is None else _bias(name, node, bias, made)
    if weight.ndim > 2:
        return Kept(weight, bias), made
    return nnx.Linear(weight.shape[1], weight.shape[0], **_parameters(weight.T, bias)), made


def _parameters(kernel: np.ndarray, bias: np.ndarray | None) -> dict[str, Any]:
    """Arguments of a layer that starts from these numbers."""
    return {
        "kernel_init": lambda *_: jnp.asarray(kernel),
        "bias_init": lambda *_: jnp.asarray(bias),
        "use_bias": bias is not None,
        "param_dtype": jnp.asarray(kernel[..., :0]).dtype,
        "rngs": nnx.Rngs(0),
    }


def _bias(name: str, node: Any, bias: Any, shape: Shape) -> np.ndarray:
    bias = _floating(bias)
    if bias.shape != shape:
        raise ValueError(
            f"from_nir: the {type(node).__name__} '{name}' has a bias of the shape {listed(bias.shape)}, but "
            f"expected is {listed(shape)}, one for each output."
        )
    return bias


def scale(name: str, node: Any, given: Shape, convention: Any) -> tuple[Any, Shape]:
    """`Scale`."""
    del convention
    factors = _floating(node.scale)
    if factors.size == 1:
        factors = np.full(given, factors.item(), factors.dtype)
    if factors.shape != given:
        raise _refused(name, node, given, listed(factors.shape))
    return Factor(channels_last(factors)), given


def convolution(name: str, node: Any, given: Shape, convention: Any) -> tuple[Any, Shape]:
    """`Conv1d` and `Conv2d`: an `nnx.Conv`, W[out, in, ...] ↦ kernel[..., in, out]."""
    del convention
    axes = 1 if type(node).__name__ == "Conv1d" else 2
    weight, groups = _floating(node.weight), whole(name, node, "groups", 1)[0]
    if weight.ndim != axes + 2 or groups < 1 or weight.shape[0] % groups:
        raise ValueError(
            f"from_nir: the {type(node).__name__} '{name}' has weights of the shape {listed(weight.shape)} in {groups} "
            f"groups; expected is [out, in / groups, {'H, W' if axes == 2 else 'L'}], out a multiple of the groups."
        )
    channels = weight.shape[1] * groups
    image = shape_of(node.input_shape)
    image = given[1:] if image is None else image
    if len(given) != axes + 1 or given != (channels, *image):
        raise _refused(name, node, given, listed((channels, *image)))
    strides, dilation = whole(name, node, "stride", axes), whole(name, node, "dilation", axes)
    if min(*strides, *dilation) < 1:
        raise ValueError(f"from_nir: stride and dilation of the {type(node).__name__} '{name}' are to be at least 1.")
    kernel = weight.shape[2:]
    extents = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    pads = _pads(name, node, extents, strides)
    bias = None if node.bias is None else _bias(name, node, node.bias, weight.shape[:1])
    layer = nnx.Conv(
        channels,
        weight.shape[0],
        kernel,
        strides=strides,
        padding=pads,
        kernel_dilation=dilation,
        feature_group_count=groups,
        **_parameters(np.moveaxis(weight, (0, 1), (-1, -2)), bias),
    )
    return layer, (weight.shape[0], *_places(name, node, given[1:], extents, strides, pads))


def _pads(name: str, node: Any, extents: Shape, strides: Shape) -> tuple[tuple[int, int], ...]:
    """(before, after) of each axis. "same" keeps the size, of an odd sum with the larger part behind."""
    padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    if not isinstance(padding, str):
        pads = whole(name, node, "padding", len(extents))
        if min(pads) < 0:
            raise ValueError(f"from_nir: the {type(node).__name__} '{name}' has a padding below 0, {pads}.")
        return tuple((p, p) for p in pads)
    if padding == "valid":
        return ((0, 0),) * len(extents)
    if padding != "same" or any(s != 1 for s in strides):
        raise ValueError(
            f"from_nir: the {type(node).__name__} '{name}' has padding {padding!r} and strides {strides}. Expected is "
            "'valid', 'same' with strides of 1, or whole numbers; NIR says 'same' of no other strides."
        )
    return tuple(((e - 1) // 2, (e - 1) - (e - 1) // 2) for e in extents)


def _places(name: str, node: Any, image: Shape, extents: Shape, strides: Shape, pads: Any) -> Shape:
    sizes = [m + sum(p) - e for m, p, e in zip(image, pads, extents, strict=True)]
    if min(sizes) < 0:
        raise ValueError(
            f"from_nir: the window of the {type(node).__name__} '{name}', {listed(extents)} wide, does not fit into "
            f"{listed(image)} padded by {pads}."
        )
    return tuple(size // s + 1 for size, s in zip(sizes, strides, strict=True))


def pooling(name: str, node: Any, given: Shape, convention: Any) -> tuple[Any, Shape]:
    """`SumPool2d` and `AvgPool2d`; a mean is that of the full window, also where it overlaps the padding."""
    del convention
    if len(given) != 3:
        raise _refused(name, node, given, "[C, H, W]")
    window, strides = whole(name, node, "kernel_size", 2), whole(name, node, "stride", 2)
    if min(*window, *strides) < 1:
        raise ValueError(
            f"from_nir: kernel_size and stride of the {type(node).__name__} '{name}' are to be at least 1."
        )
    pads = _pads(name, node, window, strides)
    made = (given[0], *_places(name, node, given[1:], window, strides, pads))
    if type(node).__name__ == "AvgPool2d":
        return lambda x: avg_pool(x, window, strides, pads), made
    return _sum_pool(window, strides, pads), made


def _sum_pool(window: Shape, strides: Shape, pads: Any) -> Callable[[jax.Array], jax.Array]:
    def pool(x: jax.Array) -> jax.Array:
        x = x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.float32)
        all_pads = [(0, 0), *pads, (0, 0)]
        return jax.lax.reduce_window(x, x.dtype.type(0), jax.lax.add, (1, *window, 1), (1, *strides, 1), all_pads)

    return pool


def flatten(name: str, node: Any, given: Shape, convention: Any) -> tuple[Any, Shape]:
    """`Flatten` of the axes start_dim ... end_dim of one example, in the order of channels, rows, columns."""
    (start,), (end,) = whole(name, node, "start_dim", 1), whole(name, node, "end_dim", 1)
    declared = shape_of(node.input_type)
    if declared is not None and declared != given:
        raise _refused(name, node, given, listed(declared))
    low, high = (n + len(given) if n < 0 else n for n in (start, end))
    if not 0 <= low <= high < len(given):
        raise ValueError(
            f"from_nir: the Flatten '{name}' is to join the axes {start} to {end} of an example of shape "
            f"{listed(given)}. NIR counts axes without the batch: all of them are start_dim=0, end_dim=-1."
        )
    made = (*given[:low], math.prod(given[low : high + 1]), *given[high + 1 :])
    if convention.flatten == "HWC" and len(given) > 1:
        if len(made) > 1:
            raise ValueError(
                f"from_nir: the Flatten '{name}' joins some of the axes only, of which the order rows, columns, "
                "channels says nothing."
            )
        return lambda x: x.reshape(len(x), -1), made
    if len(given) == len(made):
        return None, made
    return lambda x: _channels_last(batch_first(x).reshape(len(x), *made)), made


def _channels_last(x: jax.Array) -> jax.Array:
    return batch_last(x) if x.ndim > 2 else x


def delay(name: str, node: Any, given: Shape, dt: float) -> tuple[Any, Shape]:
    """`Delay`: whole steps, channels last; a number where all are the same.

    Raises:
      ValueError: a delay that is below 0 or no whole number of steps.
    """
    seconds = field(name, node, "delay", given)
    steps = np.round(seconds / dt)
    wrong = (np.abs(seconds / dt - steps) > 1e-4) | (seconds < 0)
    if np.any(wrong):
        raise ValueError(
            f"from_nir: the Delay '{name}' is {seconds[wrong][0]:g} long, which is {seconds[wrong][0] / dt:g} steps of "
            f"dt = {dt:g}. Expected are whole numbers of steps, 0 or more."
        )
    return channels_last(steps.astype(int)), given


LINEAR: dict[str, Callable[..., tuple[Any, Shape]]] = {
    "Affine": dense,
    "Linear": dense,
    "Scale": scale,
    "Conv1d": convolution,
    "Conv2d": convolution,
    "SumPool2d": pooling,
    "AvgPool2d": pooling,
    "Flatten": flatten,
}
"""(name, node, shape of what it is given, convention) ↦ (a layer or function, None for none; shape of its result)."""


def biased(node: Any) -> bool:
    """Whether a node makes something of zeros."""
    bias = getattr(node, "bias", None)
    return bias is not None and bool(np.any(np.asarray(bias)))
