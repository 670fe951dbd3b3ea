"""Every data set by its name."""

import os
from collections.abc import Callable
from pathlib import Path

from experiments.data import fashion_mnist
from experiments.data.cache import cached
from experiments.data.dataset import Dataset, Splits
from experiments.data.digits import load_digits
from experiments.data.errors import DataUnavailable
from experiments.data.examples import DataSet
from experiments.data.image_files import ImageFiles
from experiments.data.randman import load_randman

# The values of the published recipes, which use CIFAR-10's for CIFAR-100 too.
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
FASHION_MEAN, FASHION_STD = (0.2860,), (0.3530,)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_cifar10(data_dir: Path) -> Dataset:
    """CIFAR-10: 50,000 and 10,000 images [32, 32, 3] of 10 classes."""
    splits = cached(_folder("cifar10", data_dir), lambda: _from_tfds("cifar10", data_dir))
    return Dataset("cifar10", *splits, num_classes=10, mean=CIFAR_MEAN, std=CIFAR_STD)


def load_cifar100(data_dir: Path) -> Dataset:
    """CIFAR-100 with its fine labels: 50,000 and 10,000 images [32, 32, 3] of 100 classes."""
    splits = cached(_folder("cifar100", data_dir), lambda: _from_tfds("cifar100", data_dir))
    return Dataset("cifar100", *splits, num_classes=100, mean=CIFAR_MEAN, std=CIFAR_STD)


def load_fashion_mnist(data_dir: Path) -> Dataset:
    """Fashion-MNIST: 60,000 and 10,000 images [28, 28, 1] of 10 classes."""
    folder = _folder("fashion_mnist", data_dir)
    splits = cached(folder, lambda: _fashion_mnist_splits(data_dir))
    return Dataset("fashion_mnist", *splits, num_classes=10, mean=FASHION_MEAN, std=FASHION_STD)


def _fashion_mnist_splits(data_dir: Path) -> Splits:
    if fashion_mnist.DEBIAN_FOLDER.is_dir():
        return fashion_mnist.read_folder(fashion_mnist.DEBIAN_FOLDER)
    try:
        splits = _from_tfds("fashion_mnist", data_dir)
    except DataUnavailable as error:
        raise type(error)(
            f"{error}\nDebian's package dataset-fashion-mnist holds the same images; "
            f"it was looked for in {fashion_mnist.DEBIAN_FOLDER} and is not installed."
        ) from error
    return fashion_mnist.verified(splits, data_dir)


def load_imagenet(data_dir: Path) -> ImageFiles:
    """ImageNet (ILSVRC 2012): 1,281,167 and 50,000 colour images of all sizes, of 1,000 classes."""
    # As below: this library takes seconds to import.
    from experiments.data import tfds_images

    train, validation = tfds_images.read(data_dir)
    return ImageFiles("imagenet", train, validation, num_classes=1000, mean=IMAGENET_MEAN, std=IMAGENET_STD, size=224)


def _from_tfds(name: str, data_dir: Path) -> Splits:
    # Imported here because a data set that is cached, or comes from elsewhere, does without.
    from experiments.data import tfds_source

    return tfds_source.read(name, data_dir)


def _folder(name: str, data_dir: Path) -> Path:
    return data_dir / "arrays" / name


LOADERS: dict[str, Callable[[Path], DataSet]] = {
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "fashion_mnist": load_fashion_mnist,
    "digits": lambda data_dir: load_digits(),
    "randman": lambda data_dir: load_randman(),
    "imagenet": load_imagenet,
}


def load(name: str, data_dir: str | os.PathLike[str]) -> DataSet:
    """Loads a data set, fetching it first if it is not stored in `data_dir` yet.

    Args:
      name: "cifar10", "cifar100", "fashion_mnist", "digits", "randman" or "imagenet".
      data_dir: folder of TensorFlow Datasets; decoded arrays are kept in `arrays/` below it.

    Returns:
      Images as a `Dataset`; of "randman", `SpikeTimes`; of "imagenet", `ImageFiles`.

    Raises:
      ValueError: there is no data set of that name.
      DataUnavailable: it is not stored and cannot be fetched; raised within 10 seconds when the
        server does not answer.
      DataCorrupt: a stored or fetched file is not the published one.
    """
    if name not in LOADERS:
        raise ValueError(f"no data set is called {name!r}; there are {', '.join(LOADERS)}.")
    return LOADERS[name](Path(data_dir).expanduser().absolute())
