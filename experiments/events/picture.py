"""Pictures of events: a strip of frames, and a raster of spikes."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

# Blue and vermilion of Okabe and Ito's palette, told apart under every common colour-blindness.
OFF, ON = np.array([0x00, 0x72, 0xB2]) / 255, np.array([0xD5, 0x5E, 0x00]) / 255
BRIGHTEST = 0.99
"""Quantile of the counts above 0 that is drawn in full colour."""


def draw_frames(counts: np.ndarray, seconds: float, title: str, path: Path) -> None:
    """A strip of frames side by side, ON in vermilion and OFF in blue on white.

    Args:
      counts: [T, H, W, 2], (OFF, ON).
      seconds: the time that all cover.
      title: above the figure.
      path: of the PNG.
    """
    steps, height, width, _ = counts.shape
    figure = Figure(figsize=(1.5 * steps, 1.5 * min(max(height / width, 0.3), 3) + 0.7), layout="constrained")
    figure.suptitle(f"{title}   (ON vermilion, OFF blue)", fontsize=9)
    pictures = coloured(counts)
    for k, axes in enumerate(figure.subplots(1, steps, squeeze=False)[0]):
        axes.imshow(pictures[k], interpolation="nearest")
        axes.set_title(f"{1000 * seconds * k / steps:.4g} ms", fontsize=7)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.savefig(path, dpi=100, format="png")


def coloured(counts: np.ndarray) -> np.ndarray:
    """Counts [..., 2] as colours [..., 3]: white where there is none."""
    seen = counts[counts > 0]
    full = max(float(np.quantile(seen, BRIGHTEST)), 1.0) if seen.size else 1.0
    off, on = (np.minimum(counts[..., c, None] / full, 1) for c in (0, 1))
    # A place with a single event must be seen beside one with many.
    off, on = np.sqrt(off), np.sqrt(on)
    return np.clip(1 - off * (1 - OFF) - on * (1 - ON), 0, 1)


def draw_raster(times: np.ndarray, units: np.ndarray, channels: int, title: str, path: Path) -> None:
    """Spikes of one sample, channels upwards.

    Args:
      times: seconds.
      units: channels.
      channels: how many there are.
      title: above the figure.
      path: of the PNG.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.scatter(times, units, s=2, color="black", linewidths=0)
    axes.set(title=title, xlabel="s", ylabel="channel", ylim=(0, channels))
    figure.savefig(path, dpi=100, format="png")
