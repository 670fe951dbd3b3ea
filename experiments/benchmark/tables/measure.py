"""`measure`: any rows on any of the networks."""

import dataclasses

from experiments.benchmark.options import NetworkOptions, peer_rows, require_count, require_methods
from experiments.benchmark.rows import Job
from safjax.rules import RULES


@dataclasses.dataclass(frozen=True)
class Measure(NetworkOptions):
    """Any rules, and peers, on one network."""

    methods: tuple[str, ...] = tuple(RULES)
    """Rules by name, bptt_layerwise, bptt_remat, and rows of peers such as spikingjelly:bptt; the first one is what the
    others are compared with."""
    steps: int | None = None
    """Time steps T; None is what the network usually has, 6 for vgg."""
    unrolled: bool = False
    """Also compile each of our rules without a loop, all T steps written out."""

    def __post_init__(self):
        super().__post_init__()
        require_methods(self.methods, peer_rows(self.network))
        require_count("steps", self.steps)

    def tables(self) -> list[list[Job]]:
        """One row for each method, and one more for each of our rules if also unrolled."""
        return [
            [
                Job(method, self.work(self.steps), self.thread_count, unrolled)
                for method in self.methods
                for unrolled in ([False, True] if self.unrolled and ":" not in method else [False])
            ]
        ]
