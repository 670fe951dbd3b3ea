"""scikit-learn's handwritten digits: real images that need no download."""

from pathlib import Path

import numpy as np
from PIL import Image

from experiments.data.images.images import Images

TEST_IMAGES = 360
BRIGHTEST = 16  # the source counts 0 .. 16 dark pixels in each 4 × 4 block of a scan


def load(data_dir: Path) -> Images:
    """The digits by their usual size and split; nothing is stored."""
    return load_digits()


def load_digits(size: int = 16, seed: int = 0) -> Images:
    """The 1,797 digits of `sklearn.datasets.load_digits`, resized and split.

    Args:
      size: height and width in pixels, resized bilinearly from 8 × 8.
      seed: seed of the split, which keeps the proportions of the classes.

    Returns:
      1,437 training and 360 test images uint8 [N, size, size, 1] of 10 classes; mean and std are
      those of the training images.
    """
    # scikit-learn takes a second to import, and only this data set needs it.
    from sklearn.datasets import load_digits as sklearn_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = sklearn_digits(return_X_y=True)
    images = _resized(np.asarray(pixels).reshape(-1, 8, 8), size)
    train, test = train_test_split(np.arange(len(images)), test_size=TEST_IMAGES, stratify=labels, random_state=seed)
    labels = np.asarray(labels).astype(np.int32)
    return Images(
        name="digits",
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        num_classes=10,
        mean=(float(images[train].mean() / 255),),
        std=(float(images[train].std() / 255),),
    )


def _resized(counts: np.ndarray, size: int) -> np.ndarray:
    """float [N, 8, 8] in 0 .. 16 -> uint8 [N, size, size, 1] in 0 .. 255."""
    grey = np.rint(counts * (255 / BRIGHTEST)).astype(np.uint8)
    bilinear = Image.Resampling.BILINEAR
    resized = [np.asarray(Image.fromarray(image).resize((size, size), bilinear)) for image in grey]
    return np.stack(resized)[..., None]
