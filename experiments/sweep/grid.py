"""From the flags of a sweep to its cells: one configuration for each combination of values."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.config import MAY_CHANGE, Config, ConfigError, parse, to_json

LONGEST_NAME = 200
"""Characters of a cell's name: file systems take 255 bytes, and the log's name is longer."""

WHOLE = {"--data-dir"}
"""Flags whose value may have a comma in it."""


class Cell(NamedTuple):
    """One run of a sweep.

    Attributes:
      name: of its folder: the flags that are not the experiment's default; a long one ends with a hash instead.
      config: without a work directory.
      flags: the command line that asks for it.
    """

    name: str
    config: Config
    flags: tuple[str, ...]


def cells(default: Config, description: str, flags: Sequence[str]) -> list[Cell]:
    """All combinations of the values, in turns: those of the first seed come first.

    Args:
      default: of the experiment.
      description: what the experiment's `--help` says above its flags.
      flags: of the experiment, with commas between several values of one.

    Raises:
      ConfigError: a flag is the sweep's own business.
      SystemExit: 2 after a message on stderr when a flag or its value is not possible.
    """
    found: dict[str, Cell] = {}
    for combination in itertools.product(*_axes(flags)):
        args = tuple(itertools.chain.from_iterable(combination))
        config = parse(default, description, args)
        _check(config)
        cell = Cell(_name(config, default), config, args)
        found.setdefault(cell.name, cell)
    seeds = list(dict.fromkeys(cell.config.training.seed for cell in found.values()))
    return sorted(found.values(), key=lambda cell: seeds.index(cell.config.training.seed))


def varying(configs: Sequence[Config]) -> list[str]:
    """The fields, but the seed, in which configurations differ; the method at least."""
    values = [to_json(config) for config in configs]
    skipped = {*MAY_CHANGE, "seed", "method"}
    return [
        "method",
        *(name for name in values[0] if name not in skipped and any(v[name] != values[0][name] for v in values)),
    ]


def shown(value: Any) -> str:
    """A value of a field, in words and without blanks."""
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def folder(sweep: Path, cell: Cell) -> Path:
    """The work directory of a cell."""
    return sweep / cell.name


def _axes(flags: Sequence[str]) -> Iterator[list[list[str]]]:
    """Of each flag the ways to give it: --layers 4 M 8,8 M 8 is [--layers, 4, M, 8] or [--layers, 8, M, 8]."""
    groups: list[list[str]] = []
    for token in flags:
        if token.startswith("--"):
            flag, equals, value = token.partition("=")
            groups.append([flag.replace("_", "-"), *([value] if equals else [])])
        elif groups:
            groups[-1].append(token)
        else:
            raise ConfigError(f"{token!r} is no flag. Give flags of the experiment, such as --method=saf_f,bptt.")
    for flag, *values in groups:
        whole = flag in WHOLE or not values
        ways = [values] if whole else [way.split() for way in " ".join(values).split(",")]
        yield [[flag, *way] for way in ways]


def _check(config: Config) -> None:
    if config.run.resume:
        raise ConfigError("--resume is for one run. A sweep always resumes: give the same command again without it.")
    if config.run.coordinator is not None:
        raise ConfigError("--coordinator is for one run on several hosts. A sweep starts runs of one process each.")


def _name(config: Config, default: Config) -> str:
    now, before = to_json(config), to_json(default)
    other = [name for name in now if name not in (*MAY_CHANGE, "method", "seed") and now[name] != before[name]]
    name = ",".join(f"{name}={shown(now[name])}" for name in ("method", *other, "seed"))
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
