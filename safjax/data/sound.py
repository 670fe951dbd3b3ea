"""Sound as a cochlea would hear it, roughly: WAV files, and the power in bands of the mel scale."""

import functools
import wave
from pathlib import Path
from typing import NamedTuple

import numpy as np

from safjax.data.events import BadFile

FULL = {1: 1 << 7, 2: 1 << 15, 3: 1 << 23, 4: 1 << 31}
"""The number that 1.0 is stored as, by bytes of a sample."""


class Sound(NamedTuple):
    """A recording.

    Attributes:
      samples: float64 [N, channels], −1 to 1.
      rate: samples a second.
    """

    samples: np.ndarray
    rate: int


def read_wav(path: Path | str) -> Sound:
    """A WAV file of whole numbers of 8, 16, 24 or 32 bits.

    Raises:
      BadFile: no such file, or one that ends early; `offset` is where its samples end.
    """
    path = Path(path)
    try:
        with wave.open(str(path), "rb") as file:
            width, channels, rate, count = (
                file.getsampwidth(),
                file.getnchannels(),
                file.getframerate(),
                file.getnframes(),
            )
            content = file.readframes(count)
    except (wave.Error, EOFError) as error:
        raise BadFile(path, 0, f"no WAV file of whole numbers ({error or 'it ends inside its header'}).") from error
    if len(content) != count * width * channels:
        end = path.stat().st_size
        raise BadFile(
            path, end - len(content) % (width * channels), f"the file ends before sample {count:,}, its last."
        )
    return Sound(_numbers(content, width).reshape(-1, channels) / FULL[width], rate)


def _numbers(content: bytes, width: int) -> np.ndarray:
    if width == 1:  # the only ones without a sign
        return np.frombuffer(content, np.uint8).astype(np.float64) - 128
    if width == 3:
        padded = np.zeros((len(content) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        return padded.view("<i4")[:, 0].astype(np.float64) / 256
    return np.frombuffer(content, f"<i{width}").astype(np.float64)


def log_mel(
    samples: np.ndarray,
    rate: int,
    bands: int = 32,
    low: float = 80.0,
    high: float = 3800.0,
    window: float = 0.032,
    hop: float = 0.010,
    floor: float = 1e-2,
) -> np.ndarray:
    """log(power + floor) in bands of the mel scale, of sound whose largest sample is made 1.

    Hann windows of `window` seconds each `hop` seconds. White noise of variance 1 has a power of 1 at every frequency;
    the bands are triangles that overlap by half. Silence is log(floor): the start of a level crossing encoder.

    Args:
      samples: [N], one channel.
      rate: samples a second.
      bands: B; 24 to 64 are usual.
      low: Hz where the first band begins.
      high: Hz where the last ends, at most half the rate.
      window: seconds.
      hop: seconds.
      floor: power that is heard as silence.

    Returns:
      float64 [T, B], T = 1 + ⌊(N − window) / hop⌋; shorter sounds are padded to one window.

    Raises:
      ValueError: samples have more than one axis or are not finite, or a frequency, time or number is not possible.
    """
    samples = np.asarray(samples, np.float64)
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise ValueError(f"log_mel: samples of shape {samples.shape}, expected [N], finite; write sound.samples[:, 0].")
    size, step = round(window * rate), round(hop * rate)
    if not 0 <= low < high <= rate / 2 or min(size, step, bands) < 1 or floor <= 0:
        raise ValueError(
            f"log_mel: {bands} bands from {low} to {high} Hz of {rate} samples a second, window {window} s, hop {hop}, "
            f"floor {floor}: expected 0 ≤ low < high ≤ {rate / 2}, others above 0."
        )
    peak = np.abs(samples).max(initial=0)
    samples = np.pad(samples / peak if peak else samples, (0, max(0, size - samples.size)))
    windows = np.lib.stride_tricks.sliding_window_view(samples, size)[::step]
    power = np.abs(np.fft.rfft(windows * hann(size), axis=1)) ** 2 / (hann(size) ** 2).sum()
    return np.log(power @ filters(bands, size, rate, low, high).T + floor)


def hann(size: int) -> np.ndarray:
    """sin²(π n / N), periodic."""
    return np.sin(np.pi * np.arange(size) / size) ** 2


def mel(hertz: np.ndarray | float) -> np.ndarray:
    """2595 log₁₀(1 + f / 700)."""
    return 2595 * np.log10(1 + np.asarray(hertz, np.float64) / 700)


@functools.lru_cache(8)
def filters(bands: int, size: int, rate: int, low: float, high: float) -> np.ndarray:
    """float64 [B, size // 2 + 1]: weights of the frequencies in each band, triangles in mel.

    A band that is narrower than the distance of frequencies has the nearest one.
    """
    frequencies = mel(np.fft.rfftfreq(size, 1 / rate))
    corners = np.linspace(float(mel(low)), float(mel(high)), bands + 2)
    width = corners[1] - corners[0]
    weights = np.maximum(0, 1 - np.abs(frequencies - corners[1:-1, None]) / width)
    empty = np.flatnonzero(weights.sum(1) == 0)
    weights[empty, np.abs(frequencies - corners[1:-1][empty, None]).argmin(1)] = 1
    return weights
