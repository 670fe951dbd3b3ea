"""Pictures of events: a strip of frames, and a raster of spikes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.data import Shown
from safjax.plots import raster

# Blue and vermilion of Okabe and Ito's palette, told apart under every common colour-blindness.
OFF, ON = np.array([0x00, 0x72, 0xB2]) / 255, np.array([0xD5, 0x5E, 0x00]) / 255
STRIP = 8
"""Frames of an example in a picture of several."""
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


def draw_inputs(shown: Sequence[Shown], path: Path) -> None:
    """What a net is given: of frames a strip for each example, of units a raster.

    Args:
      shown: one example or more, all of frames or all of units.
      path: of the PNG.
    """
    frames = shown[0].counts.ndim == 4
    columns = min(STRIP, len(shown[0].counts)) if frames else 1
    figure = Figure(figsize=(1.2 * columns if frames else 7, 0.5 + (1.35 if frames else 2) * len(shown)))
    figure.set_layout_engine("constrained")
    figure.suptitle("ON vermilion, OFF blue", fontsize=9)
    for row, one in zip(figure.subplots(len(shown), columns, squeeze=False), shown, strict=True):
        if frames:
            _strip(row, one)
        else:
            _raster(row[0], one, last=one is shown[-1])
    figure.savefig(path, dpi=100, format="png")


def _strip(row: Sequence[Axes], one: Shown) -> None:
    """Frames that are spread over all steps."""
    steps = np.linspace(0, len(one.counts) - 1, len(row)).round().astype(int)
    for axes, step, picture in zip(row, steps, coloured(one.counts[steps]), strict=True):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(f"{one.title + ', ' if axes is row[0] else ''}step {step + 1}", fontsize=7)
        axes.set_xticks([])
        axes.set_yticks([])


def _raster(axes: Axes, one: Shown, last: bool) -> None:
    """Units upwards, a bar for each step with events; OFF and ON of a channel lie one above the other."""
    pairs = one.counts.reshape(len(one.counts), -1, 2) if one.paired else one.counts[..., None]
    for polarity, colour in zip(range(pairs.shape[-1]), (OFF, ON) if one.paired else ("black",), strict=True):
        rows = np.arange(pairs.shape[1]) + 0.4 * polarity
        raster(pairs[..., polarity], axes, rows=rows, height=0.4 if one.paired else 0.8, color=colour, linewidth=1.5)
    axes.set(ylabel="channel", xlim=(0, len(one.counts) + 1), xlabel="step" if last else None)
    axes.set_title(one.title, fontsize=8)


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
