"""What processes other than the first have in place of the folder of a run."""

from typing import Any

from experiments.storage.checkpoints import Snapshot


class NoWorkdir:
    """Has the attributes and methods of `experiments.storage.workdir.Workdir`, and writes nothing.

    Attributes:
      records: what has been appended.
    """

    path = None
    best_epoch = None

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def __enter__(self) -> "NoWorkdir":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def append(self, record: dict[str, Any]) -> None:
        """Keeps a record."""
        self.records.append(record)

    def due(self, step: int) -> bool:
        """Never: the first process saves."""
        return False

    def save(self, snapshot: Snapshot) -> None:
        """Does nothing."""

    def restore(self) -> None:
        """Nothing; the first process tells what it restores."""

    def finish(self, summary: dict[str, Any]) -> None:
        """Does nothing."""
