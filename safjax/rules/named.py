"""The published learning rules, each a composition of one propagation and one schedule."""

from safjax.rules.accumulation import RatePropagation
from safjax.rules.rule import Rule
from safjax.rules.spikes import SpikePropagation
from safjax.rules.traces import TracePropagation
from safjax.schedules import EachStep, EachStepUpdated, LastStep, WholeSequence


def bptt(*, detach_reset: bool = False) -> Rule:
    """Back-propagation through time with surrogate gradients. Memory O(T).

    Neftci, Mostafa & Zenke, "Surrogate gradient learning in spiking neural networks", 2019.

    Args:
      detach_reset: leave the reset's spike out of the gradient.
    """
    return Rule("bptt", SpikePropagation(detach_reset), WholeSequence())


def sltt(*, sampled: int | None = None) -> Rule:
    """Spatial learning through time: dW = Σ_t δ[t] ⊗ s[t]. Memory O(1) in T.

    Meng et al., "Towards memory- and time-efficient backpropagation for training spiking neural networks", 2023.

    Args:
      sampled: K, the number of steps drawn at random for each batch at which a gradient is taken (SLTT-K, Sec. 4.4).
        The gradient is the mean over the K steps, an unbiased estimate of the full one; the published code divides
        by T instead, which only rescales the learning rate. The rule then needs a random key.

    Raises:
      ValueError: `sampled` is not a positive whole number.
    """
    if sampled is not None and (not isinstance(sampled, int) or isinstance(sampled, bool) or sampled < 1):
        raise ValueError(
            f"sltt(sampled={sampled!r}): expected a whole number ≥ 1, the number of time steps at which a gradient "
            "is taken. Write sampled=None to take it at every step."
        )
    return Rule("sltt", SpikePropagation(), EachStep(sampled))


def ottt_a(*, trace_bias: bool = True, trace_input: bool = True) -> Rule:
    """Online training through time, gradients accumulated over the steps: dW = Σ_t δ[t] ⊗ a[t]. Memory O(1) in T.

    Xiao et al., "Online training through time for spiking neural networks", 2022.

    Args:
      trace_bias: db = Σ_t Λ[t] δ[t], the exact form; False gives the published code's db = Σ_t δ[t].
      trace_input: the first synapse sees the trace of its input, the exact form; False gives the published code's
        dW = Σ_t δ[t] ⊗ x[t] there.
    """
    return Rule("ottt_a", TracePropagation(trace_bias, trace_input), EachStep())


def ottt_o(*, trace_bias: bool = True, trace_input: bool = True) -> Rule:
    """Online training through time with an update at every step; see `ottt_a`. Memory O(1) in T."""
    return Rule("ottt_o", TracePropagation(trace_bias, trace_input), EachStepUpdated())


def saf_e() -> Rule:
    """Spike accumulation forwarding, loss and update at every step. Memory O(1) in T.

    Saiin et al., "Spike accumulation forwarding for effective training of spiking neural networks", arXiv 2310.02772.
    At given weights its gradient equals `ottt_o`'s (Theorem 1).
    """
    return Rule("saf_e", RatePropagation(), EachStepUpdated())


def saf_f() -> Rule:
    """Spike accumulation forwarding, loss at the final step only: T − 1 steps without gradient. Memory O(1) in T.

    arXiv 2310.02772. Its gradient equals that of the spike representation (Theorem 2).
    """
    return Rule("saf_f", RatePropagation(), LastStep())


def spike_representation() -> Rule:
    """Differentiation on the spike representation: the net r_out = clamp(f(r_in) / θ, 0, 1) at the SNN's own rates.

    dr_out / dv = 1[0 < v < θ] / θ in place of a surrogate. Memory O(1) in T. Meng et al., "Training high-performance
    low-latency spiking neural networks by differentiation on spike representation", 2022.
    """
    return Rule("spike_representation", RatePropagation(clamp=True), LastStep())


RULES = {
    "saf_f": saf_f,
    "saf_e": saf_e,
    "ottt_a": ottt_a,
    "ottt_o": ottt_o,
    "bptt": bptt,
    "sltt": sltt,
    "spike_representation": spike_representation,
}
"""Every rule by its name: the table that command lines and tests go through."""
