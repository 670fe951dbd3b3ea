"""What is to be reached, as data, and whether it was."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from experiments.benchmark.peers import PEERS as LIBRARIES
from experiments.benchmark.report import markdown
from experiments.benchmark.rows import INFERENCE, STREAM, Row
from experiments.benchmark.work import STEPS, Network
from safjax.rules import RULES
from safjax.schedules import LayerByLayer, WholeSequence

QUANTITIES: dict[str, Callable[[Row], float | None]] = {
    "step time": lambda row: row.median,
    "temp memory": lambda row: row.temp_bytes,
    "compile time": lambda row: row.compile_seconds,
    "share of product": lambda row: row.share,
    "images/s": lambda row: row.rate,
}

LARGER_IS_BETTER = ("share of product", "images/s")


class Place(NamedTuple):
    """Where a value stands: of several methods the best one's counts."""

    network: Network
    steps: int
    methods: tuple[str, ...]


class Target(NamedTuple):
    """A limit of a quantity, or of its ratio to that of other rows.

    Attributes:
      quantity: of `QUANTITIES`.
      of: rows whose value it is.
      limit: at most, or where larger is better at least.
      over: rows by whose value it is divided.
    """

    quantity: str
    of: Place
    limit: float
    over: Place | None = None

    @property
    def at_least(self) -> bool:
        """Whether larger is better."""
        return self.quantity in LARGER_IS_BETTER


def _vgg(*methods: str, steps: int = STEPS["vgg"]) -> Place:
    return Place("vgg", steps, methods)


def _dense(*methods: str) -> Place:
    return Place("dense", STEPS["dense"], methods)


def _conv(*methods: str) -> Place:
    return Place("conv", STEPS["conv"], methods)


BPTT = ("bptt", "bptt_layerwise", "exodus")  # one gradient
SPIKINGJELLY = ("spikingjelly:bptt", "spikingjelly:bptt_single")


def _small(network: Network, *peers: str) -> Target:
    """The fastest form of our gradient takes at most 0.8 of the time of the fastest peer."""
    steps = STEPS[network]
    ours = BPTT[:1] if network == "recurrent" else BPTT
    return Target("step time", Place(network, steps, ours), 0.80, Place(network, steps, peers))


PEERS = (
    Target("step time", _vgg("saf_f"), 0.22, _vgg("spikingjelly:ottt_a")),
    Target("step time", _vgg("ottt_a"), 0.60, _vgg("spikingjelly:ottt_a")),
    Target("step time", _vgg("saf_e"), 0.55, _vgg("spikingjelly:ottt_o")),
    Target("step time", _vgg("sltt"), 0.85, _vgg("spikingjelly:sltt")),
    Target("step time", _vgg(*BPTT), 0.85, _vgg("spikingjelly:bptt")),
    Target("step time", _dense(*BPTT), 0.80, _dense("spyx:bptt")),
    Target("step time", _conv(*BPTT), 0.05, _conv("spyx:bptt")),
    Target("step time", _conv(*BPTT), 0.90, _conv("snntorch:bptt")),
    Target("step time", _conv("saf_f"), 0.50, _conv("snntorch:bptt")),
    _small("pooled", "snntorch:bptt", "spyx:bptt", *SPIKINGJELLY),
    _small("gesture", "snntorch:bptt", *SPIKINGJELLY),
    _small("recurrent", "snntorch:bptt", "spyx:bptt", *SPIKINGJELLY),
)
"""Of ours to peers."""

PAPER = (
    Target("step time", _vgg("saf_f"), 0.45, _vgg("ottt_a")),
    Target("step time", _vgg("saf_f", steps=32), 0.36, _vgg("ottt_a", steps=32)),
    Target("step time", _vgg("saf_e"), 0.90, _vgg("ottt_o")),
    Target("step time", _vgg("saf_e", steps=32), 0.90, _vgg("ottt_o", steps=32)),
    Target("temp memory", _vgg("saf_f"), 0.62, _vgg("ottt_a")),
    Target("temp memory", _vgg("saf_f", steps=32), 0.62, _vgg("ottt_a", steps=32)),
    Target("temp memory", _vgg("saf_e"), 0.90, _vgg("ottt_o")),
    Target("temp memory", _vgg("saf_e", steps=32), 0.90, _vgg("ottt_o", steps=32)),
)
"""Of SAF to OTTT."""

