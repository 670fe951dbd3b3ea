"""The package `nir`, which writes and reads files; safjax itself does without it."""

from typing import Any


def library() -> Any:
    """The package `nir`.

    Raises:
      ImportError: it is not installed; the message says how it is.
    """
    try:
        import nir
    except ImportError as error:
        raise ImportError("safjax.nir needs the packages nir and h5py: pip install 'safjax[nir]'.") from error
    return nir
