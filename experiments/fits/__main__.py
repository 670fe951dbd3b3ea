"""Whether a run fits on an accelerator, and what a training step costs there, without the accelerator.

    python -m experiments.fits cifar10 --method=saf_f --batch-size=512 --device=h100
    python -m experiments.fits cifar10 --method=all --device=v5e --no-largest
    python -m experiments.fits shd --method=exodus --device=l4 --devices=4

XLA compiles the step for the device, which takes 5 seconds to some minutes a program, and is read. For GPUs
`pip install 'safjax[aot-cuda]'`, for TPUs `aot-tpu`. All flags of the experiment may be given. What was compiled is
kept in the folder of --compiled. stdout is a Markdown table.

    0    all that was asked for is in the table, whether it fits or not
    2    a flag, its value or the combination is not possible, the data set must be looked at and is not there, or the
         compiler is not installed
"""

import contextlib
import dataclasses
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import jax
import tyro

from experiments.config import Config, ConfigError, DatasetName, parse
from experiments.config.settings import settings
from experiments.console.messages import say
from experiments.data import DataUnavailable
from experiments.fits.largest import Search, Trial
from experiments.fits.shapes import shape_of
from experiments.fits.steps import Step, step_of
from experiments.fits.table import Row, notes, table
from safjax.aot import DEVICES, CompilationFailed, CompilerMissing, Cost, compile_for, cost_of
from safjax.rules import RULES

Key = tuple[str, int]
"""Method and batch."""


@dataclasses.dataclass(frozen=True)
class Options:
    """On what; further flags are the experiment's.

    Raises:
      ConfigError: a share that is none.
    """

    experiment: tyro.conf.Positional[DatasetName]
    """Experiment."""
    device: Literal[tuple(DEVICES)] = "h100"  # type: ignore[valid-type]
    """Accelerator; --devices=N are so many of them."""
    method: Literal[("all", *RULES)] | None = None  # type: ignore[valid-type]
    """Learning rule; None is the experiment's."""
    largest: bool = True
    """Look for the largest batch that fits, which compiles each rule two times more or so."""
    share: float | None = None
    """Share of the memory that JAX may take, XLA_PYTHON_CLIENT_MEM_FRACTION; None is 0.75 of a GPU's, its default, and
    0.97 of a TPU's."""

    def __post_init__(self):
        if self.share is not None and not 0 < self.share <= 1:
            raise ConfigError(f"--share={self.share} is not possible: expected a number above 0, 1 or less.")

    @property
    def limit(self) -> float:
        """Bytes that there are."""
        device = DEVICES[self.device]
        return device.memory * (self.share or (0.97 if device.gpu is None else 0.75))


class Costs:
    """The costs of steps, of each method and batch; compiled when they are asked for."""

    def __init__(self, options: Options, config: Config):
        self._options, self._config = options, config
        self._count = config.run.devices or 1
        self._shape, self._shown = shape_of(config.data, config.run.data_dir)
        self._known: dict[Key, Cost | str] = {}
        self.steps: dict[Key, Step] = {}

    def __getitem__(self, key: Key) -> Cost | str:
        return self._known[key]

    def compile(self, keys: list[Key]) -> None:
        """Those that are not known yet; the words of the compiler where it refuses."""
        new = [key for key in keys if key not in self._known]
        for method, batch in new:
            config = self._config.changed(method=method, batch_size=batch)
            self.steps[method, batch] = step_of(config, self._shape, self._shown, self._count)
        self._known |= {key: words for key in new if (words := self._refused(key)) is not None}
        new = [key for key in new if key not in self._known]
        calls = {f"{method}, batch {batch}": self.steps[method, batch].call for method, batch in new}
        cache = self._config.run.compiled
        programs = compile_for(
            DEVICES[self._options.device],
            calls,
            cache=None if cache is None else str(Path(cache) / "aot"),
            announce=say,
        )
        for key, program in zip(new, programs.values(), strict=True):
            self._known[key] = _words(program) if isinstance(program, CompilationFailed) else cost_of(program)

    def _refused(self, key: Key) -> str | None:
        """Why the rule does not train the net; None if it does."""
        call = self.steps[key].call
        try:
            call.jitted.trace(*call.arguments)
        except ValueError as error:
            return f"not trained by this rule: {error}".partition(". ")[0]
        return None


def rows(options: Options, config: Config, methods: Sequence[str]) -> list[Row]:
    """A row for each method."""
    costs, size, count = Costs(options, config), config.data.batch_size, config.run.devices or 1
    batches = [size, 2 * size] if options.largest else [size]
    costs.compile([(method, batch) for method in methods for batch in batches])
    searches = {
        method: Search(options.limit, count, [_trial(costs, method, batch) for batch in batches])
        for method in methods
        if options.largest
    }
    while wanted := {method: batch for method, search in searches.items() if (batch := search.next) is not None}:
        costs.compile(list(wanted.items()))
        for method, batch in wanted.items():
            searches[method].add(_trial(costs, method, batch))
    found = {method: search.largest for method, search in searches.items()}
    steps = {method: costs.steps[method, size] for method in methods}
    return [Row(m, costs[m, size], steps[m].net, steps[m].optimizer, found.get(m)) for m in methods]


def _words(error: CompilationFailed) -> str:
    """The compiler's first words."""
    return str(error).split(": ", 1)[-1].partition("\n")[0][:200]


def _trial(costs: Costs, method: str, batch: int) -> Trial:
    cost = costs[method, batch]
    return Trial(batch, None if isinstance(cost, str) else cost.memory.total)


def main(args: Sequence[str] | None = None) -> int:
    """Compiles and tabulates.

    Args:
      args: the command line; None takes the program's.

    Returns:
      The exit code.
    """
    try:
        options, rest = tyro.cli(
            Options, args=args, prog="python -m experiments.fits", description=__doc__, return_unknown_args=True
        )
        experiment = importlib.import_module(f"experiments.{options.experiment}")
        config = parse(experiment.CONFIG, experiment.__doc__ or "", rest)
        asked = options.method or config.training.method
        methods = list(RULES) if asked == "all" else [asked]
        _hosts(config.run.devices or 1)
        with settings(config.net.precision, config.run.quiet):
            found = rows(options, config, methods)
    except (ConfigError, DataUnavailable, CompilerMissing) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    device, count, data = DEVICES[options.device], config.run.devices or 1, config.data
    subject = (
        f"{data.dataset}, T = {data.steps}, batch {data.batch_size}, {config.net.precision}, jax {jax.__version__}"
    )
    print(f"{table(found, options.limit)}\n\n{notes(device, count, options.limit, subject)}", flush=True)
    return 0


def _hosts(count: int) -> None:
    """Before JAX has begun: no accelerator is touched, and the host stands for as many devices as are asked for.

    Raises:
      ConfigError: JAX has begun, with fewer.
    """
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", count)
    if (there := len(jax.devices("cpu"))) < count:
        raise ConfigError(f"--devices={count} is more than the {there} devices with which JAX has begun here.")


if __name__ == "__main__":
    sys.exit(main())
