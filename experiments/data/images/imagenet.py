"""The two archives of ILSVRC 2012 (Russakovsky et al., 2015), read one image after another with the standard library.

The training archive holds one archive for each of the 1,000 synsets, `n01440764.tar`, of files `n01440764_10026.JPEG`;
the validation archive holds `ILSVRC2012_val_00000001.JPEG` and on. They are handed out to registered users only, so
nothing here downloads them.
"""

import io
import re
import tarfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from PIL import Image

from experiments.data.errors import DataCorrupt, DataUnavailable

HOMEPAGE = "https://image-net.org/download-images"


class Archive(NamedTuple):
    """A published archive: its file name and its size in bytes."""

    file: str
    size: int


ARCHIVES = {
    "train": Archive("ILSVRC2012_img_train.tar", 147_897_477_120),
    "validation": Archive("ILSVRC2012_img_val.tar", 6_744_924_160),
}


class ImageFile(NamedTuple):
    """An image as it is stored: its file's name and content, and its class, a synset."""

    name: str
    synset: str
    content: bytes


def find_archives(folder: Path) -> dict[str, Path]:
    """The paths of both archives.

    Raises:
      DataUnavailable: one is not in `folder`.
      DataCorrupt: one is not as long as the published one.
    """
    missing = [archive.file for archive in ARCHIVES.values() if not (folder / archive.file).is_file()]
    if missing:
        raise DataUnavailable(
            f"the data set 'imagenet' is not prepared here, and {' and '.join(missing)} cannot be found.\n"
            f"Register at {HOMEPAGE}, fetch ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar there, and put both "
            f"into {folder}. To go on without any download, use the data set 'digits'."
        )
    for archive in ARCHIVES.values():
        size = (folder / archive.file).stat().st_size
        if size != archive.size:
            raise DataCorrupt(
                f"{folder / archive.file} has {size:,} bytes, but the published archive has {archive.size:,}. Fetch it "
                f"again from {HOMEPAGE}."
            )
    return {split: folder / archive.file for split, archive in ARCHIVES.items()}


def train_images(archive: Path, synsets: Collection[str]) -> Iterator[ImageFile]:
    """The images of the training archive, synset by synset.

    Args:
      archive: its path.
      synsets: all there are.

    Raises:
      DataCorrupt: the archive, or one within it, cannot be read, or is of no synset.
    """
    for file, synset_archive in _members(archive, archive.open("rb")):
        synset = Path(file).stem
        if synset not in synsets:
            raise DataCorrupt(f"{archive} holds {file}, expected one archive for each synset, such as n01440764.tar.")
        for name, content in _members(archive, synset_archive):
            yield ImageFile(name, synset, content.read())


def validation_images(archive: Path, synsets: Sequence[str]) -> Iterator[ImageFile]:
    """The images of the validation archive.

    Args:
      archive: its path.
      synsets: of all images by their numbers, which count from 1.

    Raises:
      DataCorrupt: the archive cannot be read, or holds a file without a number.
    """
    for name, content in _members(archive, archive.open("rb")):
        number = re.fullmatch(r"ILSVRC2012_val_(\d{8})\.JPEG", name)
        if number is None or not 1 <= int(number[1]) <= len(synsets):
            raise DataCorrupt(f"{archive} holds {name}, expected ILSVRC2012_val_00000001.JPEG .. {len(synsets):08d}.")
        yield ImageFile(name, synsets[int(number[1]) - 1], content.read())


def _members(archive: Path, stream: IO[bytes]) -> Iterator[tuple[str, IO[bytes]]]:
    """The regular files of a tar archive, each to be read before the next."""
    try:
        with stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                file = tar.extractfile(member)
                if file is not None:
                    yield member.name, file
    except tarfile.TarError as error:
        raise DataCorrupt(
            f"{archive} is not a complete ImageNet archive ({error}). Fetch it again from {HOMEPAGE}."
        ) from error


def to_rgb_jpeg(content: bytes) -> bytes:
    """An image file of any kind as a JPEG file in RGB, at the highest quality."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").save(buffer, "JPEG", quality=100)
    return buffer.getvalue()
