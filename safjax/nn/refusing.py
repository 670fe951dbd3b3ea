"""Why a rule cannot train a net: the first reason is raised, or all of them are collected."""

from typing import NamedTuple, NoReturn

from safjax.nn.states import join


class Reason(NamedTuple):
    """Why a rule does not train a net.

    Attributes:
      path: of the layer that is in the way; "the net itself" where it is no single one.
      sentence: what is wrong about it under this rule, and what to write instead.
    """

    path: str
    sentence: str


class Refusals:
    """What is refused while a net meets a rule.

    A layer says `refuse` and then goes on with something harmless of the right shape, so that what else is wrong about
    the net is found as well.

    Args:
      collecting: collect the reasons; else the first one is raised.
    """

    def __init__(self, collecting: bool = False) -> None:
        self.collecting = collecting
        self.raised: ValueError | None = None
        """The refusal that was raised first, to be told from errors of other kinds."""
        self._found: dict[Reason, None] = {}

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Those found so far, by their layers, each once: a net is run several times while it is looked at."""
        return tuple(sorted(self._found, key=lambda reason: _in_order(reason.path)))

    def refuse(self, path: str, sentence: str) -> None:
        """Notes that the layer at `path` is in the way.

        Raises:
          ValueError: reasons are not collected.
        """
        self.note(path, sentence)
        if not self.collecting:
            self._raise(sentence)

    def stop(self, path: str, sentence: str) -> NoReturn:
        """As `refuse`, where nothing can be gone on with.

        Raises:
          ValueError: always.
        """
        self.note(path, sentence)
        self._raise(sentence)

    def end(self) -> NoReturn:
        """Where nothing can be gone on with, for a reason that is noted already.

        Raises:
          ValueError: always.
        """
        self._raise("; ".join(reason.sentence for reason in self.reasons))

    def note(self, path: str, sentence: str) -> None:
        """Adds a reason."""
        self._found[Reason(path, sentence)] = None

    def _raise(self, sentence: str) -> NoReturn:
        error = ValueError(sentence)
        self.raised = self.raised or error
        raise error


def _in_order(path: str) -> list[tuple[bool, int, str]]:
    """The net before its layers, and the tenth layer behind the second."""
    parts = [] if path == join(()) else path.split(".")
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]
