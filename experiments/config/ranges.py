"""Which values the fields of a configuration may have, where not all of their type make sense."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

MOST = 2**31 - 1
"""Of whatever is counted on the device, in 32 bits."""
NUMBER = "a number above 0, neither smaller nor larger than float32 can hold"
WIDEST = 2**16
"""Channels of a layer. More than any net has, and more make weights that no memory holds."""

LONGEST_CHAIN = 4
"""Recordings in a chain, which have 24 orders."""

Range = tuple[str, object, bool, str]
"""A field, its value, whether that is possible, and what it may be."""


def data_ranges(data: Any) -> list[Range]:
    """Of every field of this part that not all values of its type suit; so of the other parts."""
    size, steps = data.image_size, data.steps
    return [
        ("image_size", size, size is None or 1 <= size <= WIDEST, "a number of pixels, 1 or more"),
        (
            "steps",
            steps,
            steps is None or 1 <= steps <= MOST,
            "a whole number of time steps, 1 or more, or None for sequences with lengths of their own",
        ),
        ("held_out", data.held_out, 0 <= data.held_out < 1, "a number in [0, 1), the share that is held out"),
        (
            "pool",
            data.pool,
            data.pool is None or 1 <= data.pool <= WIDEST,
            "a whole number of pixels or channels, 1 or more",
        ),
        ("chain", data.chain, 1 <= data.chain <= LONGEST_CHAIN, f"a whole number of recordings, 1 to {LONGEST_CHAIN}"),
        ("batch_size", data.batch_size, 1 <= data.batch_size <= MOST, "a whole number of examples, 1 or more"),
    ]


def net_ranges(net: Any) -> list[Range]:
    """As `data_ranges`."""
    channels = f"channels, each in 1 .. {WIDEST}, and M, with one convolution or more"
    narrow = _positive(net.width) and _widest(net) <= WIDEST
    return [
        ("layers", net.layers, _are_layers(net.layers), channels),
        ("width", net.width, narrow, f"a number above 0, for {WIDEST} channels or fewer"),
        ("decay", net.decay, 0 <= net.decay <= 1, "a number in [0, 1]; for a time constant of N steps, 1 - 1/N"),
        ("threshold", net.threshold, _positive(net.threshold), NUMBER),
    ]


def training_ranges(training: Any) -> list[Range]:
    """As `data_ranges`."""
    decay, rate, accumulate = training.weight_decay, training.learning_rate, training.accumulate
    return [
        ("epochs", training.epochs, 1 <= training.epochs <= MOST, "a whole number of epochs, 1 or more"),
        ("learning_rate", rate, _positive(rate), NUMBER),
        ("momentum", training.momentum, 0 <= training.momentum < 1, "a number in [0, 1)"),
        (
            "weight_decay",
            decay,
            decay == 0 or (_positive(decay) and training.optimizer != "adam"),
            "0, or a number above 0 with sgd or adamw, which is adam with weight decay",
        ),
        (
            "loss_mse",
            training.loss_mse,
            0 <= training.loss_mse <= 1,
            "a number in [0, 1], the weight of the squared error",
        ),
        ("accumulate", accumulate, 1 <= accumulate <= MOST, "a whole number of batches, 1 or more"),
        ("seed", training.seed, 0 <= training.seed < 2**32, "a whole number in 0 .. 2^32 - 1"),
    ]


def run_ranges(run: Any) -> list[Range]:
    """As `data_ranges`."""
    folder = "the name of a folder; ~ is one's own home"
    every, devices = run.save_every, run.devices
    return [
        ("data_dir", run.data_dir, _is_folder_name(run.data_dir), folder),
        ("workdir", run.workdir, run.workdir is None or _is_folder_name(run.workdir), folder),
        ("compiled", run.compiled, run.compiled is None or _is_folder_name(run.compiled), folder),
        ("keep", run.keep, run.keep >= 1, "a whole number of checkpoints, 1 or more"),
        ("save_every", every, every is None or every >= 1, "a whole number of batches, 1 or more"),
        ("devices", devices, devices is None or devices >= 1, "a whole number of devices, 1 or more"),
        *_launch_ranges(run.coordinator, run.processes, run.process),
    ]


def _launch_ranges(coordinator: str | None, processes: int | None, process: int | None) -> list[Range]:
    """As `data_ranges`, of the flags with which several processes are started."""
    if coordinator in (None, "auto"):
        expected = "none, but with --coordinator=HOST:PORT"
        return [
            ("processes", processes, processes is None, expected),
            ("process", process, process is None, expected),
        ]
    host, _, port = coordinator.rpartition(":")
    count, number = processes or 0, -1 if process is None else process
    return [
        ("coordinator", coordinator, bool(host) and port.isdecimal() and 0 < int(port) < 2**16, "HOST:PORT, or auto"),
        ("processes", processes, count >= 1, "how many processes meet at --coordinator, 1 or more"),
        ("process", process, 0 <= number < count, f"which of them this one is, in 0 .. {count - 1}"),
    ]


def _positive(value: float) -> bool:
    # Where float32 ends, so that it is neither zero nor infinite on the device.
    return 2.0**-126 <= value < 2.0**128


def _channels(layers: Sequence[int | str]) -> list[Any]:
    return [entry for entry in layers if entry != "M"]


def _are_layers(layers: Sequence[int | str]) -> bool:
    channels = _channels(layers)
    return bool(channels) and all(isinstance(entry, int) and 1 <= entry <= WIDEST for entry in channels)


def _widest(net: Any) -> float:
    return net.width * max(_channels(net.layers), default=0)


def _is_folder_name(name: str) -> bool:
    try:
        return bool(name) and bool(Path(name).expanduser())
    except RuntimeError:  # The home of nobody.
        return False
