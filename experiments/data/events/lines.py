"""What is said of recordings before a net is trained on them."""

from collections.abc import Sequence

from safjax.data import Split


def of_bins(steps: int, duration: float, shape: Sequence[int], clip: int | None) -> str:
    """T, the length of a bin and the time that all cover; `duration` in µs."""
    most = "" if clip is None else f" up to {clip}"
    return (
        f"T = {steps} bins of {duration / 1000:.4g} ms, {steps * duration / 1e6:.4g} s of each recording; "
        f"counts{most} in {' × '.join(map(str, shape))}"
    )


def of_splits(train: Split, test: Split, rule: str) -> str:
    """How many recordings there are, how they were divided, and what was lost."""
    return (
        f"{len(train.labels):,} recordings for training and {len(test.labels):,} for the test ({rule}); "
        f"{train.dropped:,} and {test.dropped:,} of their events lie outside all bins"
    )


def of_validation(valid: Split) -> str:
    """How many recordings are published to choose the epoch by."""
    return f"{len(valid.labels):,} recordings published as valid choose the epoch; {valid.dropped:,} events are lost"


def memory(train: Split, test: Split, where: str = "in memory") -> str:
    """The size of all counts."""
    return f"{(train.frames.nbytes + test.frames.nbytes) / 1e6:,.0f} MB of counts {where}"
