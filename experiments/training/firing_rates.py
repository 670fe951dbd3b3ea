"""Layers that have stopped to tell anything: that hardly fire, or hardly ever do not."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.console.messages import warn

SILENT, SATURATED = 0.001, 0.99
"""Firing rates, spikes per neuron and step as the mean of an epoch, below and above which a layer is reported."""

LOUDER = "Try a lower --threshold, a --decay closer to 1, a wider --surrogate (arctan), or another --learning-rate."
CALMER = "Try a higher --threshold, a smaller --decay, or a smaller --learning-rate."


def warn_of_firing_rates(records: Sequence[Mapping[str, Any]]) -> None:
    """Warns of layers that were silent or saturated in the last of the epochs recorded, and not before."""
    before = records[-2]["rates"] if len(records) > 1 else {}
    for complaint in complaints(records[-1]["rates"], before):
        warn(f"epoch {records[-1]['epoch']}: {complaint}")


def complaints(rates: Mapping[str, float], before: Mapping[str, float]) -> Iterator[str]:
    """What to tell about the firing rates of an epoch, by layer; of a layer that was like this already, nothing more.

    Args:
      rates: of every layer in an epoch.
      before: in the epoch before; empty in the first.
    """
    silent = [layer for layer, rate in rates.items() if rate < SILENT]
    new = [layer for layer in silent if before.get(layer, 1.0) >= SILENT]
    if new and len(silent) == len(rates):
        yield f"no layer fires: each has less than {SILENT} spikes per neuron and step, so none learns. {LOUDER}"
        return
    for layer in new:
        yield (
            f"layer {layer} is silent: {rates[layer]:.5f} spikes per neuron and step, and hardly anything reaches "
            f"the layers behind it. {LOUDER}"
        )
    for layer, rate in rates.items():
        if rate > SATURATED >= before.get(layer, 0.0):
            yield f"layer {layer} is saturated: {rate:.4f} spikes per neuron and step. {CALMER}"
