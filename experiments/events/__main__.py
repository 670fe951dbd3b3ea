"""`python -m experiments.events look FILE`."""

import dataclasses
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import tyro

from experiments import events
from experiments.events.look import look
from safjax.data import OutOfOrder


@dataclasses.dataclass(frozen=True)
class Look:
    """What a file of events or spikes holds; its frames in a picture."""

    file: tyro.conf.Positional[Path]
    """A recording of any format that safjax.data reads."""
    out: Path | None = None
    """The picture; by default FILE's name with .png, in the current folder."""
    sensor: tuple[int, int] | None = None
    """Height and width, for formats that do not tell and to check that all events lie inside."""
    sample: int = 0
    """Which sample of a file of many is drawn."""


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      args: the command line; None takes the program's.

    Returns:
      The exit code: 2 for a file that cannot be read, or a picture that cannot be written.
    """
    commands: dict[str, Callable[..., Look]] = {"look": Look}
    options = tyro.extras.subcommand_cli_from_dict(
        commands, args=args, prog="python -m experiments.events", description=events.__doc__
    )
    out = options.out or Path(f"{options.file.name}.png")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OutOfOrder)  # the table says so
            lines = look(options.file, out, options.sensor, options.sample)
    except (ValueError, OSError, ImportError, IndexError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        print(f"{name:{width}}  {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
