"""Forward propagation through time: updates within a sequence that keep to a running average of the weights."""

import math
from collections.abc import Callable
from numbers import Real
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from safjax.precision import widened


class FPTTState(NamedTuple):
    """State of `fptt`.

    Attributes:
      optimizer: that of the optimizer inside.
      average: w̄, in the form of the parameters.
      multiplier: μ, in the same form.
    """

    optimizer: Any
    average: Any
    multiplier: Any


def fptt(
    optimizer: optax.GradientTransformation, *, alpha: float = 0.1, beta: float = 0.5, rho: float = 0.0
) -> optax.GradientTransformationExtraArgs:
    """Forward propagation through time (FPTT), around any optimizer: each update is drawn to an average of the weights.

        w ← opt(w, ∇ℓ_t(w) + (ρ − 1) μ + α (w − w̄))
        μ ← μ − α (w − w̄),      w̄ ← (1 − β) w̄ + β w − (β/α) μ          with the new w, then the new μ

    At the start of training w̄ = w and μ = 0; they go on from sequence to sequence. It is an update and not a gradient,
    for rules that update at every step, `ottt_o` and `saf_e`, or for one update a chunk of the sequence. The published
    method, where the step before is a constant and nothing is traced, is SLTT with an update at every step:

        rule = Rule("sltt_o", SpikePropagation(), EachStepUpdated())

    from `safjax.rules`, `safjax.rules.spikes` and `safjax.schedules`. There ℓ_t is the loss of step t weighed by t/T:
    the loss takes the weight for a target, `Timed`, and `mean_over=1` leaves it undivided, as below. Two more copies of
    the weights are kept, whatever T.

    Kag & Saligrama, "Training recurrent neural networks via forward propagation through time", ICML 2021, Algorithm 2;
    for spiking nets Yin, Corradi & Bohté, "Accurate online training of dynamical spiking neural networks through
    forward propagation through time", 2023.

    Args:
      optimizer: an `optax.GradientTransformation`, which takes the step. One that asks for the loss is given that of
        the sum whose gradient it is given, ℓ_t(w) + (ρ − 1) Σ w μ + (α/2) Σ (w − w̄)².
      alpha: α > 0, how strongly weights are drawn to the average.
      beta: β ∈ (0, 1], how quickly the average follows.
      rho: ρ.

    Returns:
      A transformation with the state `FPTTState`. Its `average` is what some authors put in the place of the weights at
      the end of an epoch: nnx.update(net, opt_state.average).

    Raises:
      TypeError: optimizer is none.
      ValueError: a number outside its range; when called, without the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, LeakyReadout, Synapse
      >>> from safjax.rules import Rule
      >>> from safjax.rules.spikes import SpikePropagation
      >>> from safjax.schedules import EachStepUpdated
      >>> net = nnx.Sequential(LIF(), Synapse(nnx.Linear(4, 2, rngs=nnx.Rngs(0))), LeakyReadout())
      >>> loss = lambda output, target, weight: weight * jnp.mean((output - target) ** 2)
      >>> rule = Rule("sltt_o", SpikePropagation(), EachStepUpdated())
      >>> step = safjax.train_step(loss, rule, safjax.fptt(optax.sgd(0.1)), steps=5, mean_over=1)
      >>> weight = safjax.losses.Timed(jnp.arange(1, 6) / 5)
      >>> net, opt_state, (value, aux) = step(net, step.init(net), jnp.ones((3, 4)), jnp.ones((3, 2)), weight)
      >>> opt_state.average["layers"][1]["layer"]["kernel"].shape
      (4, 2)
    """
    _check_optimizer(optimizer)
    _check("alpha", alpha, "above 0, how strongly weights are drawn to their average", low=0)
    _check("beta", beta, "above 0 and at most 1, how quickly the average follows the weights", low=0, high=1)
    _check("rho", rho, "finite; the multiplier enters the gradient ρ − 1 times")
    pulls = _Pulls(float(alpha), float(beta), float(rho))
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> FPTTState:
        # A copy, for whoever gives the buffers of one of them away.
        average = jax.tree.map(lambda w: jnp.array(widened(w)), params)
        return FPTTState(inner.init(params), average, jax.tree.map(jnp.zeros_like, average))

    def update(
        grads: Any, state: FPTTState, params: Any = None, *, within: Any = None, **extra: Any
    ) -> tuple[Any, ...]:
        if params is None:
            raise ValueError("fptt draws weights to their average: call update(grads, state, params) with the weights.")
        grads = jax.tree.map(lambda g, p: (g + p).astype(g.dtype), grads, pulls.slope(params, state))
        told = _told(extra, grads, lambda params: pulls.value(params, state), params)
        updates, after = inner.update(grads, state.optimizer, params, **told)
        updates = updates if within is None else within(updates, params)
        return updates, pulls.moved(optax.apply_updates(params, updates), state)._replace(optimizer=after)

    return optax.GradientTransformationExtraArgs(init, update)


class _Pulls(NamedTuple):
    """What draws weights to their average: (ρ − 1) Σ w μ + (α/2) Σ (w − w̄)²."""

    alpha: float
    beta: float
    rho: float

    def value(self, params: Any, state: FPTTState) -> jax.Array:
        def of_leaf(w: jax.Array, average: jax.Array, multiplier: jax.Array) -> jax.Array:
            return jnp.sum((self.rho - 1) * w * multiplier + self.alpha / 2 * jnp.square(w - average))

        return sum(jax.tree.leaves(jax.tree.map(of_leaf, params, state.average, state.multiplier)), jnp.zeros(()))

    def slope(self, params: Any, state: FPTTState) -> Any:
        def of_leaf(w: jax.Array, average: jax.Array, multiplier: jax.Array) -> jax.Array:
            return (self.rho - 1) * multiplier + self.alpha * (w - average)

        return jax.tree.map(of_leaf, params, state.average, state.multiplier)

    def moved(self, params: Any, state: FPTTState) -> FPTTState:
        """The state, but for the optimizer's, after the weights have become these."""
        new = jax.tree.map(widened, params)
        multiplier = jax.tree.map(lambda m, w, a: m - self.alpha * (w - a), state.multiplier, new, state.average)

        def of_leaf(a: jax.Array, w: jax.Array, m: jax.Array) -> jax.Array:
            return (1 - self.beta) * a + self.beta * w - self.beta / self.alpha * m

        return state._replace(average=jax.tree.map(of_leaf, state.average, new, multiplier), multiplier=multiplier)


def _told(extra: dict[Any, Any], grads: Any, pull: Callable[[Any], jax.Array], params: Any) -> dict[Any, Any]:
    """What an optimizer may ask for beside the gradient, of the loss together with what draws the weights."""
    loss, told = extra.get("value_fn"), dict(extra)
    if "value" in extra:
        told["value"] = extra["value"] + pull(params)
    if "grad" in extra:
        told["grad"] = grads
    if loss is not None:
        told["value_fn"] = lambda params: loss(params) + pull(params)
    return told


def _check_optimizer(optimizer: Any) -> None:
    if not callable(getattr(optimizer, "init", None)) or not callable(getattr(optimizer, "update", None)):
        raise TypeError(
            f"fptt({optimizer!r}): expected an optax.GradientTransformation, such as optax.sgd(0.1), which takes the "
            "step."
        )


def _check(name: str, value: Any, what: str, low: float = -math.inf, high: float = math.inf) -> None:
    real = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not real or not low < value <= high:
        raise ValueError(f"fptt({name}={value!r}): expected a Python number, {what}.")
