"""Figures of short and long runs, shallow and deep."""

import warnings

import matplotlib.image
import pytest
from matplotlib.figure import Figure

from experiments.storage.plots import draw_curves, draw_firing_rates


def records(epochs, layers):
    return [
        {
            "epoch": epoch,
            "train_loss": 1 / epoch,
            "test_loss": 1.1 / epoch,
            "train_accuracy": 1 - 0.5 / epoch,
            "test_accuracy": 1 - 0.6 / epoch,
            "rates": {f"layers.{layer}": (0.1 + layer / 20) / epoch for layer in range(layers)},
        }
        for epoch in range(1, epochs + 1)
    ]


@pytest.mark.parametrize("draw", [draw_curves, draw_firing_rates])
@pytest.mark.parametrize(("epochs", "layers"), [(1, 1), (300, 8)])
def test_draws_a_picture_that_is_not_blank(draw, epochs, layers, tmp_path):
    draw(records(epochs, layers), "title", tmp_path / "figure.png")
    picture = matplotlib.image.imread(tmp_path / "figure.png")
    assert min(picture.shape[:2]) > 400 and picture[..., :3].std() > 0.05


@pytest.mark.parametrize("layers", [12, 13, 32, 100])
def test_legend_of_many_layers_leaves_the_axes_their_size(layers, tmp_path, monkeypatch):
    figures, savefig = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), savefig(self, *a, **k)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_firing_rates(records(10, layers), "title", tmp_path / "figure.png")
    (figure,) = figures
    # Laid out anew for this resolution, which is not that of the file.
    figure.draw_without_rendering()
    (axes,) = figure.axes
    frame, legend = axes.get_window_extent(), axes.get_legend()
    width, height = (size / figure.dpi for size in (frame.width, frame.height))
    assert width > 4.5 and height > 2.9, "inches"
    box = legend.get_window_extent()
    assert box.x0 >= frame.x1 and box.x1 <= figure.bbox.x1 and 0 <= box.y0 < box.y1 <= figure.bbox.y1
    assert [text.get_text() for text in legend.get_texts()] == [f"layer {n + 1}" for n in range(layers)]
    assert all(text.get_fontsize() >= 9 for text in legend.get_texts())
