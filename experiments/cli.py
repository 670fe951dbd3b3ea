"""From the command line to an exit code.

    0    trained
    1    the loss became infinite or not a number
    2    a flag, its value, or the combination is not possible; or the data set is not there
    130  interrupted by Ctrl-C

Nothing but the lines of the epochs and, last, the summary as one JSON object goes to stdout.
"""

import json
import sys
from collections.abc import Sequence

from experiments.config import Config, ConfigError, parse
from experiments.data import DataUnavailable
from experiments.trainer import NonFiniteLoss, train


def main(default: Config, description: str | None, args: Sequence[str] | None = None) -> int:
    """Runs an experiment.

    Args:
      default: the experiment's own configuration.
      description: what `--help` says above the flags.
      args: the command line; None takes the program's.

    Returns:
      The exit code.
    """
    config = parse(default, description or "", args)
    try:
        summary = train(config)
    except (ConfigError, DataUnavailable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except NonFiniteLoss as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(json.dumps(summary), flush=True)
    return 130 if summary["interrupted"] else 0
