"""The published rule of spike times, which trains no net of LIF neurons and is in no table of such."""

import math
from numbers import Real

from safjax.rules.rule import Rule
from safjax.rules.spike_times import SpikeTimePropagation
from safjax.schedules import LayerByLayer


def eventprop(*, slowest: float = 0.01) -> Rule:
    """Gradients of spike times, for nets of `CurrentLIF`, layer by layer. Memory O(T).

        p[t] = λ p[t+1],  where a spike is  p[t] = (u̇⁺ λ p[t+1] − ġ[t]) / u̇⁻,   q[t] = α q[t+1] + c p[t],   dL/dI = q

    with g = dL/ds, its slope in time ġ, and the membrane's slope u̇ before and after the spike: nothing is smoothed, and
    no surrogate is used. As steps of time become shorter it tends to the exact gradient of the spike times of the
    time-continuous net, with an error in proportion to the step: in a net of two layers with time constants of 10 and
    4, 0.2 % for steps of 0.001 and 2 % for steps of 0.01. With steps not much shorter than time constants it is another
    gradient; `exodus` or `bptt` fit better there. What it does not see are spikes that appear or vanish, before which
    u̇⁻ becomes 0 and the gradient infinite; silent neurons learn nothing, so begin with weights at which all fire.

    The loss tells what the time of a spike is worth, by how dL/ds[t] changes with t: SequenceLoss(lambda s, *targets:
    jnp.sum(s * times)) is the sum of all spike times, times[T, 1, 1]. That of an output that jumps at a spike is exact
    as far as it is quadratic there. It is not in `RULES`, the rules that train nets of LIF neurons.

    Wunderlich & Pehle, "Event-based backpropagation can compute exact gradients for spiking neural networks", 2021.

    Args:
      slowest: slopes u̇⁻ below this part of θ / τ_m are taken for it.

    Raises:
      ValueError: `slowest` is not a positive number.
    """
    if isinstance(slowest, bool) or not isinstance(slowest, Real) or not 0 < slowest < math.inf:
        raise ValueError(
            f"eventprop(slowest={slowest!r}): expected a positive number, the least slope of a membrane at its "
            "threshold, in thresholds per time constant, that the gradient divides by."
        )
    return Rule("eventprop", SpikeTimePropagation(slowest=float(slowest)), LayerByLayer())
