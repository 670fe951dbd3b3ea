"""The folder of a run: what was asked for, what came out, and the trained parameters.

    config.json         the configuration, with every default written out, and the shape of the data
    metrics.jsonl       one line an epoch
    parameters/         the parameters after the last epoch, or after the batch at which a run was interrupted (orbax)
    curves.png          loss and accuracy over the epochs
    firing_rates.png    firing rate of each layer over the epochs
    summary.json        what the run printed last

A folder holds one run and is never written over: one that is given must be new or empty, and the default one takes the
first name that is free.
"""

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx

from experiments.config import Config, ConfigError, from_json, to_json
from experiments.networks import Net, build_net


class Workdir:
    """An open folder of a run; leaving its context draws the figures and waits until everything is written.

    Attributes:
      path: the folder.
      records: what has been appended.
    """

    def __init__(self, path: Path, title: str):
        self.path, self._title = path, title
        self.records: list[dict[str, Any]] = []
        self._checkpointer = ocp.StandardCheckpointer()

    def __enter__(self) -> "Workdir":
        return self

    def __exit__(self, *exception: object) -> None:
        self._checkpointer.close()
        if self.records:
            # matplotlib takes a second to import, and only this needs it.
            from experiments import plots

            plots.draw_curves(self.records, self._title, self.path / "curves.png")
            plots.draw_firing_rates(self.records, self._title, self.path / "firing_rates.png")

    def append(self, record: dict[str, Any]) -> None:
        """Adds a line to `metrics.jsonl`."""
        self.records.append(record)
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")

    def save_parameters(self, net: nnx.Module) -> None:
        """Replaces the saved parameters by those of `net`, in the background."""
        # Copies, since the next training step takes over the buffers.
        copies = jax.tree.map(lambda leaf: np.array(leaf, copy=True), _parameters(net))
        self._checkpointer.save(self.path / "parameters", copies, force=True)

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Writes `summary.json`."""
        (self.path / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")


def create(config: Config, input_shape: tuple[int, ...], num_classes: int) -> Workdir:
    """Makes the folder of a run and writes its configuration there.

    Raises:
      ConfigError: the folder holds something already, or cannot be written.
    """
    try:
        path = _numbered(config) if config.workdir is None else _given(config.workdir)
        resolved = dataclasses.replace(config, workdir=str(path))
        stored = {**to_json(resolved), "input_shape": list(input_shape), "num_classes": num_classes}
        (path / "config.json").write_text(json.dumps(stored, indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"the work directory cannot be written: {error}. Give another one with --workdir.") from error
    return Workdir(path, f"{config.dataset}, {config.method}")


def _given(workdir: str) -> Path:
    path = Path(workdir).expanduser().absolute()
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        raise ConfigError(
            f"--workdir={workdir} is not empty, and results are never written over. Give a folder that is new or empty."
        )
    return path


def _numbered(config: Config) -> Path:
    name = f"{config.dataset}-{config.method}-{config.seed}"
    for number in itertools.count(1):
        path = Path("runs").absolute() / (name if number == 1 else f"{name}-{number}")
        try:
            # Making it is claiming it: of two runs that start together, one gets the next number.
            path.mkdir(parents=True)
            break
        except FileExistsError:
            continue
    return path


def load_parameters(workdir: str | Path) -> Net:
    """The net of a run, with the parameters that the run left.

    Raises:
      FileNotFoundError: there is no run in `workdir`, or it has saved no parameters.
    """
    path = Path(workdir).expanduser().absolute()
    stored = json.loads((path / "config.json").read_text())
    input_shape, num_classes = tuple(stored.pop("input_shape")), stored.pop("num_classes")
    net = build_net(from_json(stored), input_shape, num_classes)
    with ocp.StandardCheckpointer() as checkpointer:
        like = jax.tree.map(np.asarray, _parameters(net))
        parameters = checkpointer.restore(path / "parameters", like)
    nnx.update(net, nnx.State(jax.tree.map(jax.numpy.asarray, parameters)))
    return net


def _parameters(net: nnx.Module) -> dict[str, Any]:
    return nnx.to_pure_dict(nnx.state(net, nnx.Param))
