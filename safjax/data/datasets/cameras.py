"""CIFAR10-DVS, DVS-Lip, ASL-DVS and N-Caltech101."""

import re
from pathlib import Path
from typing import Literal

from safjax.data.datasets.samples import Sample, Samples, by_number, classed, split_folders

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LETTERS = tuple("abcdefghiklmnopqrstuvwxy")
"""The alphabet without j and z, which are movements."""
LIP_SENSOR, ASL_SENSOR = (128, 128), (180, 240)


def cifar10dvs(folder: Path | str, test: Literal["last", "first"] = "last") -> Samples:
    """CIFAR10-DVS (H. Li et al., Frontiers in Neuroscience 2017; CC BY 4.0): CLASS/cifar10_CLASS_NUMBER.aedat, 1,000
    each.

    Args:
      folder: holds a folder for each class.
      test: there is no published split. "last" tests on the numbers 900-999, as OTTT and SLTT do; "first" on 0-99, as
        TEBN and later work does, which gives higher accuracy.

    Raises:
      FileNotFoundError: a folder is missing.
      ValueError: another split, or a file whose name has no number.
    """
    if test not in ("last", "first"):
        raise ValueError(f"cifar10dvs(test={test!r}): expected 'last' (numbers 900-999) or 'first' (numbers 0-99).")
    splits: dict[str, list[Sample]] = {"train": [], "test": []}
    for sample in classed(folder, CIFAR10, "*.aedat", "CIFAR10-DVS"):
        number = re.search(r"(\d+)\.aedat$", sample.path.name)
        if not number:
            raise ValueError(f"{sample.path}: expected a name such as cifar10_{CIFAR10[sample.label]}_17.aedat.")
        tested = int(number[1]) >= 900 if test == "last" else int(number[1]) < 100
        splits["test" if tested else "train"].append(sample)
    rule = "test numbers 900-999 of each class" if test == "last" else "test numbers 0-99 of each class"
    published = {"train": 9000, "test": 1000}
    return Samples("CIFAR10-DVS", rule, CIFAR10, (128, 128), splits, tuple(range(len(CIFAR10))), published)


def dvslip(folder: Path | str) -> Samples:
    """DVS-Lip (G. Tan et al., CVPR 2022): 100 words, train/WORD/*.npy and test/WORD/*.npy; labels in alphabetical
    order.

    Raises:
      FileNotFoundError: a folder is missing.
    """
    train, test = split_folders(folder, ("train", "test"), "DVS-Lip")
    words = tuple(sorted(path.name for path in train.iterdir() if path.is_dir()))
    splits = {split: classed(parent, words, "*.npy", "DVS-Lip") for split, parent in (("train", train), ("test", test))}
    return Samples("DVS-Lip", "as published, people apart", words, LIP_SENSOR, splits, tuple(range(len(words))))


def asldvs(folder: Path | str) -> Samples:
    """ASL-DVS (Y. Bi et al., ICCV 2019): LETTER/*.mat, 24 letters; no published split, so one named "all".

    Raises:
      FileNotFoundError: a folder is missing.
    """
    samples = classed(folder, LETTERS, "*.mat", "ASL-DVS")
    rule, published = "no published split", {"all": 100_800}
    return Samples("ASL-DVS", rule, LETTERS, ASL_SENSOR, {"all": samples}, published=published)


def ncaltech101(folder: Path | str) -> Samples:
    """N-Caltech101 (G. Orchard et al., Frontiers in Neuroscience 2015; CC BY-SA 4.0): CLASS/*.bin, no published split.

    Raises:
      FileNotFoundError: there are no folders.
    """
    names = tuple(path.name for path in by_number(Path(folder).iterdir()) if path.is_dir())
    samples = classed(folder, names, "*.bin", "N-Caltech101")
    return Samples("N-Caltech101", "no published split", names, None, {"all": samples}, tuple(range(len(names))))
