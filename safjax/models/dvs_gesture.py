"""The network for event-camera gestures of Fang et al."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn import PLIF, BatchNorm, Dropout, InstantReadout, LeakyReadout, Neuron, ResetTo, Synapse
from safjax.ops import max_pool
from safjax.surrogate import Arctan

BLOCKS, HIDDEN, VOTERS = 5, 512, 10


def published_neuron() -> Neuron:
    """SpikingJelly's ParametricLIFNode(2.0, surrogate_function=ATan())."""
    return PLIF(0.5, surrogate=Arctan(), reset=ResetTo(0.0), decay_input=True)


class DVSGestureNet(nnx.Module):
    """Five blocks {3×3 convolution, batch normalisation, neurons, 2×2 max pooling}, two dense layers of neurons, votes.

    Dropout before each dense layer; of the last neurons ten vote for each class, and the output is the mean of their
    spikes. Fang et al., "Incorporating learnable membrane time constant to enhance learning of spiking neural
    networks", 2021, as SpikingJelly's `DVSGestureNet`: 1,698,926 parameters for images of 128×128 and 11 classes,
    without those of the neurons.

    Max pooling is not affine and the statistics go over all time steps, so exodus(), slayer() and bptt(layerwise=True)
    train it; with over="step" bptt() and sltt() do too.

    Args:
      num_classes: outputs.
      channels: of each convolution.
      size: height and width of the image, a multiple of 32.
      in_features: channels of the image; ON and OFF events.
      neuron: makes the neurons of one layer; by default the published ones, `PLIF` of λ = 1/2 (τ = 2) with decayed
        input that are reset to 0.
      dropout: the fraction of silenced neurons.
      over: as of `BatchNorm`.
      readout: of the votes; default `InstantReadout()`.
      dtype: in which synapses compute, for instance bfloat16; None takes that of inputs and parameters.
      param_dtype: dtype of the parameters.
      rngs: its stream "params" initialises the weights, "dropout" gives the masks.

    Raises:
      ValueError: size is no positive multiple of 32, num_classes or channels no whole numbers ≥ 1.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> net = safjax.models.DVSGestureNet(channels=4, size=32, rngs=nnx.Rngs(0))
      >>> safjax.predict(net, jnp.ones((4, 2, 32, 32, 2))).shape
      (4, 2, 11)
    """

    def __init__(
        self,
        num_classes: int = 11,
        *,
        channels: int = 128,
        size: int = 128,
        in_features: int = 2,
        neuron: Callable[[], Neuron] = published_neuron,
        dropout: float = 0.5,
        over: str = "time",
        readout: LeakyReadout | InstantReadout | None = None,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        _check(num_classes, channels, size)
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        blocks: list[Synapse | Neuron] = []
        for features in (in_features, *[channels] * (BLOCKS - 1)):
            init = _uniform(9 * features)
            convolution = nnx.Conv(features, channels, (3, 3), use_bias=False, kernel_init=init, **options)
            norm = BatchNorm(channels, over=over, momentum=0.9, dtype=dtype, param_dtype=param_dtype)
            before = [_max_pool] if blocks else []
            blocks += [Synapse(nnx.Sequential(*before, convolution, norm)), neuron()]
        self.features = nnx.Sequential(*blocks, Synapse(_max_pool_and_flatten))
        self.dropouts = nnx.List([Dropout(dropout, rngs=rngs) for _ in range(2)])
        inputs, voters = channels * (size // 2**BLOCKS) ** 2, VOTERS * num_classes
        self.dense = nnx.List([_dense(inputs, HIDDEN, options), _dense(HIDDEN, voters, options)])
        self.neurons = nnx.List([neuron(), neuron()])
        self.votes = Synapse(_vote)
        self.readout = InstantReadout() if readout is None else readout

    def __call__(self, x: Any) -> jax.Array:
        """One step: x[B, H, W, C] ↦ votes[B, num_classes]."""
        x = self.features(x)
        for dropout, dense, neuron in zip(self.dropouts, self.dense, self.neurons, strict=True):
            x = neuron(dense(dropout(x)))
        return self.readout(self.votes(x))


def _max_pool(x: jax.Array) -> jax.Array:
    return max_pool(x, (2, 2))


def _max_pool_and_flatten(x: jax.Array) -> jax.Array:
    return _max_pool(x).reshape(x.shape[0], -1)


def _vote(spikes: jax.Array) -> jax.Array:
    return spikes.reshape(spikes.shape[0], -1, VOTERS).mean(-1)


def _dense(inputs: int, outputs: int, options: dict[str, Any]) -> Synapse:
    init = _uniform(inputs)
    return Synapse(nnx.Linear(inputs, outputs, kernel_init=init, bias_init=init, **options))


def _uniform(inputs: int) -> Callable[..., Any]:
    """U(−1/√n, 1/√n) for n inputs, PyTorch's default."""
    bound = inputs**-0.5
    return lambda key, shape, dtype, **_: jax.random.uniform(key, shape, dtype, -bound, bound)


def _check(num_classes: Any, channels: Any, size: Any) -> None:
    numbers = {"num_classes": num_classes, "channels": channels, "size": size}
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise ValueError(f"DVSGestureNet({name}={number!r}): expected a whole number ≥ 1.")
    if size % 2**BLOCKS:
        raise ValueError(
            f"DVSGestureNet(size={size}): five poolings halve the image, so its side must be a multiple of 32, for "
            "instance 128."
        )
