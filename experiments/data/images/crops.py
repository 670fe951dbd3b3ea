"""From an image file to a square of pixels, with pillow: the usual crops of ImageNet."""

import io
import math
from collections.abc import Callable

import numpy as np
from PIL import Image

AREA = (0.08, 1.0)
ASPECT = (3 / 4, 4 / 3)
LOG_ASPECT = (math.log(ASPECT[0]), math.log(ASPECT[1]))
ATTEMPTS = 10

Crop = Callable[[Image.Image, int, np.random.Generator], np.ndarray]


def decode(content: bytes) -> Image.Image:
    """Any image file in RGB.

    Raises:
      OSError: it is none, or incomplete.
    """
    return Image.open(io.BytesIO(content)).convert("RGB")


def random_resized_crop(image: Image.Image, size: int, random: np.random.Generator) -> np.ndarray:
    """A random part of an image, resized to a square (Szegedy et al., "Going deeper with convolutions", 2015).

    Its share of the area is uniform in [0.08, 1], the logarithm of its width over its height uniform between those of
    3/4 and 4/3, its place uniform. Where ten such parts do not fit into the image, it is the largest one in the middle
    with an aspect in that range.

    Returns:
      uint8 [size, size, 3].
    """
    left, top, width, height = _random_box(*image.size, random)
    return _resized(image.crop((left, top, left + width, top + height)), size, size)


def _random_box(width: int, height: int, random: np.random.Generator) -> tuple[int, int, int, int]:
    """(left, top, width, height) of the part of an image."""
    for _ in range(ATTEMPTS):
        area = width * height * random.uniform(*AREA)
        aspect = math.exp(random.uniform(*LOG_ASPECT))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(random.integers(width - w + 1)), int(random.integers(height - h + 1)), w, h
    w, h = min(width, round(height * ASPECT[1])), min(height, round(width / ASPECT[0]))
    return (width - w) // 2, (height - h) // 2, w, h


def center_crop(image: Image.Image, size: int, random: np.random.Generator | None = None) -> np.ndarray:
    """The middle of an image whose shorter side has been resized to 256/224 `size`.

    Returns:
      uint8 [size, size, 3].
    """
    del random
    shorter = round(size * 256 / 224)
    width, height = (shorter * side // min(image.size) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return _resized(image, width, height)[top : top + size, left : left + size]


def _resized(image: Image.Image, width: int, height: int) -> np.ndarray:
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
