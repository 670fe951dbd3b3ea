"""The loss against its equation in NumPy."""

import numpy as np
import pytest

from experiments.training.losses import example_losses, mean_loss


@pytest.fixture
def batch():
    random = np.random.default_rng(0)
    return random.normal(size=(6, 4)), random.integers(0, 4, 6)


@pytest.mark.parametrize("weight", [0.0, 0.05, 1.0])
def test_weighted_sum_of_cross_entropy_and_squared_error(batch, weight, x64):
    logits, labels = batch
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    cross_entropy = -np.log(probabilities[np.arange(6), labels])
    squared_error = ((logits - np.eye(4)[labels]) ** 2).mean(1)
    expected = (1 - weight) * cross_entropy + weight * squared_error
    np.testing.assert_allclose(example_losses(logits, labels, weight), expected, rtol=1e-12)
    np.testing.assert_allclose(mean_loss(logits, labels, weight), expected.mean(), rtol=1e-12)
