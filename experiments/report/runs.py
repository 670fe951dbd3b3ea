"""A run as its folder tells it, whatever has happened to it."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.config import Config, ConfigError
from experiments.data import Shape
from experiments.training.trained import read_config

NUMBERS = (
    *("train_loss", "train_accuracy", "test_loss", "test_accuracy"),
    *("learning_rate", "examples_per_second", "seconds"),
)
"""What a line of `metrics.jsonl` has beside its epoch and the firing rates."""


class NotARun(ValueError):
    """A path that is no folder of a run."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What a folder holds.

    Attributes:
      path: the folder.
      name: on the page, another one for each run.
      config, shape: None if they cannot be read.
      records: the lines of `metrics.jsonl`.
      summary: None if the run has not ended by itself.
      problem: why it is broken, in words; None if it is not.
    """

    path: Path
    name: str
    config: Config | None
    shape: Shape | None
    records: list[dict[str, Any]]
    summary: dict[str, Any] | None
    problem: str | None = None

    @property
    def status(self) -> str:
        """Finished, unfinished or broken, in words."""
        if self.problem is not None or self.config is None:
            return "broken"
        if len(self.records) < self.config.training.epochs:
            return f"unfinished: {len(self.records)} of {self.config.training.epochs} epochs"
        return "finished" if self.summary is not None else "all epochs are there, but no summary"

    @property
    def seconds(self) -> float:
        """Of all epochs."""
        return sum(record["seconds"] for record in self.records)


def read(paths: Sequence[Path]) -> list[Run]:
    """The runs in some folders; a folder of runs, such as that of a sweep, stands for all of them.

    Raises:
      NotARun: one of them is neither.
    """
    given = [path.expanduser().absolute() for path in paths]
    paths = list(dict.fromkeys(run for path in given for run in _runs_in(path)))
    return [_read(path, name) for path, name in zip(paths, _names(paths), strict=True)]


def _runs_in(path: Path) -> list[Path]:
    """The folders of runs in one that is none itself; without any, the path."""
    if (path / "config.json").exists():
        return [path]
    return sorted(config.parent for config in path.glob("*/config.json")) or [path]


def _names(paths: Sequence[Path]) -> list[str]:
    """As much of the ends of the paths as tells them apart."""
    for parts in range(1, max((len(path.parts) for path in paths), default=1) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def _read(path: Path, name: str) -> Run:
    if not path.is_dir():
        raise NotARun(f"{path} is not a folder. Give folders of runs, such as runs/digits-saf_f-0.")
    if not (path / "config.json").exists():
        raise NotARun(
            f"{path} is not the folder of a run: it has no config.json, nor has any folder in it. Give such as "
            "runs/digits-saf_f-0."
        )
    problems: list[str] = []
    config, shape = _config(path / "config.json", problems)
    records = _records(path / "metrics.jsonl", problems)
    summary = _summary(path / "summary.json", problems)
    return Run(path, name, config, shape, records, summary, "; ".join(problems) or None)


def _config(path: Path, problems: list[str]) -> tuple[Config | None, Shape | None]:
    try:
        return read_config(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        problems.append(f"config.json is not one of this version ({_words(error)})")
        return None, None


def _records(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    """The lines up to the first that is none."""
    records: list[dict[str, Any]] = []
    try:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            record = json.loads(line)
            if record["epoch"] != number or not _is_record(record):
                raise ValueError(f"line {number} is not the record of epoch {number}")
            records.append(record)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problems.append(f"metrics.jsonl is damaged after {len(records)} epochs ({_words(error)})")
    return records


def _is_record(record: dict[str, Any]) -> bool:
    return all(
        isinstance(number, int | float) for number in (*(record[name] for name in NUMBERS), *record["rates"].values())
    )


def _summary(path: Path, problems: list[str]) -> dict[str, Any] | None:
    try:
        summary = json.loads(path.read_text())
        return summary if isinstance(summary["parameters"], int) else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        problems.append(f"summary.json is damaged ({_words(error)})")
        return None


def _words(error: Exception) -> str:
    return f"there is no {error}" if isinstance(error, KeyError) else str(error)
