"""Which neurons a rule is defined for."""

from typing import Any

from safjax.neurons import CurrentCell, LIFCell

_ANY = "train this net with bptt() or sltt(), which take any neuron that goes step by step"


def only_lif(cell: Any) -> str | None:
    """Rules that accumulate follow Σ λᵏ s, which is the neuron's whole memory for `LIFCell` without a floor only."""
    # Not isinstance: a cell derived from it may step otherwise.
    if type(cell) is not LIFCell:
        return (
            "sums spikes over time with the membrane's decay, which is the whole memory of LIF and IF neurons only; "
            f"use those, or {_ANY}"
        )
    if cell.floor is not None:
        return (
            "sums spikes over time, but a membrane with a floor forgets what lies below it, so no such sum follows it; "
            f"write floor=None, or {_ANY}"
        )
    return None


def only_closed_form(cell: Any) -> str | None:
    """The closed form is a scalar recurrence for each neuron."""
    if hasattr(cell, "fire_sequence") or type(cell) in (LIFCell, CurrentCell):
        return None
    return (
        "has its gradient in closed form for LIF, IF, PLIF and CurrentLIF only, whose memory is one number behind a "
        "linear filter; use those, or train this net with bptt(), whose gradient is the same where both are defined"
    )
