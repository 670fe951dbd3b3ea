"""`input`: whether training ever waits for its input."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from experiments.benchmark import chart
from experiments.benchmark.options import Options, require_count, require_each_once, require_methods, require_work
from experiments.benchmark.report import COLUMNS, Column
from experiments.benchmark.rows import Job, Row
from experiments.benchmark.targets import Target, fed
from experiments.benchmark.work import Network, Work

Kind = Literal["memory", "files"]

NETWORKS: dict[Kind, Network] = {"memory": "vgg", "files": "resnet"}
"""What is trained on each."""


@dataclasses.dataclass(frozen=True)
class Input(Options):
    """Images a second of the input pipeline, and of the training step that they are for."""

    kinds: tuple[Kind, ...] = ("memory", "files")
    """CIFAR-10's images in memory, cropped, flipped and cut out, for the VGG; JPEG files as large as ImageNet's,
    decoded, cropped and flipped, for the NF-ResNet-34. A table for each."""
    methods: tuple[str, ...] = ("saf_f",)
    """Rules; the input has to keep up with the fastest."""
    batch_size: int = 16
    """Examples a step."""
    width: float = 1.0
    """Factor of all channels."""
    image_size: int = 224
    """Height and width to which files are cropped."""

    def __post_init__(self):
        super().__post_init__()
        require_each_once("kinds", self.kinds, "some")
        require_methods(self.methods)
        require_count("batch_size", self.batch_size)
        require_work("resnet", self.batch_size, self.width, self.image_size)

    def tables(self) -> list[list[Job]]:
        """One for each kind."""
        return [
            [Job(method, self._work(kind), self.thread_count) for method in (f"input:{kind}", *self.methods)]
            for kind in self.kinds
        ]

    def _work(self, kind: Kind) -> Work:
        image_size = self.image_size if kind == "files" else None
        return Work.usual(NETWORKS[kind], None, self.batch_size, self.width, image_size)

    @property
    def columns(self) -> dict[str, Column]:
        """With images a second in place of what is known of a compiled step."""
        return {
            "row": COLUMNS["row"],
            "turn, median (min – max)": COLUMNS["step, median (min – max)"],
            "turns": COLUMNS["turns"],
            "peak MB": COLUMNS["peak MB"],
            "images/s": lambda row: f"{row.rate:.1f}",
        }

    def references(self, rows: Sequence[Row]) -> list[str]:
        """None: a turn of the input is several batches, one of training is one."""
        return []

    def targets(self) -> Sequence[Target]:
        """The input's images a second over training's."""
        return [fed(f"input:{kind}", self.methods, NETWORKS[kind]) for kind in self.kinds]

    def draw(self, tables: Sequence[Sequence[Row]], folder: Path) -> None:
        """Images a second as bars."""
        for kind, rows in zip(self.kinds, tables, strict=True):
            chart.rates(rows, folder / f"{kind}.png")
