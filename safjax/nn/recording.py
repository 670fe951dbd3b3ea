"""Checks of what is to be recorded, by users and by losses."""

from collections.abc import Mapping
from typing import Any

from safjax.losses import records_for
from safjax.rules import Rule


def check_record(record: Any) -> tuple[str, ...]:
    """The names of what is to be recorded.

    Raises:
      TypeError: they are no names.
    """
    if isinstance(record, str) or not all(isinstance(name, str) for name in record):
        raise TypeError(
            f"record={record!r}: expected a tuple of names, ('spikes',) or ('spikes', 'potential'); () records nothing."
        )
    return tuple(dict.fromkeys(record))


def refuse_unknown(record: tuple[str, ...], told: Mapping[str, tuple[str, ...]]) -> None:
    """Refuses what no layer can record.

    Args:
      record: the names asked for.
      told: the names that there are, by the layers' paths.

    Raises:
      ValueError: a name is in no layer.
    """
    known = {name for names in told.values() for name in names}
    unknown = [name for name in record if name not in known]
    if not unknown or (not told and unknown == ["spikes"]):
        return
    listed = "; ".join(f"'{path}': {', '.join(names)}" for path, names in told.items())
    of_sums = "" if unknown[0] != "current" else _NO_CURRENT
    raise ValueError(
        f"No layer of this net records '{unknown[0]}'. What there is: "
        f"{listed or 'nothing, since it has no spiking neurons'}.{of_sums} Neurons of one's own name what they record "
        "by a method of their cell, records(self, before, current, after, spikes), which returns "
        "{name: array of [B, ...]}."
    )


_NO_CURRENT = (
    " Rules that accumulate spikes (SAF, SR, IDE) know sums of currents over time only; a simulation without the state "
    "of such a rule, and all other rules, have the current of each step."
)


def refuse_loss(loss: Any, rule: Rule, stacked: tuple[str, ...], padded: bool) -> None:
    """Refuses a loss of records that have no gradient under the rule.

    Args:
      loss, rule: of the call.
      stacked: the paths of neurons that a map over layers has stacked.
      padded: whether members have lengths of their own.

    Raises:
      ValueError: the rule defines no gradient of a record; members cannot be told apart.
    """
    names = records_for(loss) or ()
    for name in names:
        if (reason := rule.propagation.unlearned(name)) is not None:
            raise ValueError(f"The loss asks for the record '{name}', but the rule '{rule.name}' {reason}.")
    if names and padded and stacked:
        raise ValueError(
            f"With lengths the loss is taken of each member by itself, but the layers stacked at '{stacked[0]}' record "
            "all members of all layers in one array. Write these layers one by one, or leave out lengths."
        )
