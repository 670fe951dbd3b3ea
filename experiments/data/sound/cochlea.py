"""From sound to events: energy in mel bands, and an event wherever its logarithm has changed by a step.

A stand-in for a cochlea. Events are counts of two channels a band, ON where its energy grows and OFF where it falls.
"""

import numpy as np

WINDOW, HOP = 0.032, 0.010
"""Seconds that a window lasts, and from one to the next: a time step."""

LOWEST, HIGHEST = 80.0, 3800.0
"""Hz, the ends of the bands."""

FLOOR = 1e-2
"""Energy below which nothing is heard, of a signal whose largest sample is 1."""


def mel(hertz: np.ndarray | float) -> np.ndarray:
    """2595 log₁₀(1 + f / 700): equal steps sound equally far apart."""
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def mel_filters(bands: int, size: int, rate: int) -> np.ndarray:
    """Triangles [bands, size // 2 + 1] over the frequencies of a transform of `size` samples, each up to 1.

    The corners lie at equal distances in mel; every triangle reaches from the peak before its own to the one after.

    Raises:
      ValueError: a triangle lies between two frequencies, so that its band would hear nothing.
    """
    corners = 700 * (10 ** (np.linspace(mel(LOWEST), mel(HIGHEST), bands + 2) / 2595) - 1)
    frequencies = np.arange(size // 2 + 1) * rate / size
    low, peak, high = (corners[start : start + bands, None] for start in range(3))
    filters = np.maximum(0, np.minimum((frequencies - low) / (peak - low), (high - frequencies) / (high - peak)))
    if not filters.any(1).all():
        raise ValueError(
            f"{bands} bands are too many: windows of {size} samples at {rate} Hz tell {rate / size:.0f} Hz apart, and "
            "a band lies between two of these frequencies. Take fewer bands."
        )
    return filters


def log_energies(signal: np.ndarray, rate: int, bands: int) -> np.ndarray:
    """log(FLOOR + energy) of each band and step, [steps, bands], of a signal scaled to a largest sample of 1.

    Windows of 32 ms (Hann) begin every 10 ms; the last is filled up with silence.
    """
    size, hop = round(WINDOW * rate), round(HOP * rate)
    largest = np.abs(signal).max()
    scaled = signal / largest if largest > 0 else signal
    steps = max(1, 1 + -(-(len(signal) - size) // hop))
    padded = np.pad(scaled, (0, max(0, (steps - 1) * hop + size - len(signal))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop][:steps]
    power = np.abs(np.fft.rfft(frames * np.hanning(size + 1)[:-1], axis=1)) ** 2
    return np.log(FLOOR + power @ mel_filters(bands, size, rate).T)


def level_crossings(values: np.ndarray, start: float, step: float = 1.0) -> np.ndarray:
    """How often a signal has crossed a level upwards and downwards, by level-crossing (send-on-delta) sampling.

        k = trunc((x[t] − r) / θ),   ON = max(k, 0),   OFF = max(−k, 0),   r ← r + k θ

    Args:
      values: x [steps, channels].
      start: r before the first step: of silence, so that the first events tell how loud a beginning is.
      step: θ.

    Returns:
      uint8 [steps, 2 · channels], first all ON, then all OFF.

    Raises:
      ValueError: a count is larger than 255.
    """
    reference, counts = np.full(values.shape[1:], start), np.empty(values.shape, np.int64)
    for t, value in enumerate(values):
        counts[t] = np.trunc((value - reference) / step)
        reference += counts[t] * step
    events = np.concatenate([np.maximum(counts, 0), np.maximum(-counts, 0)], axis=1)
    if events.max() > 255:
        raise ValueError(
            f"a step of {step} makes {events.max()} events at once, more than a byte holds; take a larger."
        )
    return events.astype(np.uint8)


def events(signal: np.ndarray, rate: int, bands: int) -> np.ndarray:
    """The events of a recording, uint8 [steps, 2 · bands]; a level is e times the one below."""
    return level_crossings(log_energies(signal, rate, bands), np.log(FLOOR))
