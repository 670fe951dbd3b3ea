"""What a run is to do: one frozen value in four parts, their flags, and what they may be."""

from experiments.config.config import MAY_CHANGE, PART_OF, Config, differences, from_json, parse, to_json
from experiments.config.parts import ConfigError, Data, DatasetName, Net, Run, Training

__all__ = [
    "MAY_CHANGE",
    "PART_OF",
    "Config",
    "ConfigError",
    "Data",
    "DatasetName",
    "Net",
    "Run",
    "Training",
    "differences",
    "from_json",
    "parse",
    "to_json",
]
