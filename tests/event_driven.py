"""Layers of current-based neurons simulated from event to event, with exact spike times, in NumPy.

τ_m u̇ = −u + I,   τ_s İ = −I,   I grows by w at an input spike,   u is set to v where it reaches θ
"""

import numpy as np

MEMBRANE, SYNAPSE, THRESHOLD = 10.0, 4.0, 1.0
"""τ_m, τ_s, θ."""


def layer(events, weights, end, reset=0.0):
    """The spikes (time, neuron) of a layer until `end`, in order, of input spikes (time, input)."""
    spikes = [(t, j) for j in range(weights.shape[1]) for t in _spikes_of(events, weights[:, j], end, reset)]
    return sorted(spikes)


def _spikes_of(events, weights, end, reset):
    time, potential, current = 0.0, 0.0, 0.0
    for at, source in [*events, (end, None)]:
        while (passed := _reached(potential, current, at - time)) is not None:
            time, current, potential = time + passed, current * np.exp(-passed / SYNAPSE), reset
            yield time
        potential = _potential(potential, current, at - time)
        current, time = current * np.exp(-(at - time) / SYNAPSE), at
        if source is not None:
            current += weights[source]


def _potential(potential, current, passed):
    driven = current * SYNAPSE / (SYNAPSE - MEMBRANE)
    return (potential - driven) * np.exp(-passed / MEMBRANE) + driven * np.exp(-passed / SYNAPSE)


def _reached(potential, current, longest):
    """After which time the threshold is reached; None where it is not before the longest."""
    times = np.linspace(0, longest, 400)[1:]
    above = _potential(potential, current, times) >= THRESHOLD
    if longest <= 0 or not above.any():
        return None
    at = int(np.argmax(above))
    low, high = (times[at - 1] if at else 0.0), times[at]
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _potential(potential, current, middle) >= THRESHOLD else (middle, high)
    return high


def slopes(function, weights, step=1e-5):
    """d function / d weights by central differences; `function` returns (value, how many spikes there are)."""
    result = np.zeros_like(weights)
    for at in np.ndindex(weights.shape):
        moved = [weights.copy(), weights.copy()]
        for sign, one in zip((1, -1), moved, strict=True):
            one[at] += sign * step
        (more, count), (less, other) = map(function, moved)
        assert count == other, "a spike has appeared or vanished"
        result[at] = (more - less) / (2 * step)
    return result
