"""Any data set by its name."""

import importlib
import os
from collections.abc import Callable
from pathlib import Path

from experiments.config.datasets import DATASETS
from experiments.data.examples import DataSet


def load(name: str, data_dir: str | os.PathLike[str]) -> DataSet:
    """Loads a data set, fetching it first if it is not stored in `data_dir` yet.

    Args:
      name: one of `experiments.config.datasets`.
      data_dir: folder of TensorFlow Datasets; decoded arrays are kept in `arrays/` below it.

    Raises:
      ValueError: there is no data set of that name.
      DataUnavailable: it is not stored and cannot be fetched; raised within 10 seconds when the
        server does not answer.
      DataCorrupt: a stored or fetched file is not the published one.
    """
    if name not in DATASETS:
        raise ValueError(f"no data set is called {name!r}; there are {', '.join(DATASETS)}.")
    module, _, function = DATASETS[name].partition(":")
    loader: Callable[[Path], DataSet] = getattr(importlib.import_module(module), function)
    return loader(Path(data_dir).expanduser().absolute())
