"""`peers`: safjax beside other libraries, on seven networks."""

import dataclasses
from collections.abc import Sequence
from typing import Literal, get_args

from experiments.benchmark.options import Options, peer_rows, require_each_once, require_work
from experiments.benchmark.rows import Job, Row
from experiments.benchmark.targets import PEERS, Target
from experiments.benchmark.work import Work

Compared = Literal["vgg", "dense", "conv", "pooled", "gesture", "recurrent", "spikformer"]

BPTT_FORMS = ("bptt", "bptt_layerwise", "exodus", "sltt")

OURS: dict[Compared, tuple[str, ...]] = {
    "vgg": ("saf_f", "saf_e", "ottt_a", "ottt_o", "sltt", "bptt", "bptt_layerwise", "exodus"),
    "dense": ("bptt", "bptt_layerwise", "exodus", "slayer", "sltt", "ottt_a"),
    "conv": ("saf_f", "ottt_a", "sltt", "bptt", "bptt_layerwise", "exodus"),
    "pooled": BPTT_FORMS,
    "gesture": BPTT_FORMS,
    "recurrent": ("bptt", "sltt"),  # no layer of a recurrent net can be computed over all steps before the next one
    "spikformer": BPTT_FORMS,
}
"""Our rows beside each network's peers."""


@dataclasses.dataclass(frozen=True)
class Peers(Options):
    """Our rules beside SpikingJelly, snnTorch, Spyx and sinabs; these need the extra `peers`."""

    seconds: float = 60.0
    """A row whose turns have taken so long together has no further one, after its second."""
    networks: tuple[Compared, ...] = get_args(Compared)
    """As of `measure`, a table for each, with the batch size and T that each has there."""
    width: float = 1.0
    """Factor of all channels, of dense and recurrent of the hidden neurons."""

    def __post_init__(self):
        super().__post_init__()
        require_each_once("networks", self.networks, "some")
        require_work("vgg", None, self.width, None)

    def tables(self) -> list[list[Job]]:
        """One for each network."""
        return [
            [Job(method, Work.usual(network, width=self.width), self.thread_count) for method in methods]
            for network in self.networks
            for methods in [[*OURS[network], *peer_rows(network)]]
        ]

    def references(self, rows: Sequence[Row]) -> list[str]:
        """The rows of peers that a target names."""
        network = rows[0].job.work.network
        named = [
            name
            for target in self.targets()
            if target.over is not None and target.over.network == network
            for name in target.over.methods
        ]
        measured = {row.name for row in rows if row.error is None}
        return [name for name in dict.fromkeys(named) if name in measured] or super().references(rows)

    def targets(self) -> Sequence[Target]:
        """Ratios to peers."""
        return PEERS
