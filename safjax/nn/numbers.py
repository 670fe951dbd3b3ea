"""The numbers of neurons: constant, one for each neuron, or learned; and the checks of what users give."""

import dataclasses
import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.messages import is_message
from safjax.neurons import AfterDecay, ResetTo
from safjax.neurons.resets import SMALLEST_DECAY, Reset
from safjax.standing_in import with_gradient_of

Held = nnx.Variable[Any]
Number = float | Held
Interval = tuple[float, float]

DECAYS: Interval = (0.0, 1.0)
THRESHOLDS: Interval = (1e-3, math.inf)
STRENGTHS: Interval = (0.0, math.inf)


def narrowed(number: Any, interval: Interval) -> Interval:
    """The interval, narrowed by what a variable brings along: see `safjax.nn.time_constants.bounded`."""
    own = number.get_metadata("interval", interval) if isinstance(number, nnx.Variable) else interval
    return max(interval[0], own[0]), min(interval[1], own[1])


def value_of(number: Number, interval: Interval) -> Any:
    """A number, or the array that a variable holds, taken to the nearest end of the interval where it lies outside.

    The interval is that of the number's kind, narrowed by the variable's own. The gradient is taken as if the value lay
    inside, so that learning leads back; `train_step` brings learned ones back itself.
    """
    if not isinstance(number, nnx.Variable):
        return number
    value = number[...]
    return with_gradient_of(jnp.clip(value, *narrowed(number, interval)), value)


def _check_variable(owner: object, name: str, variable: Held, interval: Interval) -> Held:
    """Refuses a variable that starts outside the interval, or whose own interval lies outside."""
    own = variable.get_metadata("interval", interval)
    if narrowed(variable, interval) != own:
        raise ValueError(
            f"{type(owner).__name__}({name}=bounded(...)): its bounds [{own[0]:g}, {own[1]:g}] must lie in "
            f"[{interval[0]:g}, {interval[1]:g}]."
        )
    value, (low, high) = variable.get_value(), own
    if isinstance(value, jax.core.Tracer | jax.ShapeDtypeStruct):
        return variable
    with jax.ensure_compile_time_eval():
        lowest, highest = float(jnp.min(value)), float(jnp.max(value))
    if not low <= lowest <= highest <= high:
        raise ValueError(
            f"{type(owner).__name__}({name}={type(variable).__name__}(...)): its values must lie in [{low:g}, "
            f"{high:g}], but range from {lowest:g} to {highest:g}."
        )
    return variable


def _refuse_inputs(owner: object, number: Any) -> None:
    """Refuses, in place of a number, what a layer is called with."""
    if is_message(number) or isinstance(number, jax.core.Tracer):
        name = type(owner).__name__
        raise TypeError(
            f"{name} was given an array of the running net where a number was expected: does its class stand in the "
            f"net in place of a layer? Write {name}(), made in the net's __init__. A number that is computed or "
            "learned stands in an nnx.Variable or an nnx.Param."
        )


def checked_rngs(owner: object, rngs: Any) -> nnx.Rngs:
    """Streams of random keys, as they were given.

    Raises:
      TypeError: they are none.
    """
    if not isinstance(rngs, nnx.Rngs):
        name = getattr(owner, "__name__", type(owner).__name__)
        raise TypeError(
            f"{name}(rngs=...): expected streams of random keys, rngs=nnx.Rngs(0), but was given one of type "
            f"{type(rngs).__name__}."
        )
    return rngs


def checked_decay(owner: object, decay: Any, name: str = "decay") -> Any:
    """A decay as it was given; a number in [0, 1] or a variable of such.

    Raises:
      ValueError: it is neither.
    """
    if isinstance(decay, nnx.Variable):
        return _check_variable(owner, name, decay, DECAYS)
    _refuse_inputs(owner, decay)
    if isinstance(decay, bool) or not isinstance(decay, Real) or not 0 <= float(decay) <= 1:
        raise ValueError(
            f"{type(owner).__name__}({name}={decay!r}): a decay is the fraction kept from one step to the next and "
            "must be a Python number in [0, 1]; 1 means no leak. From a time constant τ in steps, decay = 1 − 1/τ. An "
            "array, with one for each neuron, stands in an nnx.Variable; to learn it, give an nnx.Param, or use PLIF."
        )
    return float(decay)


def checked_positive(owner: object, name: str, value: Any, what: str, interval: Interval = THRESHOLDS) -> Any:
    """A number above 0, or a variable of such in the interval, as it was given.

    Raises:
      ValueError: it is neither.
    """
    if isinstance(value, nnx.Variable):
        return _check_variable(owner, name, value, interval)
    _refuse_inputs(owner, value)
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < math.inf:
        raise ValueError(
            f"{type(owner).__name__}({name}={value!r}): expected a positive, finite Python number, {what}. An array "
            "stands in an nnx.Variable, a learned one in an nnx.Param."
        )
    return float(value)


