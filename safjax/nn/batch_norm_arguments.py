"""Checks of what `safjax.nn.BatchNorm` is made with."""

import math
from typing import Any

from safjax.nn.numbers import checked_whole


def checked_over(over: Any) -> str:
    if over not in ("time", "step"):
        raise ValueError(
            f"BatchNorm(over={over!r}): expected 'time', for the statistics of all time steps together, or 'step', for "
            "those of each."
        )
    return over


def checked_steps(owner: object, over: str, steps: Any) -> int | None:
    if steps is None:
        return None
    if over != "step":
        raise ValueError(
            f"BatchNorm(over={over!r}, steps={steps!r}): running statistics of each step go with statistics of each "
            "step, over='step'."
        )
    return checked_whole(owner, "steps", steps, "for how many steps there are running statistics")


def checked_positive(owner: object, name: str, value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(
            f"{type(owner).__name__}({name}={value!r}): expected a positive, finite Python number, {what}."
        )
    return float(value)


def checked_momentum(owner: object, momentum: Any) -> float:
    if isinstance(momentum, bool) or not isinstance(momentum, int | float) or not 0 <= momentum <= 1:
        raise ValueError(
            f"{type(owner).__name__}(momentum={momentum!r}): expected a number in [0, 1], the part of the running "
            "statistics that stays. From PyTorch's momentum p, 1 − p."
        )
    return float(momentum)


def checked_ratio(owner: object, ratio: Any) -> float:
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 1 < ratio < math.inf:
        raise ValueError(
            f"{type(owner).__name__}(ratio={ratio!r}): expected a finite Python number above 1, how far the standard "
            "deviation of a step may be from that of all time, as a factor; published are 20.0 for images and 50.0 for "
            "events."
        )
    return float(ratio)
