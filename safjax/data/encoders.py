"""Numbers as spikes: latency, rate, changes and level crossings. Time-major, uint8 or bool."""

import numpy as np


def latency(values: np.ndarray, steps: int, threshold: float = 0.01) -> np.ndarray:
    """One spike for each value above the threshold, the larger the earlier: at step ⌊(1 − x) · T⌋, at most T − 1.

    Args:
      values: [...], 0 to 1.
      steps: T.
      threshold: smaller values send none.

    Returns:
      bool [T, ...].

    Raises:
      ValueError: values lie outside 0 to 1, or T is below 1.
    """
    values = _between(values, steps)
    step = np.minimum(((1 - values) * steps).astype(np.int64), steps - 1)
    times = np.arange(steps).reshape(-1, *[1] * values.ndim)
    return (times == step) & (values >= threshold)


def poisson(values: np.ndarray, steps: int, rng: np.random.Generator) -> np.ndarray:
    """A spike with probability x in each step, independent of the others: the rate is the value.

    Returns:
      bool [T, ...].

    Raises:
      ValueError: values lie outside 0 to 1, or T is below 1.
    """
    values = _between(values, steps)
    return rng.random((steps, *values.shape), np.float32) < values.astype(np.float32)


def delta(values: np.ndarray, threshold: float) -> np.ndarray:
    """Changes from one step to the next: ON where x[t] − x[t − 1] ≥ θ, OFF where it is ≤ −θ; the first step has none.

    Slow changes, of less than θ a step, are not seen; `level_crossing` adds them up.

    Args:
      values: [T, ...].
      threshold: θ.

    Returns:
      uint8 [T, ..., 2], (OFF, ON).

    Raises:
      ValueError: θ is not positive, or a value is not finite.
    """
    values = _finite(values, threshold)
    change = np.diff(values, axis=0, prepend=values[:1])
    return np.stack([change <= -threshold, change >= threshold], -1).astype(np.uint8)


def level_crossing(values: np.ndarray, threshold: float, start: float | np.ndarray = 0.0) -> np.ndarray:
    """How many levels a value has crossed since its last event: k = trunc((x − r) / θ), then r moves by k · θ.

    What has been sent tells the value to within θ at every step: |x[t] − start − θ Σ (ON − OFF)| < θ.

    Args:
      values: [T, ...].
      threshold: θ, the distance of levels.
      start: r before the first step, such as the value of silence: the first events then tell the first value.

    Returns:
      uint8 [T, ..., 2], (OFF, ON), at most 255 a step.

    Raises:
      ValueError: θ is not positive, a value is not finite, or more than 255 levels are crossed in a step.
    """
    values = _finite(values, threshold)
    reference = np.broadcast_to(np.asarray(start, np.float64), values.shape[1:])
    # In levels crossed so far, which are whole numbers, so that nothing is lost to rounding over a long recording.
    level, sent = np.zeros(values.shape[1:]), np.zeros((*values.shape, 2), np.uint8)
    for t, value in enumerate(values):
        k = np.trunc((value - reference) / threshold - level)
        level = level + k
        if np.abs(k).max(initial=0) > 255:
            raise ValueError(
                f"level_crossing: {int(np.abs(k).max())} levels in step {t}, expected at most 255; give a larger "
                "threshold or another start."
            )
        sent[t, ..., 0], sent[t, ..., 1] = np.maximum(-k, 0), np.maximum(k, 0)
    return sent


def _between(values: np.ndarray, steps: int) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if steps < 1:
        raise ValueError(f"steps={steps}, expected T of 1 or more.")
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"values from {values.min()} to {values.max()}, expected 0 to 1; divide by the largest.")
    return values


def _finite(values: np.ndarray, threshold: float) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if not threshold > 0:
        raise ValueError(f"threshold={threshold}, expected a number above 0.")
    if not np.isfinite(values).all():
        raise ValueError("values hold numbers that are not finite.")
    return values
