"""The published sets of images: where each is looked for, and how its channels are distributed."""

from pathlib import Path

from experiments.data.errors import DataUnavailable
from experiments.data.images import fashion_mnist
from experiments.data.images.cache import cached
from experiments.data.images.image_files import ImageFiles
from experiments.data.images.images import Images, Splits

# The values of the published recipes, which use CIFAR-10's for CIFAR-100 too.
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
FASHION_MEAN, FASHION_STD = (0.2860,), (0.3530,)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_cifar10(data_dir: Path) -> Images:
    """CIFAR-10: 50,000 and 10,000 images [32, 32, 3] of 10 classes."""
    splits = cached(_folder("cifar10", data_dir), lambda: _from_tfds("cifar10", data_dir))
    return Images("cifar10", *splits, num_classes=10, mean=CIFAR_MEAN, std=CIFAR_STD)


def load_cifar100(data_dir: Path) -> Images:
    """CIFAR-100 with its fine labels: 50,000 and 10,000 images [32, 32, 3] of 100 classes."""
    splits = cached(_folder("cifar100", data_dir), lambda: _from_tfds("cifar100", data_dir))
    return Images("cifar100", *splits, num_classes=100, mean=CIFAR_MEAN, std=CIFAR_STD)


def load_fashion_mnist(data_dir: Path) -> Images:
    """Fashion-MNIST: 60,000 and 10,000 images [28, 28, 1] of 10 classes."""
    folder = _folder("fashion_mnist", data_dir)
    splits = cached(folder, lambda: _fashion_mnist_splits(data_dir))
    return Images("fashion_mnist", *splits, num_classes=10, mean=FASHION_MEAN, std=FASHION_STD)


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
    from experiments.data.images import tfds_images

    train, validation = tfds_images.read(data_dir)
    return ImageFiles("imagenet", train, validation, num_classes=1000, mean=IMAGENET_MEAN, std=IMAGENET_STD, size=224)


def _from_tfds(name: str, data_dir: Path) -> Splits:
    # Imported here because a data set that is cached, or comes from elsewhere, does without.
    from experiments.data.images import tfds_source

    return tfds_source.read(name, data_dir)


def _folder(name: str, data_dir: Path) -> Path:
    return data_dir / "arrays" / name
