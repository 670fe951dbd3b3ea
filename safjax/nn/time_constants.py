"""Decays of many neurons: drawn from distributions of time constants, and learned within bounds of their own.

    decay = decays(128, uniform(5, 25), between=(5, 25), rngs=rngs)
    lif = safjax.nn.LIF(decay)

A time constant τ, in steps, is a decay λ = exp(−1/τ). Distributions are functions (key, shape, dtype) ↦ τ, of the form
of `nnx.initializers`.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn.numbers import DECAYS, checked_rngs

Distribution = Callable[[jax.Array, tuple[int, ...], Any], jax.Array]


def uniform(low: float, high: float) -> Distribution:
    """τ ~ U(low, high), 0 < low ≤ high."""
    _require(0 < low <= high < math.inf, f"uniform({low!r}, {high!r}): expected 0 < low ≤ high, in steps.")
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, low, high)


def log_uniform(low: float, high: float) -> Distribution:
    """log τ ~ U(log low, log high), 0 < low ≤ high: as many neurons between 2 and 4 steps as between 20 and 40."""
    _require(0 < low <= high < math.inf, f"log_uniform({low!r}, {high!r}): expected 0 < low ≤ high, in steps.")
    ends = math.log(low), math.log(high)
    return lambda key, shape, dtype: jnp.exp(jax.random.uniform(key, shape, dtype, *ends))


def normal(mean: float, deviation: float) -> Distribution:
    """τ ~ N(mean, deviation²), of which only values above 0 are drawn; mean, deviation > 0."""
    positive = 0 < mean < math.inf and 0 < deviation < math.inf
    _require(positive, f"normal({mean!r}, {deviation!r}): expected a mean and a deviation above 0, in steps.")

    def draw(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        return mean + deviation * jax.random.truncated_normal(key, -mean / deviation, jnp.inf, shape, dtype)

    return draw


def gamma(mean: float, order: float = 3.0) -> Distribution:
    """τ ~ Γ(order, mean / order), of standard deviation mean / √order; mean, order > 0.

    As in Perez-Nieves, Leung, Dragotti & Goodman, "Neural heterogeneity promotes robust learning", 2021.
    """
    positive = 0 < mean < math.inf and 0 < order < math.inf
    _require(positive, f"gamma({mean!r}, order={order!r}): expected a mean, in steps, and an order above 0.")
    return lambda key, shape, dtype: mean / order * jax.random.gamma(key, order, shape, dtype)


def decays(
    shape: int | tuple[int, ...],
    distribution: Distribution,
    between: tuple[float, float] | None = None,
    *,
    learned: bool = True,
    param_dtype: jax.typing.DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> nnx.Variable[Any]:
    """λ = exp(−1/τ) for each neuron, τ drawn at random; to be given to a neuron in the place of a decay.

    For any of them: `LIF(decay)`, the `synaptic_decay` of `CurrentLIF`, the `adaptation_decay` of `ALIF`.

    Args:
      shape: how many, or the shape of a sample.
      distribution: of τ in steps, for instance `uniform(5, 25)`.
      between: (τ_min, τ_max) in steps, 0 < τ_min < τ_max, ∞ for no leak: what is drawn outside is put at the nearest
        end, and learned decays stay inside. None bounds λ by [0, 1] alone.
      learned: whether they are learned; else they stay as drawn.
      param_dtype: dtype of the decays.
      rngs: its stream "params" draws.

    Returns:
      An `nnx.Param`, or an `nnx.Variable` if not learned.

    Raises:
      ValueError: between is no such pair.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from safjax.nn import LIF, time_constants
      >>> slow = time_constants.gamma(20.0)
      >>> lif = LIF(time_constants.decays(128, slow, between=(5, 25), rngs=nnx.Rngs(0)))
      >>> tau = -1 / jnp.log(lif.decay[...])
      >>> tau.shape, bool(jnp.all((tau > 4.99) & (tau < 25.01)))
      ((128,), True)
    """
    low, high = (0.0, math.inf) if between is None else between
    _require(
        between is None or 0 < low < high,
        f"decays(between={between!r}): expected (τ_min, τ_max) in steps, 0 < τ_min < τ_max, for instance (5, 25).",
    )
    shape = (shape,) if isinstance(shape, int) else shape
    taus = jnp.clip(distribution(checked_rngs(decays, rngs).params(), shape, param_dtype), low, high)
    ends = DECAYS if between is None else (math.exp(-1 / low), math.exp(-1 / high))
    value = jnp.exp(-1 / taus)
    return bounded(value, *ends) if learned else nnx.Variable(value)


def bounded(value: Any, low: float, high: float) -> nnx.Param[Any]:
    """A learned number, or an array of such, that stays in [low, high].

    It may stand in the place of any number of a neuron, such as a threshold. There it acts as the nearest end where it
    lies outside; and `safjax.train_step` puts it back after each update, whichever layer holds it.

    Args:
      value: at the start; of what lies outside the nearest end is taken.
      low, high: the bounds, −∞ and ∞ for none.

    Raises:
      ValueError: low is not below high; later, when a neuron is given bounds outside those of the number's own kind.

    Example:
      >>> import jax.numpy as jnp
      >>> from safjax.nn import LIF
      >>> from safjax.nn.time_constants import bounded
      >>> lif = LIF(threshold=bounded(jnp.full(128, 1.0), 0.5, 2.0))
    """
    _require(low < high, f"bounded(..., {low!r}, {high!r}): expected low < high.")
    value = jnp.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        value = value.astype(float)
    # In the format of the values: a float32 that is the end itself would else lie outside.
    interval = tuple(float(value.dtype.type(end)) for end in (low, high))
    return nnx.Param(jnp.clip(value, *interval), interval=interval)


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise ValueError(sentence)
