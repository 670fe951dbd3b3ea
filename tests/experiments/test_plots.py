"""Figures of short and long runs, shallow and deep."""

import matplotlib.image
import pytest

from experiments.plots import draw_curves, draw_firing_rates


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
