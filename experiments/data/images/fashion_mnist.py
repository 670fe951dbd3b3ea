"""Fashion-MNIST (Xiao et al., 2017) from its four IDX files, held to one content hash each.

The hash is of the IDX content and not of the .gz file around it: Debian's package
`dataset-fashion-mnist` strips name and time from the gzip headers, which changes the archives and
leaves their content alone.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data.errors import DataCorrupt
from experiments.data.images import idx
from experiments.data.images.images import Splits

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")


class Published(NamedTuple):
    """One of the four files.

    Attributes:
      file: its name, as published.
      content_sha256: hexadecimal digest of the IDX content that the file unpacks to.
    """

    file: str
    content_sha256: str


FILES = {
    "train_images": Published(
        "train-images-idx3-ubyte.gz",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "train_labels": Published(
        "train-labels-idx1-ubyte.gz",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "test_images": Published(
        "t10k-images-idx3-ubyte.gz",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    "test_labels": Published(
        "t10k-labels-idx1-ubyte.gz",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}


def read_folder(folder: Path) -> Splits:
    """Reads the four .gz files in `folder`, whatever the headers of their compression say.

    Returns:
      60,000 and 10,000 images uint8 [N, 28, 28, 1] with their labels int32 [N].

    Raises:
      DataCorrupt: a file is missing or unreadable, or its content is not the published one.
    """
    arrays = {field: idx.read(folder / published.file) for field, published in FILES.items()}
    splits = Splits(
        train_images=arrays["train_images"][..., None],
        train_labels=arrays["train_labels"].astype(np.int32),
        test_images=arrays["test_images"][..., None],
        test_labels=arrays["test_labels"].astype(np.int32),
    )
    return verified(splits, folder)


def verified(splits: Splits, source: Path) -> Splits:
    """Returns `splits` if content and order are those of the published files.

    Args:
      splits: images uint8 [N, 28, 28, 1] and labels int32 [N], in the published order.
      source: where they come from, for the message.

    Raises:
      DataCorrupt: the SHA-256 of an array, written as an IDX file, is not the published one.
    """
    for field, published in FILES.items():
        array = getattr(splits, field)
        content = idx.to_bytes(array[..., 0] if array.ndim == 4 else array.astype(np.uint8))
        digest = hashlib.sha256(content).hexdigest()
        if digest != published.content_sha256:
            raise DataCorrupt(
                f"{source}: the {field} are not those of Fashion-MNIST's {published.file}. "
                f"The SHA-256 of their IDX content is {digest}, expected "
                f"{published.content_sha256}. Delete or reinstall this copy."
            )
    return splits
