"""What was measured, beside what the compiler foretold, in Markdown."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import safjax
from experiments.benchmark.ours import net_of, step_of
from experiments.benchmark.report import duration, markdown
from experiments.benchmark.work import Work
from experiments.device.runs import Found, Proofs
from safjax.aot import ASSUMPTION, CompilerMissing, Cost
from safjax.aot.cost import LAUNCH

HEADS = (
    "rule",
    "T",
    "step",
    "temporary MB",
    "foretold",
    "compile s",
    "roofline",
    "starting kernels",
    "step ÷ foretold",
)

Key = tuple[str, int]
"""Rule and T."""


def foretold(
    device: str | None, rows: Sequence[dict[str, Any]], left: Callable[[], float], say: Callable[[str], None]
) -> dict[Key, Cost]:
    """The costs of what was measured, as the compiler sees a device of this name, as far as the time goes."""
    costs: dict[Key, Cost] = {}
    for row in rows if device is not None else ():
        if row["error"] is not None or left() < 30:
            continue
        try:
            costs[row["method"], row["steps"]] = _cost(row, device or "")
        except (CompilerMissing, RuntimeError, ValueError) as error:
            say(f"{row['row']}, T = {row['steps']}: not foretold: {error}".partition("\n")[0])
    return costs


def _cost(row: dict[str, Any], device: str) -> Cost:
    work = Work(**{name: row[name] for name in Work.__dataclass_fields__})
    step, method = step_of(work, row["method"]), row["method"]
    x, labels = jax.eval_shape(lambda: tuple(map(jnp.asarray, work.batch())))
    return safjax.cost(step, nnx.eval_shape(lambda: net_of(work, method)), x, labels, device=device)


def report(found: Found, tested: Proofs, rows: Sequence[dict[str, Any]], costs: dict[Key, Cost], plan: str) -> str:
    """The whole page."""
    many = f", {found.devices} of them; one is used" if found.devices > 1 else ""
    parts = [f"# {found.kind}{many}", f"jax {jax.__version__}.", "## Proofs", _told(tested)]
    if rows:
        parts += ["## The benchmark `rules`", _subject(rows), markdown(HEADS, [_cells(row, costs) for row in rows])]
        parts.append(_notes(found, costs))
    return "\n\n".join([*parts, f"Made by `python -m experiments.device`, which runs\n\n```text\n{plan}\n```"]) + "\n"


def _told(tested: Proofs) -> str:
    told = f"{tested.passed} tests passed, {len(tested.failed)} failed."
    told += "" if tested.ended else " There was no time for the others."
    return "\n".join([told, *(f"- failed: `{name}`" for name in tested.failed)])


def _subject(rows: Sequence[dict[str, Any]]) -> str:
    row = rows[0]
    size = f"{row['image_size']}×{row['image_size']}"
    return f"{row['network']}, {size}, batch {row['batch_size']}, width {row['width']:g}, float32."


def _cells(row: dict[str, Any], costs: dict[Key, Cost]) -> list[str]:
    name, steps = row["row"], str(row["steps"])
    if row["error"] is not None:
        return [name, steps, f"failed: {row['error']}", *[""] * (len(HEADS) - 3)]
    cost = costs.get((row["method"], row["steps"]))
    temporary = row["temp_bytes"]
    measured = [
        duration(row["median"]),
        "–" if temporary is None else f"{temporary / 1e6:,.0f}",
    ]
    compiled = f"{row['compile_seconds']:.0f}"
    if cost is None:
        return [name, steps, *measured, "–", compiled, "–", "–", "–"]
    least = cost.seconds + cost.launches
    return [
        name,
        steps,
        *measured,
        f"{cost.memory.temporary / 1e6:,.0f}",
        compiled,
        duration(cost.seconds),
        duration(cost.launches) if cost.launches else "–",
        f"{row['median'] / least:.1f}",
    ]


def _notes(found: Found, costs: dict[Key, Cost]) -> str:
    if not costs:
        known = "its compiler is not installed" if found.known else "it is not among the devices of safjax.cost"
        return f"Nothing was foretold: {known}, or there was no time."
    return (
        f"Steps: medians. Temporary memory: of the compiled program; foretold: as compiled for a {found.known} that "
        f"need not be there. {ASSUMPTION} Starting kernels: {1e6 * LAUNCH:.0f} µs each on a GPU. The last column is "
        "the step over roofline and starts together."
    )