SHARES = tuple(Target("share of product", _vgg(name), 0.70 if name == "saf_f" else 0.60) for name in RULES)
"""Of the machine's matrix product."""

ONLINE = tuple(name for name, rule in RULES.items() if not isinstance(rule().schedule, WholeSequence | LayerByLayer))
"""Rules whose memory does not grow with time."""


def flat(method: str, network: Network, few: int, many: int) -> list[Target]:
    """An online rule keeps its memory, and its compile time, at T = `many` as at `few`."""
    of, over = Place(network, many, (method,)), Place(network, few, (method,))
    return [Target("temp memory", of, 1.02, over), Target("compile time", of, 1.2, over)]


def fed(source: str, methods: tuple[str, ...], network: Network) -> Target:
    """A source of images has five times the rate of the fastest training step."""
    steps = STEPS[network]
    return Target("images/s", Place(network, steps, (source,)), 5.0, Place(network, steps, methods))


def streamed(method: str, steps: int) -> Target:
    """Steps one by one take not much longer than one call over all of them."""
    return Target("step time", Place("dense", steps, (f"{STREAM}:{method}",)), 1.3, Place("dense", steps, (method,)))


def inferred(network: Network, steps: int) -> list[Target]:
    """A call is faster than any peer's, and its steps one by one take not much longer."""
    call, stream = (Place(network, steps, (f"{INFERENCE}:{name}",)) for name in ("predict", "stream"))
    peers = [
        Place(network, steps, (f"{name}:predict",)) for name, peer in LIBRARIES.items() if network in peer.inference
    ]
    return [*(Target("step time", call, 1.0, peer) for peer in peers), Target("step time", stream, 1.3, call)]


def target_table(targets: Sequence[Target], rows: Sequence[Row]) -> str:
    """In Markdown: each target of whose rows there are some, the value reached, and whether it is met."""
    lines = [_line(target, rows) for target in targets if _asked(target, rows)]
    return markdown(["target", "limit", "reached", "met"], lines) if lines else ""


def _asked(target: Target, rows: Sequence[Row]) -> bool:
    return all(place is None or _rows(place, rows) for place in (target.of, target.over))


def _rows(place: Place, rows: Sequence[Row]) -> list[Row]:
    return [
        row for row in rows if (row.job.work.network, row.job.work.steps) == place[:2] and row.name in place.methods
    ]


def _line(target: Target, rows: Sequence[Row]) -> list[str]:
    limit = f"{'≥' if target.at_least else '≤'} {target.limit:.2f}"
    of, over = _best(target, target.of, rows), _best(target, target.over, rows)
    if of is None or (target.over is not None and over is None):
        return [_title(target), limit, "–", "not measured"]
    value, name = of
    reached = value if over is None else value / over[0]
    met = reached >= target.limit if target.at_least else reached <= target.limit
    which = f" ({name})" if len(target.of.methods) > 1 else ""
    return [_title(target), limit, f"{reached:.2f}{which}", "yes" if met else "no"]


def _best(target: Target, place: Place | None, rows: Sequence[Row]) -> tuple[float, str] | None:
    measured = [row for row in _rows(place, rows) if row.error is None] if place is not None else []
    values = [(value, row.name) for row in measured if (value := QUANTITIES[target.quantity](row)) is not None]
    return (max if target.at_least else min)(values, default=None)


def _title(target: Target) -> str:
    of, over = target.of, target.over
    what = f"{target.quantity} of {' or '.join(of.methods)}"
    if over is None:
        return f"{what}, {of.network}, T = {of.steps}"
    if over.steps != of.steps:
        return f"{what}, {of.network}, T = {of.steps} ÷ T = {over.steps}"
    return f"{what} ÷ {' or '.join(over.methods)}, {of.network}, T = {of.steps}"
