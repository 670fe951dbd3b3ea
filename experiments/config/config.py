"""The configuration of a run: one frozen value in four parts, one command-line flag for each of their fields."""

import dataclasses
import difflib
import sys
from collections.abc import Sequence
from typing import Any

import tyro

from experiments.config.flags import NUMBERS
from experiments.config.parts import ConfigError, Data, Net, Run, Training


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that a run depends on. Two runs whose first three parts are equal give equal metrics."""

    data: Data = dataclasses.field(default_factory=Data)
    """What the net is shown, and how."""
    net: Net = dataclasses.field(default_factory=Net)
    """The network, its neurons, and the numbers it computes with."""
    training: Training = dataclasses.field(default_factory=Training)
    """How the net learns."""
    run: Run = dataclasses.field(default_factory=Run)
    """Where the run finds and leaves its files, and on what it runs; may be another when it is resumed."""

    def changed(self, **values: Any) -> "Config":
        """With other values of some fields, whichever parts these belong to.

        Raises:
          ConfigError: a value is out of its range.
        """
        by_part: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            by_part.setdefault(PART_OF[name], {})[name] = value
        parts = {part: dataclasses.replace(getattr(self, part), **changes) for part, changes in by_part.items()}
        return dataclasses.replace(self, **parts)


PART_OF = {
    field.name: part
    for part, kind in (("data", Data), ("net", Net), ("training", Training), ("run", Run))
    for field in dataclasses.fields(kind)
}
"""Of every field, and so of every flag, the part that it belongs to."""

MAY_CHANGE = tuple(name for name, part in PART_OF.items() if part == "run")
"""Fields that may be other ones when a run is resumed: they do not enter into what is computed."""


def differences(stored: dict[str, Any], config: Config) -> list[str]:
    """How a stored configuration (`to_json`) differs from `config`, apart from `MAY_CHANGE`: a few words a field."""
    now = to_json(config)
    return [
        f"--{name.replace('_', '-')} was {stored.get(name, 'unknown')} and is now {value}"
        for name, value in now.items()
        if name not in MAY_CHANGE and stored.get(name, "unknown") != value
    ]


def parse(default: Config, description: str, args: Sequence[str] | None = None) -> Config:
    """The configuration that a command line asks for.

    Args:
      default: an experiment's own; a flag replaces one field of it.
      description: what `--help` says above the flags.
      args: the command line; None takes the program's.

    Raises:
      SystemExit: 0 after `--help`; 2 after a message on stderr when a flag or its value is not possible.
      ConfigError: a flag was given that another makes void.
    """
    prog = f"python -m experiments.{default.data.dataset}"
    _check_names(sys.argv[1:] if args is None else args)
    with NUMBERS:
        config = tyro.cli(
            Config,
            prog=prog,
            description=description,
            default=default,
            args=args,
            config=(tyro.conf.OmitArgPrefixes,),
        )
    before, now = to_json(default), to_json(config)
    for name, needed, value in (
        ("layers", "network", "vgg"),
        ("head", "network", "vgg"),
        ("momentum", "optimizer", "sgd"),
    ):
        if now[name] != before[name] and now[needed] != value:
            raise ConfigError(
                f"--{name} says nothing with --{needed}={now[needed]}: it is for --{needed}={value}. Leave "
                "out one of the two."
            )
    return config


def _check_names(args: Sequence[str]) -> None:
    """Refuses names of flags that there are not, with the one that is most like them."""
    known = {f"--{no}{name.replace('_', '-')}" for name in PART_OF for no in ("", "no-")} | {"--help"}
    for arg in args:
        name = arg.partition("=")[0].replace("_", "-")
        if name.startswith("--") and name not in known and not name.startswith("--tyro-"):
            like = difflib.get_close_matches(name, known, 1)
            meant = f"Did you mean {like[0]}?" if like else "--help lists those that there are."
            print(f"error: there is no flag {arg.partition('=')[0]}. {meant}", file=sys.stderr)
            raise SystemExit(2)


def to_json(config: Config) -> dict[str, Any]:
    """All fields of all parts, as values that JSON has."""
    values = {name: getattr(getattr(config, part), name) for name, part in PART_OF.items()}
    return {**values, "layers": list(config.net.layers)}


def from_json(values: dict[str, Any]) -> Config:
    """Inverse of `to_json`.

    Raises:
      KeyError: a field is missing, or is none.
    """
    values = {**values, "layers": tuple(values["layers"])}
    if missing := sorted(PART_OF.keys() - values.keys()):
        raise KeyError(missing[0])
    return Config().changed(**values)
