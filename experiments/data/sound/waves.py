"""WAV files of one channel and 16 bits, read with the standard library."""

import wave
from pathlib import Path

import numpy as np

from experiments.data.errors import DataCorrupt


def read(path: Path, rate: int) -> np.ndarray:
    """The samples of a file, as fractions of full scale.

    Args:
      path: of the file.
      rate: samples a second that it must have.

    Returns:
      float64 [samples], in [-1, 1).

    Raises:
      DataCorrupt: it is no such file, holds fewer samples than it says, or none.
    """
    try:
        with wave.open(str(path), "rb") as file:
            found = file.getnchannels(), 8 * file.getsampwidth(), file.getframerate()
            frames, content = file.getnframes(), file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise DataCorrupt(f"{path} is not a complete WAV file ({error}). Fetch it again.") from error
    if found != (1, 16, rate):
        raise DataCorrupt(
            f"{path} has {found[0]} channels of {found[1]} bits at {found[2]} Hz, expected one of 16 bits at {rate} Hz."
        )
    if not frames or len(content) != 2 * frames:
        raise DataCorrupt(f"{path} holds {len(content) // 2} samples of {frames}: it is cut short. Fetch it again.")
    return np.frombuffer(content, "<i2") / 2**15
