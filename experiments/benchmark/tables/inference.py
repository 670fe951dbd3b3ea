"""`inference`: batches of several sizes through the net, beside other libraries, and step by step."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from experiments.benchmark import chart
from experiments.benchmark.options import Options, require_count, require_each_once, require_work
from experiments.benchmark.peers import PEERS
from experiments.benchmark.rows import INFERENCE, Job, Row
from experiments.benchmark.targets import Target, inferred
from experiments.benchmark.work import Network, Work


@dataclasses.dataclass(frozen=True)
class Inference(Options):
    """A call of `predict`, a stream of as many steps, and other libraries without gradients."""

    network: Network = "vgg"
    """As of `measure`."""
    batch_sizes: tuple[int, ...] = (1, 8, 64)
    """Examples, a table for each."""
    steps: int | None = None
    """Time steps T; None is what the network usually has, 6 for vgg."""
    width: float = 1.0
    """Factor of all channels, of dense and recurrent of the hidden neurons."""
    image_size: int | None = None
    """Height and width of the images; None is what the network usually has, 32 for vgg."""

    def __post_init__(self):
        super().__post_init__()
        positive = all(size >= 1 for size in self.batch_sizes)
        require_each_once("batch_sizes", self.batch_sizes, "whole numbers, 1 or more", positive)
        require_count("steps", self.steps)
        require_work(self.network, None, self.width, self.image_size)

    def tables(self) -> list[list[Job]]:
        """One for each batch size."""
        peers = [f"{name}:predict" for name, peer in PEERS.items() if self.network in peer.inference]
        methods = [f"{INFERENCE}:predict", f"{INFERENCE}:stream", *peers]
        return [
            [Job(method, self._work(size), self.thread_count) for method in methods]
            for size in sorted(self.batch_sizes)
        ]

    def targets(self) -> Sequence[Target]:
        """The stream beside the call; `verdict` takes each batch size by itself."""
        return inferred(self.network, self._work(1).steps)

    def verdict(self, tables: Sequence[Sequence[Row]]) -> str:
        """What is reached at each batch size."""
        told = [(rows[0].job.work.batch_size, super(Inference, self).verdict([rows])) for rows in tables]
        return "\n\n".join(f"Batch {size}:\n\n{text}" for size, text in told if text)

    def draw(self, tables: Sequence[Sequence[Row]], folder: Path) -> None:
        """Bars of each batch size."""
        for rows in tables:
            chart.bars(rows, folder / f"inference_{rows[0].job.work.batch_size}.png")

    def _work(self, batch_size: int) -> Work:
        return Work.usual(self.network, self.steps, batch_size, self.width, self.image_size)
