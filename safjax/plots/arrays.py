"""What is drawn, as NumPy arrays of the right shape."""

from typing import Any

import numpy as np


def numbers(function: str, name: str, value: Any, expected: str, *ranks: int) -> np.ndarray:
    """An argument as an array of real numbers of one of these ranks.

    Args:
      function, name: what the message calls them.
      expected: the shape in words, and what to write for it.

    Raises:
      TypeError: it holds no real numbers.
      ValueError: it has another rank, or is empty.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "buif" and not _is_bfloat16(array):
        raise TypeError(f"plots.{function}: {name} must be {expected}, real numbers, but is of dtype {array.dtype}.")
    if array.ndim not in ranks or array.size == 0:
        raise ValueError(f"plots.{function}: {name} must be {expected}, but has the shape {list(array.shape)}.")
    return array.astype(float)


def _is_bfloat16(array: np.ndarray) -> bool:
    return array.dtype.name == "bfloat16"


def same_length(function: str, name: str, array: np.ndarray, length: int, of: str) -> None:
    """Refuses an array that is not as long as what it belongs to.

    Raises:
      ValueError: it is not.
    """
    if len(array) != length:
        raise ValueError(
            f"plots.{function}: {name} must be one for each of the {length} {of}, but there are {len(array)}."
        )


def steps(function: str, times: Any, length: int) -> np.ndarray:
    """Where steps stand: as given, or 1, 2, … T."""
    if times is None:
        return np.arange(1, length + 1, dtype=float)
    array = numbers(function, "times", times, "a number for each step, [T]", 1)
    same_length(function, "times", array, length, "steps")
    return array
