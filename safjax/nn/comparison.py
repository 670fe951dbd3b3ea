"""What `safjax.compare` returns: how like the gradients of rules are to one another, as values and as tables."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from safjax.nn.check import WIDTH, Report, Verdict
from safjax.nn.refusing import Reason


class Likeness(NamedTuple):
    """A gradient g beside a reference h.

    Attributes:
      cosine: g·h / (|g| |h|); NaN where one of the two is zero, which has no direction, or not finite.
      norm: |g|; NaN where g is not finite.
      reference_norm: |h|; NaN where h is not finite.
    """

    cosine: float
    norm: float
    reference_norm: float

    @property
    def ratio(self) -> float:
        """|g| / |h|; infinite where only h is zero, NaN where both are."""
        if self.reference_norm == 0:
            return math.inf if self.norm > 0 else math.nan
        return self.norm / self.reference_norm


def likeness(gradient: np.ndarray, reference: np.ndarray) -> Likeness:
    """A gradient beside a reference of the same shape, in float64."""
    norms = _norm(gradient), _norm(reference)
    if 0 in norms:
        return Likeness(math.nan, *norms)
    # Divided first: the product of small gradients is not to underflow.
    units = (np.ravel(_wide(a)) / norm for a, norm in zip((gradient, reference), norms, strict=True))
    return Likeness(_clipped(float(np.vdot(*units).real)), *norms)


def together(parts: Sequence[Likeness]) -> Likeness:
    """Of gradients that are made of such parts: cos = Σ cos_p (|g_p| / |g|) (|h_p| / |h|)."""
    norm, reference = (math.hypot(*(part[i] for part in parts)) for i in (1, 2))
    if 0 in (norm, reference):
        return Likeness(math.nan, norm, reference)
    told = [part for part in parts if 0 not in (part.norm, part.reference_norm)]
    cosine = math.fsum(part.cosine * (part.norm / norm) * (part.reference_norm / reference) for part in told)
    return Likeness(_clipped(cosine), norm, reference)


def _wide(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, complex if np.iscomplexobj(array) else float)


def _norm(array: np.ndarray) -> float:
    wide = _wide(array)
    largest = float(np.max(np.abs(wide), initial=0.0))
    if not math.isfinite(largest):
        return math.nan
    return largest and largest * float(np.linalg.norm(wide / largest))


def _clipped(cosine: float) -> float:
    return cosine if math.isnan(cosine) else min(1.0, max(-1.0, cosine))


class Cost(NamedTuple):
    """What a rule's gradient costs.

    Attributes:
      seconds: of one call, the median of the turns.
      temporary_bytes: memory beside arguments and results, as the compiler plans it; None where it does not tell.
      compile_seconds: of tracing and compiling; next to nothing for a program that an earlier call has compiled.
    """

    seconds: float
    temporary_bytes: int | None
    compile_seconds: float


@dataclass(frozen=True)
class Compared:
    """One rule on a net.

    Attributes:
      rule: its name.
      reasons: why it does not train the net: (path of the layer, sentence); none if it does.
      loss: the value that the rule gives; None where it does not train the net. Like the next two:
      together: {name of a reference: `Likeness` of the gradients of all parameters}.
      layers: {name of a reference: {path of a parameter: `Likeness`}}.
      cost: if it was asked for.
    """

    rule: str
    reasons: tuple[Reason, ...] = ()
    loss: float | None = None
    together: Mapping[str, Likeness] | None = None
    layers: Mapping[str, Mapping[str, Likeness]] | None = None
    cost: Cost | None = None

    @property
    def trains(self) -> bool:
        """Whether the rule trains the net."""
        return not self.reasons


@dataclass(frozen=True)
class Comparison(Mapping[str, Compared]):
    """Rules on a net: {name of the rule: `Compared`}. Printed, it is two tables, and one of those refused.

    Attributes:
      rows: of all rules.
      references: the names of the rules that they are compared with.
    """

    rows: tuple[Compared, ...]
    references: tuple[str, ...]

    def __getitem__(self, rule: str) -> Compared:
        return {row.rule: row for row in self.rows}[rule]

    def __iter__(self) -> Iterator[str]:
        return (row.rule for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def summary(self) -> str:
        """A table: loss, cosine and ratio of norms of all parameters' gradients, and the cost if it was measured."""
        named = ", ".join(f"({number}) {name}" for number, name in enumerate(self.references, 1))
        header = ["rule", "loss", *(f"{q} ({n + 1})" for n in range(len(self.references)) for q in ("cosine", "norm"))]
        trained = [row for row in self.rows if row.trains]
        measured = any(row.cost for row in trained)
        lines = [[*_summed(row, self.references), *(_costs(row.cost) if measured else [])] for row in trained]
        title = f"Gradients of all parameters beside those of {named}: cosine, and norm over norm."
        return f"{title}\n{_table([header + (['ms', 'MB', 'compile s'] if measured else []), *lines])}"

    def by_layer(self, quantity: str = "cosine", reference: str | None = None) -> str:
        """A table with a row for each parameter.

        Args:
          quantity: "cosine", or "ratio" of norms.
          reference: which rule's gradient is the other one; None takes the first.
        """
        beside = self.references[0] if reference is None else reference
        trained = {row.rule: row.layers[beside] for row in self.rows if row.layers is not None}
        paths = list(next(iter(trained.values()), {}))
        columns = [[name, *(_cell(layers[path], quantity) for path in paths)] for name, layers in trained.items()]
        what = "Cosine of" if quantity == "cosine" else "Norm over norm of"
        return "\n".join([f"{what} each parameter's gradient and that of {beside}.", *_in_blocks(paths, columns)])

    def __repr__(self) -> str:
        refused = tuple(Verdict(row.rule, row.reasons[:1]) for row in self.rows if not row.trains)
        tables = [self.summary(), self.by_layer(), *([repr(Report(refused))] if refused else [])]
        return "\n\n".join(tables)


