"""Which values the fields of a configuration may have, where not all of their type make sense."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

MOST = 2**31 - 1
"""Of whatever is counted on the device, in 32 bits."""
NUMBER = "a number above 0, neither smaller nor larger than float32 can hold"
WIDEST = 2**16
"""Channels of a layer. More than any net has, and more make weights that no memory holds."""


def ranges(config: Any) -> list[tuple[str, bool, str]]:
    """(field, whether its value is possible, what it may be) of every field that not all values of its type suit."""
    return [
        ("layers", _are_layers(config.layers), f"channels, each in 1 .. {WIDEST}, and M, with one convolution or more"),
        (
            "width",
            _positive(config.width) and _widest(config) <= WIDEST,
            f"a number above 0, for {WIDEST} channels or fewer",
        ),
        ("image_size", config.image_size is None or 1 <= config.image_size <= WIDEST, "a number of pixels, 1 or more"),
        (
            "steps",
            config.steps is None or 1 <= config.steps <= MOST,
            "a whole number of time steps, 1 or more, or None for sequences with lengths of their own",
        ),
        ("decay", 0 <= config.decay <= 1, "a number in [0, 1]; for a time constant of N steps, 1 - 1/N"),
        ("threshold", _positive(config.threshold), NUMBER),
        ("epochs", 1 <= config.epochs <= MOST, "a whole number of epochs, 1 or more"),
        ("batch_size", 1 <= config.batch_size <= MOST, "a whole number of examples, 1 or more"),
        ("learning_rate", _positive(config.learning_rate), NUMBER),
        ("momentum", 0 <= config.momentum < 1, "a number in [0, 1)"),
        (
            "weight_decay",
            config.weight_decay == 0 or (_positive(config.weight_decay) and config.optimizer != "adam"),
            "0, or a number above 0 with sgd or adamw, which is adam with weight decay",
        ),
        ("loss_mse", 0 <= config.loss_mse <= 1, "a number in [0, 1], the weight of the squared error"),
        ("seed", 0 <= config.seed < 2**32, "a whole number in 0 .. 2^32 - 1"),
        ("data_dir", _is_folder_name(config.data_dir), "the name of a folder; ~ is one's own home"),
        (
            "workdir",
            config.workdir is None or _is_folder_name(config.workdir),
            "the name of a folder; ~ is one's own home",
        ),
        ("keep", config.keep >= 1, "a whole number of checkpoints, 1 or more"),
        ("save_every", config.save_every is None or config.save_every >= 1, "a whole number of batches, 1 or more"),
        ("accumulate", 1 <= config.accumulate <= MOST, "a whole number of batches, 1 or more"),
        ("devices", config.devices is None or config.devices >= 1, "a whole number of devices, 1 or more"),
        *_launch_ranges(config.coordinator, config.processes, config.process),
    ]


def _launch_ranges(coordinator: str | None, processes: int | None, process: int | None) -> list[tuple[str, bool, str]]:
    """As `ranges`, of the flags with which several processes are started."""
    if coordinator in (None, "auto"):
        expected = "none, but with --coordinator=HOST:PORT"
        return [("processes", processes is None, expected), ("process", process is None, expected)]
    host, _, port = coordinator.rpartition(":")
    count, number = processes or 0, -1 if process is None else process
    return [
        ("coordinator", bool(host) and port.isdecimal() and 0 < int(port) < 2**16, "HOST:PORT, or auto"),
        ("processes", count >= 1, "how many processes meet at --coordinator, 1 or more"),
        ("process", 0 <= number < count, f"which of them this one is, in 0 .. {count - 1}"),
    ]


def _positive(value: float) -> bool:
    # Where float32 ends, so that it is neither zero nor infinite on the device.
    return 2.0**-126 <= value < 2.0**128


def _channels(layers: Sequence[int | str]) -> list[Any]:
    return [entry for entry in layers if entry != "M"]


def _are_layers(layers: Sequence[int | str]) -> bool:
    channels = _channels(layers)
    return bool(channels) and all(isinstance(entry, int) and 1 <= entry <= WIDEST for entry in channels)


def _widest(config: Any) -> float:
    return config.width * max(_channels(config.layers), default=0)


def _is_folder_name(name: str) -> bool:
    try:
        return bool(name) and bool(Path(name).expanduser())
    except RuntimeError:  # The home of nobody.
        return False
