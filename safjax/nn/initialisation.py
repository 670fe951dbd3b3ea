"""Initial weights at which integrate-and-fire neurons fire at a given rate, without data."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from safjax.neurons import LIFCell, run_cell
from safjax.surrogate import Sigmoid

MOST_INPUTS, NEURONS, BATCH = 512, 512, 8
"""Of the simulation; the currents of more inputs are as those of these, normal to a few percent."""


def lif_init(
    input_rate: float, *, rate: float = 0.1, decay: float = 0.5, threshold: float = 1.0, steps: int = 50
) -> Callable[..., jax.Array]:
    """An initialiser of kernels, with which LIF neurons fire at a rate: w ~ N(0, (g θ)² / n).

        nnx.Linear(700, 128, kernel_init=lif_init(0.02, decay=0.95), rngs=rngs)

    n is the fan-in, the product of all axes of the kernel but the last. Of n inputs that fire independently, each in a
    step with probability r, the current has, over neurons and steps,

        E[I] = 0,   Var[I] = n Var[w] r,   of which n Var[w] r² is each neuron's own constant, for its weights stay

    so that a membrane that is never reset has in the end

        Var[u] = n Var[w] (r (1 − r) / (1 − λ²) + r² / (1 − λ)²),

    the variance of `SpikingMLP`. Which deviation of u gives the rate ν hangs on all that a formula leaves out: resets,
    how long u stays high, the T steps from rest, and currents of few inputs, which are not normal. So g is searched:
    a layer of such neurons, with such weights and inputs, is simulated once for each fan-in, and a larger or a smaller
    g is taken, until it fires at ν. What the simulation gives, the layer does, as long as its inputs are as assumed:
    0 or 1, at the rate r, independent. Behind average pooling, at the border of an image that is filled up with zeros,
    or where inputs fire together, it will fire less or more; `scale_to_rate` looks at the inputs that there are.

    Args:
      input_rate: r, spikes an input and step, in (0, 1]; of the second and later layers the `rate` of the one before.
      rate: ν, spikes per neuron and step that are aimed at, in (0, 0.4].
      decay: λ of the neurons, in [0, 1].
      threshold: θ.
      steps: T, the length of the sequences over which ν is the mean.

    Returns:
      An initialiser as those of `jax.nn.initializers`: (key, shape, dtype) ↦ kernel.

    Raises:
      ValueError: arguments out of their ranges; or, when called, no weights at which neurons fire so much.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, LeakyReadout, Synapse, lif_init
      >>> dense = nnx.Linear(100, 200, kernel_init=lif_init(0.05, rate=0.1, decay=0.9), rngs=nnx.Rngs(0))
      >>> net = nnx.Sequential(Synapse(dense), LIF(0.9), LeakyReadout())
      >>> x = jax.random.bernoulli(jax.random.key(0), 0.05, (50, 8, 100)).astype(float)
      >>> 0.08 < float(safjax.simulate(net, x).spikes["layers.1"].mean()) < 0.12
      True
    """
    ranges = {"input_rate": (input_rate, 1.0), "rate": (rate, 0.4), "decay": (decay, 1.0)}
    for name, (value, most) in ranges.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value <= most or (value == 0 and name != "decay"):
            interval = f"{'[' if name == 'decay' else '('}0, {most:g}]"
            raise ValueError(f"lif_init({name}={value!r}): expected a Python number in {interval}.")
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold < math.inf:
        raise ValueError(f"lif_init(threshold={threshold!r}): expected a positive, finite Python number.")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"lif_init(steps={steps!r}): expected a whole number ≥ 1, the length of the sequences.")

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32, **options: Any) -> jax.Array:
        inputs = math.prod(shape[:-1])
        gain = _gain(min(inputs, MOST_INPUTS), float(input_rate), float(rate), float(decay), steps)
        return jax.nn.initializers.normal(gain * threshold / math.sqrt(inputs))(key, shape, dtype, **options)

    return init


@functools.lru_cache(maxsize=256)
def _gain(inputs: int, input_rate: float, rate: float, decay: float, steps: int) -> float:
    """g at which neurons of threshold 1 with this many inputs fire at the rate."""
    with jax.ensure_compile_time_eval():
        currents = _currents(inputs, input_rate, steps)
        low, high = 1e-3, 1e3
        if (most := float(_rate(currents, high, decay))) < rate:
            raise ValueError(
                f"lif_init(input_rate={input_rate}, rate={rate}, decay={decay}, steps={steps}): neurons with {inputs} "
                f"such inputs fire at {most:.3g} spikes per step at most, however large their weights are, since in "
                "the other steps no input fires, or their sum is negative. Aim at a lower rate."
            )
        for _ in range(24):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if float(_rate(currents, middle, decay)) < rate else (low, middle)
    return high


def _currents(inputs: int, input_rate: float, steps: int) -> jax.Array:
    """Those of a layer with weights of variance 1 / n, [T, B, neurons]."""
    spikes_key, weights_key = jax.random.split(jax.random.key(0))
    spikes = jax.random.bernoulli(spikes_key, input_rate, (steps, BATCH, inputs)).astype(jnp.float32)
    weights = jax.random.normal(weights_key, (inputs, NEURONS), jnp.float32) / math.sqrt(inputs)
    return jnp.matmul(spikes, weights, precision="highest")


@jax.jit
def _rate(currents: jax.Array, gain: float, decay: float) -> jax.Array:
    return jnp.mean(run_cell(LIFCell(decay, 1.0, Sigmoid()), gain * currents)[1])