def _cell(like: Likeness, quantity: str) -> str:
    if quantity == "ratio" and not math.isnan(like.ratio):
        return f"{like.ratio:.3g}"
    if quantity == "cosine" and not math.isnan(like.cosine):
        return f"{like.cosine:.3f}"
    # A gradient of zero is nothing to worry about, one that is not finite is.
    return "nan" if math.isnan(like.norm) or math.isnan(like.reference_norm) else "–"


def _summed(row: Compared, references: Sequence[str]) -> list[str]:
    beside = row.together or {}
    cells = [_cell(beside[name], quantity) for name in references for quantity in ("cosine", "ratio")]
    return [row.rule, f"{row.loss:.4g}", *cells]


def _costs(cost: Cost | None) -> list[str]:
    if cost is None:
        return []
    memory = "–" if cost.temporary_bytes is None else f"{cost.temporary_bytes / 1e6:.3g}"
    return [f"{1e3 * cost.seconds:.3g}", memory, f"{cost.compile_seconds:.2g}"]


def _in_blocks(paths: Sequence[str], columns: Sequence[Sequence[str]]) -> list[str]:
    """Tables below one another, each of as many columns as the page is wide."""
    left, blocks = ["parameter", *paths], []
    free = WIDTH - max(map(len, left))
    while columns:
        widths = np.cumsum([3 + max(map(len, column)) for column in columns])
        taken = max(1, int(np.searchsorted(widths, free, side="right")))
        blocks.append(_table([list(row) for row in zip(left, *columns[:taken], strict=True)]))
        columns = columns[taken:]
    return blocks


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first, *others = widths
    lines = (
        [f"{row[0]:{first}}", *(f"{cell:>{width}}" for cell, width in zip(row[1:], others, strict=True))]
        for row in rows
    )
    return "\n".join(" | ".join(line) for line in lines)
