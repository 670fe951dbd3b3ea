"""From the command line to an exit code.

    0    trained
    1    the loss became infinite or not a number; the last results could not be written; or stdout was closed
    2    a flag, its value, or the combination is not possible; or the data set is not there
    130  interrupted by Ctrl-C; --resume goes on
    143  interrupted by SIGTERM; --resume goes on

Nothing but the lines of the epochs and, last, the summary as one JSON object goes to stdout.
"""

import json
import os
import signal
import sys
from collections.abc import Sequence

import safjax
from experiments.config import Config, ConfigError, parse
from experiments.data import DataUnavailable
from experiments.distribution.processes import join, leave, leave_if_several, writes
from experiments.storage.checkpoints import SaveFailed
from experiments.training.compiled import keep_compiled
from experiments.training.run import NonFiniteLoss, train


def main(default: Config, description: str | None, args: Sequence[str] | None = None) -> int:
    """Runs an experiment.

    Args:
      default: the experiment's own configuration.
      description: what `--help` says above the flags.
      args: the command line; None takes the program's.

    Returns:
      The exit code.
    """
    try:
        config = parse(default, description or "", args)
        safjax.keep_memory()
        keep_compiled(config.run.compiled)
        summary = train(join(config))
        if writes():
            print(json.dumps(summary), flush=True)
    except (ConfigError, DataUnavailable) as error:
        print(f"error: {error}", file=sys.stderr)
        return leave(2)
    except (NonFiniteLoss, SaveFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return leave(1)
    except BrokenPipeError:
        # Python would try once more to write, at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print("error: nobody reads stdout any more, so the run has stopped; --resume goes on", file=sys.stderr)
        return leave(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return leave(130)
    except Exception:
        leave_if_several()
        raise
    return 128 + signal.Signals[summary["signal"]] if summary["interrupted"] else 0
