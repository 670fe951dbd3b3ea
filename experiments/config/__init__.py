"""What a run is to do: one frozen value, its flags, and what they may be."""

from experiments.config.config import (
    MAY_CHANGE,
    Config,
    ConfigError,
    DatasetName,
    differences,
    from_json,
    parse,
    to_json,
)

__all__ = ["MAY_CHANGE", "Config", "ConfigError", "DatasetName", "differences", "from_json", "parse", "to_json"]
