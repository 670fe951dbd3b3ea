"""What a run comes to, in one JSON object."""

from typing import Any

from experiments.config import Config
from experiments.console.interrupt import Interrupt
from experiments.storage.no_workdir import NoWorkdir
from experiments.storage.workdir import Workdir


def summarise(
    config: Config,
    parameters: int,
    folder: Workdir | NoWorkdir,
    interrupt: Interrupt,
    seconds: float,
    baseline: float | None,
) -> dict[str, Any]:
    """The summary of a run.

    Its accuracies are those of the last epoch. Where training examples are held out, they choose another one: the first
    at which they were classified best, which `chosen_epoch` names, and `chosen_test_accuracy` is the test's after it.
    Without any, nothing is chosen.

    Args:
      parameters: how many numbers the net learns.
      seconds: of the whole run.
      baseline: a test accuracy to compare with, None without any.
    """
    training, records = config.training, folder.records
    last = records[-1] if records else {}
    chosen = folder.best_epoch if "held_out_accuracy" in last else None
    return {
        "method": training.method,
        "dataset": config.data.dataset,
        "test_accuracy": last.get("test_accuracy"),
        "test_loss": last.get("test_loss"),
        "train_accuracy": last.get("train_accuracy"),
        "train_loss": last.get("train_loss"),
        "chosen_epoch": chosen,
        "chosen_test_accuracy": None if chosen is None else records[chosen - 1]["test_accuracy"],
        "baseline_test_accuracy": baseline,
        "epochs": len(records),
        "steps": config.data.steps,
        "seed": training.seed,
        "parameters": parameters,
        "seconds": seconds,
        "examples_per_second": last.get("examples_per_second"),
        "interrupted": len(records) < training.epochs,
        "signal": interrupt.signal and interrupt.signal.name,
        "workdir": str(folder.path),
    }
