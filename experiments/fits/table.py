"""What was found out, in Markdown."""

from collections.abc import Sequence
from typing import NamedTuple

from safjax.aot import ASSUMPTION, Cost, Device
from safjax.aot.cost import LAUNCH


class Row(NamedTuple):
    """What is said of one rule.

    Attributes:
      method: its name.
      cost: of its step; a sentence where there is none.
      net, optimizer: bytes that stay from step to step.
      largest: batch that fits; None if it was not looked for.
    """

    method: str
    cost: Cost | str
    net: int
    optimizer: int
    largest: int | None


HEADS = (
    "method",
    "fits",
    "memory",
    "net",
    "optimizer",
    "batch",
    "temporary",
    "largest batch",
    "kernels",
    "moved",
    "products",
    "roofline",
    "starting kernels",
    "exchanges",
)


def table(rows: Sequence[Row], limit: float) -> str:
    """A line a rule."""
    lines = [HEADS, ("---",) * len(HEADS), *(_cells(row, limit) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def notes(device: Device, count: int, limit: float, subject: str) -> str:
    """What the table is of, and what it assumes."""
    share = f"{limit / device.memory:.0%}"
    many = f", of which {count} divide each batch; all figures are of one" if count > 1 else ""
    return "\n".join(
        [
            f"{device.title} as compiled{many}. {subject}.",
            f"Memory: {device.memory / 1e9:.1f} GB, of which JAX takes {share} (--share); the data set, batches read "
            "ahead and the workspace of algorithms come on top. Net and optimizer stay from step to step.",
            f"{ASSUMPTION} Products of float32: {device.float32 / 1e12:.0f} T operations a second, of bfloat16 "
            f"{device.bfloat16 / 1e12:.0f}; {device.bandwidth / 1e12:.2f} TB/s.",
            *([f"Starting kernels: {1e6 * LAUNCH:.0f} µs each."] if device.gpu else []),
            "≤: loops that may end sooner, and branches, counted in full.",
        ]
    )


def _cells(row: Row, limit: float) -> tuple[str, ...]:
    largest = "–" if row.largest is None else f"{row.largest:,}"
    if isinstance(row.cost, str):
        words = row.cost.replace("|", "/")
        return row.method, f"no: {words}", *("–" for _ in HEADS[2:7]), largest, *("–" for _ in HEADS[8:])
    cost, most = row.cost, "≤ " if row.cost.at_most else ""
    memory = cost.memory
    batch = max(memory.arguments - row.net - row.optimizer, 0)
    return (
        row.method,
        "yes" if memory.total <= limit else "no",
        _size(memory.total),
        _size(row.net),
        _size(row.optimizer),
        _size(batch),
        _size(memory.temporary),
        largest,
        f"{most}{cost.kernels:,}",
        f"{most}{_size(cost.bytes)}",
        f"{most}{cost.operations / 1e12:.3g} T",
        f"{most}{1e3 * cost.seconds:.3g} ms",
        f"{most}{1e3 * cost.launches:.3g} ms" if cost.launches else "–",
        f"{cost.exchanges:,} of {_size(cost.exchanged)}" if cost.exchanges else "–",
    )


def _size(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"