def checked_reset(owner: object, reset: Any) -> Any:
    """A reset as it was given: a number ρ > 0, also `AfterDecay`, `ResetTo` of a number or a variable, or None.

    Raises:
      ValueError: it is none of these.
    """
    name = type(owner).__name__
    if isinstance(reset, ResetTo):
        value = reset.value
        _refuse_inputs(owner, value)
        if isinstance(value, nnx.Variable):
            # Or else the variable would not be found as a part of the net.
            return nnx.data(reset)
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise ValueError(
                f"{name}(reset=ResetTo({value!r})): expected a finite Python number, the value that a spike sets the "
                "membrane to. An array stands in an nnx.Variable, a learned one in an nnx.Param."
            )
        return dataclasses.replace(reset, value=float(value))
    if reset is None:
        return None
    times = reset.times if isinstance(reset, AfterDecay) else reset
    if isinstance(times, bool) or not isinstance(times, Real) or not 0 < float(times) < math.inf:
        raise ValueError(
            f"{name}(reset={reset!r}): expected a positive, finite Python number, what a spike subtracts, in "
            "thresholds; the usual one is 1.0. To set the membrane to a value, write reset=ResetTo(0.0), with ResetTo "
            "from safjax.nn; for no reset, reset=None."
        )
    return AfterDecay(float(times)) if isinstance(reset, AfterDecay) else float(times)


def decay_of(decay: Number, reset: Reset) -> Any:
    """A decay as of `value_of`, kept from 0 where a reset divides by it."""
    lowest, highest = DECAYS
    return value_of(decay, (SMALLEST_DECAY if isinstance(reset, AfterDecay) else lowest, highest))


def reset_of(reset: Reset) -> Reset:
    """A reset with the array that its variable holds."""
    if isinstance(reset, ResetTo) and isinstance(reset.value, nnx.Variable):
        return dataclasses.replace(reset, value=reset.value[...])
    return reset


def checked_floor(owner: object, floor: Any) -> float | None:
    """A lower clamp of the membrane, a number ≤ 0 or None.

    Raises:
      ValueError: it is neither.
    """
    if floor is None:
        return None
    if isinstance(floor, bool) or not isinstance(floor, (int, float)) or not floor <= 0:
        raise ValueError(
            f"{type(owner).__name__}(floor={floor!r}): the lower clamp of the membrane potential must be a number ≤ 0, "
            "the potential at rest or below it; None for no clamp."
        )
    return float(floor)


def checked_count(owner: object, count: Any) -> int | None:
    """The most spikes of a step, a whole number ≥ 1 or None.

    Raises:
      ValueError: it is neither.
    """
    if count is None or (isinstance(count, int) and not isinstance(count, bool) and count >= 1):
        return count
    raise ValueError(
        f"{type(owner).__name__}(max_spikes={count!r}): expected a whole number ≥ 1, the most spikes in one step, or "
        "None for any number."
    )


def checked_whole(owner: object, name: str, value: Any, what: str) -> int:
    """A whole number ≥ 1, as it was given.

    Raises:
      ValueError: it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{type(owner).__name__}({name}={value!r}): expected a whole number ≥ 1, {what}.")
    return value


def checked_shape(owner: object, shape: Any) -> tuple[int, ...]:
    """The shape of one example, whole numbers ≥ 1, as a tuple.

    Raises:
      ValueError: it is none.
    """
    sizes = tuple(shape) if isinstance(shape, tuple | list) else (None,)
    if not all(isinstance(size, int) and not isinstance(size, bool) and size >= 1 for size in sizes):
        raise ValueError(
            f"{type(owner).__name__}(shape={shape!r}): expected the shape of one example without the batch, whole "
            "numbers ≥ 1, for instance shape=(64,)."
        )
    return sizes


def checked_surrogate(owner: object, surrogate: Any) -> Callable[..., Any]:
    """A spike function, as it was given.

    Raises:
      TypeError: it is not callable, not hashable, or holds variables without being a module.
    """
    if not callable(surrogate) or isinstance(surrogate, type):
        raise TypeError(
            f"{type(owner).__name__}(surrogate={surrogate!r}): expected a spike function such as "
            "safjax.surrogate.Sigmoid(alpha=4.0)."
        )
    try:
        hash(surrogate)
    except TypeError as error:
        raise TypeError(
            f"{type(owner).__name__}(surrogate={surrogate!r}): a spike function is part of the compiled program and "
            "must be hashable. Write @dataclasses.dataclass(frozen=True) above its class, with numbers as fields, not "
            "arrays; one that learns is an nnx.Module."
        ) from error
    _refuse_variables(owner, surrogate)
    return surrogate


def _refuse_variables(owner: object, surrogate: Any) -> None:
    """A variable in anything but a module is not found as a part of the net."""
    if isinstance(surrogate, nnx.Module):
        return
    for name, value in getattr(surrogate, "__dict__", {}).items():
        if isinstance(value, nnx.Variable):
            raise TypeError(
                f"{type(owner).__name__}(surrogate={type(surrogate).__name__}(...)) holds the variable '{name}', which "
                "would not be found and stay as it is. A spike function that learns is an nnx.Module with a smooth "
                "__call__(x), for instance jax.nn.sigmoid(x / self.width[...]); one that does not holds numbers."
            )
