"""The flags of the benchmark."""

import dataclasses
import os
import sys
from pathlib import Path

from experiments.benchmark.ours import METHODS
from experiments.benchmark.peers import PEERS
from experiments.benchmark.work import BATCH_SIZES, STEPS, Network, Work
from safjax.rules import RULES


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure."""

    methods: tuple[str, ...] = tuple(RULES)
    """Rules by name, bptt_layerwise, bptt_remat, and rows of peers such as spikingjelly:bptt; the first one is what the
    others are compared with."""
    network: Network = "vgg"
    """The published VGG, shown images; dense layers 700-256-256-20, fed with random spikes; or plain convolutions
    64-128-pool-256-pool-10, shown images."""
    steps: int | None = None
    """Time steps T; None is 6 for images, 100 for dense."""
    batch_size: int | None = None
    """Examples a step; None is 16 for images, 64 for dense."""
    width: float = 1.0
    """Factor of all channels of vgg and conv, of the hidden neurons of dense."""
    image_size: int | None = None
    """Height and width of the images; None is 32."""
    repeats: int = 7
    """Timed turns of each row, after one that is not timed."""
    unrolled: bool = False
    """Also compile each of our rules without a loop, all T steps written out."""
    threads: int | None = None
    """Of every row; None is one for each core."""
    output: Path | None = None
    """Folder for rows.jsonl, table.md and chart.png."""

    @property
    def work(self) -> Work:
        """What every row does."""
        steps, batch_size = self.steps or STEPS[self.network], self.batch_size or BATCH_SIZES[self.network]
        return Work(self.network, steps, batch_size, self.width, self.image_size or 32)


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peer_rows(network: Network) -> list[str]:
    """The names of all rows of peers for a network."""
    return [f"{library}:{method}" for library, peer in PEERS.items() for method in peer.methods[network]]


def check(options: Options) -> None:
    """Exits with a message if a flag is not possible."""
    known = [*METHODS, *peer_rows(options.network)]
    unknown = set(options.methods) - set(known)
    if unknown:
        sys.exit(f"--methods: unknown {', '.join(sorted(unknown))}; known are {', '.join(known)}.")
    if not options.methods:
        sys.exit(f"--methods: none given; known are {', '.join(known)}.")
    if not options.width > 0:
        sys.exit(f"--width={options.width} is not possible: expected a number above 0.")
    for name in ("steps", "batch_size", "repeats", "threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            sys.exit(f"--{name.replace('_', '-')}={value} is not possible: expected a whole number, 1 or more.")
    size = options.image_size
    if size is not None and (options.network == "dense" or size < 8):
        sys.exit(f"--image-size={size} is not possible: expected 8 or more, and --network=vgg or conv.")
