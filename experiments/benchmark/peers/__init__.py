"""Peer libraries: which there are, what each can do here, and whether it is installed.

All four of them install beside jax 0.10.2 and flax 0.12.8 on Python 3.11, with torch 2.13.0.
"""

import importlib.util
from collections.abc import Mapping
from typing import NamedTuple

from experiments.benchmark.work import Network


class Peer(NamedTuple):
    """A library.

    Attributes:
      methods: that have a row, for each network that it is measured on.
      needs: what must be installed.
      inference: the networks that it has a row "predict" for.
    """

    methods: Mapping[Network, tuple[str, ...]]
    needs: tuple[str, ...]
    inference: tuple[Network, ...] = ()


BOTH_MODES = ("bptt", "bptt_single")

PEERS = {
    "snntorch": Peer(
        dict.fromkeys(("dense", "conv", "pooled", "gesture", "recurrent"), ("bptt",)),
        ("snntorch", "torch"),
        ("dense", "conv", "pooled", "recurrent"),
    ),
    "spyx": Peer(
        dict.fromkeys(("dense", "conv", "pooled", "recurrent"), ("bptt",)), ("spyx",), ("dense", "pooled", "recurrent")
    ),
    "sinabs": Peer({"dense": ("bptt",)}, ("sinabs", "torch")),
    "spikingjelly": Peer(
        {
            "vgg": ("ottt_a", "ottt_o", "sltt", "bptt"),
            "dense": ("bptt",),
            "conv": ("bptt",),
            **dict.fromkeys(("pooled", "gesture", "recurrent", "spikformer"), BOTH_MODES),
        },
        ("spikingjelly", "torch"),
        ("vgg", "dense", "conv", "pooled", "recurrent", "spikformer"),
    ),
}
"""By its name, which is also that of the module here that has `prepare(work, method)`."""


def missing(library: str) -> str | None:
    """What to install for the rows of a peer; None if it is all there."""
    absent = [need for need in PEERS[library].needs if not installed(need)]
    if not absent:
        return None
    return f"{' and '.join(absent)} not installed: pip install -e '.[experiments,peers]'"


def installed(distribution: str) -> bool:
    """Whether it can be imported."""
    return importlib.util.find_spec(distribution) is not None
