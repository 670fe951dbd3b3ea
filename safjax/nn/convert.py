"""A trained net of ReLUs as a spiking net of integrate-and-fire neurons."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.affine import at_zero, nonaffine_operation
from safjax.nn.dropout import Dropout
from safjax.nn.folding import fold_batch_norms, passed_on
from safjax.nn.neurons import IF
from safjax.nn.readouts import LeakyReadout
from safjax.nn.states import join
from safjax.nn.synapse import Synapse
from safjax.nn.task import check_arrays

WEIGHED = nnx.Linear | nnx.Conv


def convert(ann: nnx.Sequential, x: Any, *, percentile: float = 99.9) -> nnx.Sequential:
    """The spiking net that computes what a trained net of ReLUs does, the more exactly the more steps it takes.

        net = safjax.convert(ann, images)                # then, for few steps:
        step = safjax.train_step(loss, safjax.rules.saf_f(), optax.adam(1e-4), steps=4)

    Each ReLU becomes `IF` neurons whose firing rate stands for its activation a: of a constant input,

        θ r = (θ / T) clip(⌊T a / θ + ½⌋, 0, T),   |θ r − a| ≤ θ / 2T   where a ≤ θ

    (Bu et al., "Optimal ANN-SNN conversion for high-accuracy and ultra-low-latency spiking neural networks", 2022).
    Behind the first layer input comes unevenly, and the error is O(1/T). θ, a number for each layer, is a percentile
    of its activations on x, as of Rueckauer et al., "Conversion of continuous-valued deep networks to efficient
    event-driven networks for image classification", 2017; it is put into the weights, so that spikes are 1 and
    thresholds too. That the membrane begins at θ/2, and not at 0, is written as what is the same without leak: fire
    from θ/2, subtract θ, IF(0.5, reset=2). The readout is the mean over time, LeakyReadout(1.0). Batch normalisations
    are folded by their running statistics, dropout is left out.

    Args:
      ann: an `nnx.Sequential`, also of others, of `nnx.Linear`, `nnx.Conv`, `nnx.relu`, batch normalisations,
        dropouts, and linear functions such as average pooling and flattening; it ends in a layer with weights. Left
        unchanged.
      x: inputs that thresholds are taken from, [B, ...], some hundreds from the training data.
      percentile: of a layer's activations, in (0, 100]; 100 is the maximum, where nothing is cut off, and few steps are
        coarse.

    Returns:
      A net for `safjax.predict(net, x, steps=T)`, which every rule for IF neurons trains further.

    Raises:
      TypeError: ann is no `nnx.Sequential`, x holds no arrays.
      ValueError: a layer cannot be converted (max pooling, another activation, two ReLUs without weights between); the
        message says which, and what to write; a percentile out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> rngs = nnx.Rngs(0)
      >>> ann = nnx.Sequential(nnx.Linear(4, 16, rngs=rngs), nnx.relu, nnx.Linear(16, 2, rngs=rngs))
      >>> x = jnp.arange(12.0).reshape(3, 4) / 12
      >>> net = safjax.convert(ann, x, percentile=100)
      >>> error = lambda T: float(jnp.max(jnp.abs(safjax.predict(net, x, steps=T)[-1] - ann(x))))
      >>> error(256) < 0.01 < error(4)
      True
    """
    if not isinstance(ann, nnx.Sequential):
        raise TypeError(
            f"convert(ann, x): expected an nnx.Sequential of layers and nnx.relu, but was given {type(ann).__name__}. "
            "Write the net as one; a net with branches is to be built of safjax.nn, and its weights put into it."
        )
    if isinstance(percentile, bool) or not isinstance(percentile, int | float) or not 0 < percentile <= 100:
        raise ValueError(f"convert(percentile={percentile!r}): expected a number in (0, 100]; 100 is the maximum.")
    check_arrays(x)
    layers: list[Any] = []
    before, activations = 1.0, jnp.asarray(x)
    for group in list(_groups(ann, activations)):
        activations = group.called(activations)
        after = _threshold(group, activations, percentile) if group.fires else 1.0
        layers.append(Synapse(nnx.Sequential(*group.scaled(before, after))))
        layers.append(IF(0.5, reset=2.0) if group.fires else LeakyReadout(1.0))
        before, activations = after, nnx.relu(activations)
    return nnx.Sequential(*layers)


class _Group(NamedTuple):
    """What stands between two ReLUs.

    Attributes:
      layers: in their order, with weights or linear.
      path: of the ReLU behind it, or of the last layer.
      fires: whether a ReLU stands behind it.
    """

    layers: tuple[Any, ...]
    path: str
    fires: bool

    def called(self, x: jax.Array) -> jax.Array:
        """What the layers make of x."""
        for layer in self.layers:
            x = layer(x)
        return x

    def scaled(self, before: float, after: float) -> Iterator[Any]:
        """The layers for an input that is divided by `before`, whose result is divided by `after`."""
        factor = before / after
        for layer in self.layers:
            if isinstance(layer, WEIGHED):
                layer = nnx.clone(layer)
                layer.kernel[...] = (layer.kernel[...] * factor).astype(layer.kernel.dtype)
                if layer.bias is not None:
                    layer.bias[...] = (layer.bias[...] / after).astype(layer.bias.dtype)
                factor = 1.0
            yield layer


def _groups(ann: nnx.Sequential, x: jax.Array) -> Iterator[_Group]:
    """The layers of the net, cut at its ReLUs; each is looked at with what comes to it of x."""
    found: list[Any] = []
    path = ""
    folded = _flattened(fold_batch_norms(ann).layers, ("layers",))
    for (path, layer), (_, own) in zip(folded, _flattened(ann.layers, ("layers",)), strict=True):
        # In the folded copy functions may be copies.
        if own is nnx.relu:
            yield _checked(found, path, True)
            x, found = jax.eval_shape(nnx.relu, x), []
            continue
        if isinstance(layer, nnx.Dropout | Dropout) or layer is passed_on:
            continue
        _refuse(own, layer, path, x)
        found.append(layer)
        x = jax.eval_shape(layer, x)
    yield _checked(found, path, False)


def _flattened(layers: Any, path: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    for i, layer in enumerate(layers):
        if isinstance(layer, nnx.Sequential):
            yield from _flattened(layer.layers, (*path, i, "layers"))
        else:
            yield join((*path, i)), layer


def _checked(layers: list[Any], path: str, fires: bool) -> _Group:
    if any(isinstance(layer, WEIGHED) for layer in layers):
        return _Group(tuple(layers), path, fires)
    if fires:
        told = f"Before the nnx.relu at '{path}' comes no layer with weights since the one before it"
        raise ValueError(
            f"convert(ann, x): {told}. Leave this nnx.relu out: of what is not below 0 it changes nothing."
        )
    raise ValueError(
        f"convert(ann, x): the net ends at '{path or 'the net itself'}' without a layer with weights behind its last "
        "nnx.relu. End it with the nnx.Linear or nnx.Conv that gives its outputs."
    )


def _threshold(group: _Group, activations: jax.Array, percentile: float) -> float:
    threshold = float(jnp.percentile(nnx.relu(activations).astype(jnp.float32), percentile))
    if not threshold > 0:
        raise ValueError(
            f"convert(ann, x): the activations of the nnx.relu at '{group.path}' have {threshold} for their "
            f"{percentile}th percentile on x, so that there is no threshold. Give a higher percentile, or inputs like "
            "those that the net was trained on."
        )
    return threshold


def _refuse(own: Any, layer: Any, path: str, x: jax.Array) -> None:
    """What has no meaning for firing rates; `own` is the layer in the net itself, by which it is named."""
    if isinstance(layer, WEIGHED):
        return
    name = f"'{getattr(own, '__name__', type(own).__name__)}' at '{path}'"
    if isinstance(layer, nnx.Module):
        raise ValueError(
            f"convert(ann, x): {name} cannot be converted. Expected are nnx.Linear, nnx.Conv, nnx.relu, batch "
            "normalisation behind one of the first two, dropout, and linear functions."
        )
    operation = nonaffine_operation(lambda _, x: layer(x), (), x)
    if operation is not None:
        raise ValueError(
            f"convert(ann, x): the function {name} contains {operation}, which firing rates cannot follow. Train the "
            "net with nnx.relu itself for activation, and with average pooling, safjax.ops.avg_pool(x, (2, 2)), in "
            "place of max pooling."
        )
    if bool(jnp.any(at_zero(lambda _, x: layer(x), (), x) != 0)):
        raise ValueError(
            f"convert(ann, x): the function {name} makes something else than 0 of 0. What is added belongs into the "
            "bias of a layer: rates are multiples of activations, and so must be what functions make of them."
        )
