"""The flags that all subcommands share, and what each of them is asked for."""

import abc
import dataclasses
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.benchmark import chart
from experiments.benchmark.machine import cores
from experiments.benchmark.ours import METHODS
from experiments.benchmark.peers import PEERS
from experiments.benchmark.report import COLUMNS, Column
from experiments.benchmark.rows import Job, Row
from experiments.benchmark.runner import Limits
from experiments.benchmark.targets import Target, target_table
from experiments.benchmark.work import USUAL, Network, Work
from experiments.config import ConfigError


@dataclasses.dataclass(frozen=True)
class Options(abc.ABC):
    """How to measure; a subclass says what, and is a subcommand of its name.

    Raises:
      ConfigError: a value is out of its range.
    """

    repeats: int = 7
    """Timed turns of each row, after one that is not timed."""
    seconds: float = math.inf
    """A row whose turns have taken so long together has no further one, after its second."""
    timeout: float = 600.0
    """Seconds in which a row must answer: compile and take its first step, then take each turn."""
    threads: int | None = None
    """Of every row; None is one for each core."""
    output: Path | None = None
    """Folder for table.md, rows.jsonl and the charts."""

    def __post_init__(self):
        for name in ("repeats", "threads"):
            require_count(name, getattr(self, name))
        require(self.seconds > 0, "seconds", self.seconds, "a number above 0")
        require(0 < self.timeout < math.inf, "timeout", self.timeout, "a number of seconds above 0")

    @abc.abstractmethod
    def tables(self) -> list[list[Job]]:
        """What to measure: rows that take turns stand in one table."""

    @property
    def columns(self) -> dict[str, Column]:
        """Of every table."""
        return COLUMNS

    def references(self, rows: Sequence[Row]) -> list[str]:
        """The rows that the others of their table are compared with; the first one unless overridden."""
        return [row.name for row in rows if row.error is None][:1]

    def targets(self) -> Sequence[Target]:
        """What is to be reached."""
        return ()

    def verdict(self, tables: Sequence[Sequence[Row]]) -> str:
        """What follows from all tables, in Markdown."""
        return target_table(self.targets(), [row for rows in tables for row in rows])

    def draw(self, tables: Sequence[Sequence[Row]], folder: Path) -> None:
        """The charts; unless overridden one of each table, named by its network."""
        for rows in tables:
            chart.bars(rows, folder / f"{rows[0].job.work.network}.png")

    @property
    def limits(self) -> Limits:
        """Of every row."""
        return Limits(self.repeats, self.seconds, self.timeout)

    @property
    def thread_count(self) -> int:
        """Of every row."""
        return self.threads or cores()


@dataclasses.dataclass(frozen=True)
class NetworkOptions(Options):
    """With a network and its sizes."""

    network: Network = "vgg"
    """The published VGG, shown images; dense layers 700-256-256-20, fed with random spikes; plain convolutions
    64-128-pool-256-pool-10, shown images; the NF-ResNet-34, shown large images; or, fed with random spikes, two 5×5
    convolutions with max pooling, three normalised 3×3 convolutions, 700-128-20 with recurrence, a Spikformer block."""
    batch_size: int | None = None
    """Examples a step; None is what the network usually has, 16 for vgg."""
    width: float = 1.0
    """Factor of all channels, of dense and recurrent of the hidden neurons."""
    image_size: int | None = None
    """Height and width of the images, one token of spikformer a pixel; None is what the network usually has, 32 for
    vgg."""

    def __post_init__(self):
        super().__post_init__()
        require_work(self.network, self.batch_size, self.width, self.image_size)

    def work(self, steps: int | None) -> Work:
        """With T = `steps`; None is the usual one."""
        return Work.usual(self.network, steps, self.batch_size, self.width, self.image_size)


def peer_rows(network: Network) -> list[str]:
    """The names of all rows of peers for a network."""
    return [f"{library}:{method}" for library, peer in PEERS.items() for method in peer.methods.get(network, ())]


def require(good: bool, flag: str, given: object, expected: str) -> None:
    """Refuses the value of a flag."""
    if not good:
        raise ConfigError(f"--{flag.replace('_', '-')}={given} is not possible: expected {expected}.")


def require_count(flag: str, given: int | None) -> None:
    """Refuses a number below 1."""
    require(given is None or given >= 1, flag, given, "a whole number, 1 or more")


def require_work(network: Network, batch_size: int | None, width: float, image_size: int | None) -> None:
    """Refuses sizes that a network cannot have."""
    require_count("batch_size", batch_size)
    require(0 < width < math.inf, "width", width, "a number above 0")
    usual = USUAL[network]
    fits = image_size is None or (usual.image_size is not None and image_size >= usual.smallest)
    require(fits, "image_size", image_size, f"{usual.smallest} or more, and a network that is shown images")


def require_each_once(flag: str, given: Sequence[object], expected: str, good: bool = True) -> None:
    """Refuses none, repeated ones, and what is not `good`."""
    distinct = 0 < len(given) == len(set(given))
    require(good and distinct, flag, " ".join(map(str, given)), f"{expected}, each once")


def require_steps(steps: Sequence[int]) -> None:
    """Refuses numbers of steps below 1."""
    require_each_once("steps", steps, "whole numbers, 1 or more", good=min(steps, default=0) >= 1)


def require_methods(methods: Sequence[str], peers: Iterable[str] = ()) -> None:
    """Refuses unknown ones."""
    known = [*METHODS, *peers]
    require_each_once("methods", methods, f"some of {', '.join(known)}", good=set(methods) <= set(known))
