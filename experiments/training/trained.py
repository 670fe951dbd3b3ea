"""What a run has left in its folder: its configuration, and the net with its parameters."""

import json
from pathlib import Path
from typing import Any, Literal

from flax import nnx

from experiments.config import Config, from_json
from experiments.data import Shape
from experiments.storage import checkpoints
from experiments.storage.arrays import from_arrays, variables
from experiments.training.networks import Net, build_net


def read_config(stored: dict[str, Any]) -> tuple[Config, Shape]:
    """The configuration of a run and the shape of its net, as `config.json` has them.

    Raises:
      KeyError: something is missing, or is none of theirs.
    """
    shape = {name: stored[name] for name in Shape._fields}
    config = from_json({name: value for name, value in stored.items() if name not in shape})
    return config, Shape(**{**shape, "input_shape": tuple(shape["input_shape"])})


def load_parameters(workdir: str | Path, which: Literal["latest", "best"] = "latest") -> Net:
    """The net of a run, with the parameters of its latest checkpoint, or of that with the best test accuracy.

    Raises:
      FileNotFoundError: there is no run in `workdir`, or it has saved no parameters.
      ConfigError: all its checkpoints are damaged.
    """
    path = Path(workdir).expanduser().absolute()
    stored = json.loads((path / "config.json").read_text())
    config, shape = read_config(stored)
    snapshot = checkpoints.latest(path / "checkpoints", ["net"])
    if snapshot is None:
        raise FileNotFoundError(f"{path} has no checkpoint")
    best = snapshot.values["best"]
    if which == "best" and best is not None:
        snapshot = checkpoints.read(path / "checkpoints", best, ["net"])
    net = build_net(config.net, shape, config.training.seed)
    nnx.update(net, from_arrays(variables(net), snapshot.net))
    return net
