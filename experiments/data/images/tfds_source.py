"""Data sets prepared and read with TensorFlow Datasets, in array_record files."""

import contextlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import requests
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.download import checksums, resource
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.download.util import DownloadError
from tensorflow_datasets.core.hashing import Hasher

from experiments.data.errors import ByHand, DataCorrupt, DataUnavailable, unavailable
from experiments.data.images.images import Splits
from experiments.data.images.tfds_builders import BUILDERS, is_prepared
from experiments.data.probe import why_unreachable


def read(name: str, data_dir: Path) -> Splits:
    """Reads a data set, after downloading and preparing it where that has not been done.

    Args:
      name: a key of `BUILDERS`.
      data_dir: TensorFlow Datasets' folder. Downloads lie in `downloads/` below it; files placed
        by hand in `downloads/manual/`, under the name that they are published with.

    Returns:
      The images and labels in their published order.

    Raises:
      DataUnavailable: not prepared, and not to be fetched.
      DataCorrupt: an archive has another checksum than the published one.
    """
    builder = BUILDERS[name](data_dir=data_dir)
    if not is_prepared(builder):
        _prepare(builder, data_dir / "downloads")
    train_images, train_labels = _read_split(builder, "train")
    test_images, test_labels = _read_split(builder, "test")
    return Splits(train_images, train_labels, test_images, test_labels)


def _prepare(builder: Any, downloads: Path) -> None:
    missing = [url for url in builder.published_urls() if not _is_local(builder, url, downloads)]
    # All files of a data set lie on one server, so one answer stands for all of them.
    reason = why_unreachable(missing[0]) if missing else None
    if reason is not None:
        raise _not_fetched(builder, missing, downloads, reason)
    try:
        config = tfds.download.DownloadConfig(force_checksums_validation=True)
        # Its progress goes to stderr, some of its messages to stdout.
        with contextlib.redirect_stdout(sys.stderr):
            builder.download_and_prepare(file_format="array_record", download_config=config)
    except NonMatchingChecksumError as error:
        raise DataCorrupt(
            f"an archive of {builder.name!r} is not the published one. {error}\n"
            f"Delete that file; put the published one in {downloads / 'manual'}, "
            "or leave it out to have it downloaded."
        ) from error
    except (requests.RequestException, DownloadError) as error:
        raise _not_fetched(builder, builder.published_urls(), downloads, str(error)) from error


def _is_local(builder: Any, url: str, downloads: Path) -> bool:
    """Whether the download manager will find the file of `url` on disk."""
    by_hand = _by_hand(url, downloads)
    kept_as = resource.get_dl_fname(url, by_hand.sha256)
    earlier = (downloads / builder.name / kept_as, downloads / kept_as)
    return by_hand.path.exists() or any(resource.is_locally_cached(epath.Path(path)) for path in earlier)


def _by_hand(url: str, downloads: Path) -> ByHand:
    info = checksums.get_all_url_infos()[url]
    return ByHand(url, downloads / "manual" / str(info.filename), info.checksum)


def _not_fetched(builder: Any, urls: list[str], downloads: Path, reason: str) -> DataUnavailable:
    tried = (
        f"prepared data in {builder.data_dir}: none",
        f"files placed by hand in {downloads / 'manual'}: not all that are needed",
        f"download of {urls[0]}: {reason}",
    )
    return unavailable(builder.name, tried, [_by_hand(url, downloads) for url in urls])


def _read_split(builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, H, W, C] and labels int32 [N] of one split, in the published order."""
    try:
        source = builder.as_data_source(split=split)
    except NotImplementedError as error:
        found = builder.info.file_format.value
        raise DataUnavailable(
            f"{builder.data_dir} holds {builder.name!r} in the format {found}, "
            "which only TensorFlow reads; array_record is needed. "
            "Use another data_dir, or delete that folder to have it prepared again."
        ) from error
    images = np.empty((len(source), *builder.info.features["image"].shape), np.uint8)
    labels = np.empty(len(source), np.int32)
    for example, place in zip(source, _published_order(len(source), split), strict=True):
        images[place], labels[place] = example["image"], example["label"]
    return images, labels


def _published_order(count: int, split: str) -> list[int]:
    # Records are stored in the order of the hashes of their keys. The keys of these data sets are
    # the positions in the published files, so sorting positions by hash undoes the shuffle.
    return sorted(range(count), key=Hasher(split).hash_key)
