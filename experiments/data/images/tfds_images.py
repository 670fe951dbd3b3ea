"""ImageNet prepared with TensorFlow Datasets in array_record files, and read from them one image at a time."""

import contextlib
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from experiments.data.errors import DataUnavailable
from experiments.data.images import imagenet
from experiments.data.images.image_files import Encoded
from experiments.data.images.tfds_builders import Imagenet2012, is_prepared

OPEN_FILES = 4096
"""More than the parts of the prepared data set, about a thousand, which all stay open; the usual limit is 1,024."""


class Source(Sequence[Encoded]):
    """A split of a prepared data set whose images are left encoded; any thread may read it."""

    def __init__(self, source: Any):
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: Any) -> Any:
        example = self._source[int(index)]
        return Encoded(example["file_name"].decode(), example["image"], int(example["label"]))


def read(data_dir: Path) -> tuple[Source, Source]:
    """The training and the validation split, prepared from the archives where that has not been done.

    Args:
      data_dir: TensorFlow Datasets' folder. The two archives lie in `downloads/manual/` below it; once the data set is
        prepared, they are not read again.

    Raises:
      DataUnavailable: neither prepared nor are the archives there, or what is prepared cannot be read.
      DataCorrupt: an archive is not the published one.
    """
    _allow_open_files()
    builder = Imagenet2012(data_dir=data_dir)
    if not is_prepared(builder):
        imagenet.find_archives(data_dir / "downloads" / "manual")
        # Its progress goes to stderr, some of its messages to stdout.
        with contextlib.redirect_stdout(sys.stderr):
            builder.download_and_prepare(file_format="array_record", download_config=tfds.download.DownloadConfig())
    return _split(builder, "train"), _split(builder, "validation")


def _split(builder: Any, split: str) -> Source:
    try:
        return Source(builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()}))
    except (NotImplementedError, ValueError) as error:
        raise DataUnavailable(
            f"{builder.data_dir} holds {builder.name!r} without the split {split!r} in the format array_record: it has "
            f"{sorted(builder.info.splits)} in {builder.info.file_format.value}. Use another data_dir, or delete that "
            "folder to have it prepared again."
        ) from error


def _allow_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
