"""Small ImageNet archives in the published layout."""

import io
import tarfile
from typing import NamedTuple

import numpy as np
from PIL import Image

SYNSETS = ("n01440764", "n01739381", "n02105855")
"""The first class; one with a genuine CMYK file; the one with the PNG file."""

LISTED = {"n01739381_1309.JPEG": ("CMYK", "JPEG"), "n02105855_2933.JPEG": ("RGB", "PNG")}
"""Files of the genuine set that are not RGB JPEG, known by name: mode and format."""

KINDS = [("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "JPEG")]
SIZES = [(40, 60), (75, 50), (33, 33), (120, 30)]
COLOURS = [(220, 40, 40), (40, 200, 40), (50, 60, 220)]
VALIDATION = 5


class Archives(NamedTuple):
    """What was written: the content of each file by its name, and of the training files the synset."""

    train: dict[str, bytes]
    synsets: dict[str, str]
    validation: dict[str, bytes]


def write(folder, kinds=KINDS):
    """Writes both archives into `folder`, four training images a synset; returns `Archives`."""
    folder.mkdir(parents=True, exist_ok=True)
    train, synsets, members = {}, {}, {}
    for synset, colour in zip(SYNSETS, COLOURS, strict=True):
        numbered = {f"{synset}_{10 + n}.JPEG": kind for n, kind in enumerate(kinds)}
        listed = {name: kind for name, kind in LISTED.items() if name.startswith(synset)}
        files = {
            name: image(colour, size, *kind)
            for (name, kind), size in zip({**numbered, **listed}.items(), [*SIZES, (64, 48)], strict=False)
        }
        train |= files
        synsets |= dict.fromkeys(files, synset)
        members[f"{synset}.tar"] = tar(files)
    validation = {
        f"ILSVRC2012_val_{number:08d}.JPEG": image(COLOURS[number % 3], (50 + number, 70), "RGB", "JPEG")
        for number in range(1, VALIDATION + 1)
    }
    (folder / "ILSVRC2012_img_train.tar").write_bytes(tar(members))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tar(validation))
    return Archives(train, synsets, validation)


def image(colour, size, mode, kind):
    """An image file of nearly one colour."""
    noise = np.random.default_rng(size).integers(-9, 10, (*size[::-1], 3))
    buffer = io.BytesIO()
    pixels = np.clip(np.asarray(colour) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(buffer, kind, quality=95)
    return buffer.getvalue()


def tar(members):
    """An uncompressed tar archive of files by their names."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
