"""The published learning rules, each a composition of one propagation and one schedule."""

from collections.abc import Callable

import jax

from safjax.rules.accumulation import RatePropagation
from safjax.rules.arguments import check_layerwise, check_segments, checked_format
from safjax.rules.mean_sequences import MeanSequencePropagation
from safjax.rules.means import MeanPropagation
from safjax.rules.oracles import eprop, ostl, otpe
from safjax.rules.otpe import ApproxOTPEPropagation
from safjax.rules.rule import Rule
from safjax.rules.sequences import SequencePropagation
from safjax.rules.spikes import SpikePropagation
from safjax.rules.stllr import STLLRPropagation
from safjax.rules.traces import TracePropagation
from safjax.schedules import (
    EachStep,
    EachStepUpdated,
    Equilibrium,
    LastStep,
    LayerByLayer,
    MeanOutput,
    MeanOutputLayerByLayer,
    WholeSequence,
)


def bptt(
    *,
    detach_reset: bool = False,
    layerwise: bool = False,
    remat: bool = False,
    segments: int | None = None,
    slopes: jax.typing.DTypeLike | None = None,
) -> Rule:
    """Back-propagation through time with surrogate gradients. Memory O(T), with about √T segments O(√T).

    Neftci, Mostafa & Zenke, "Surrogate gradient learning in spiking neural networks", 2019.

    Args:
      detach_reset: leave the reset's spike out of the gradient; it is a constant of second derivatives too.
      layerwise: compute the net layer by layer with time folded into the batch, instead of step by step. The gradient
        is the same; a net with feedback cannot be computed so.
      remat: keep only the neurons' states of each step for the backward pass and compute the rest a second time. Step
        by step only; of the rules that go layer by layer, `exodus` keeps least.
      segments: K, into how many parts of equal length the sequence is divided (the last may be shorter). Only the
        neurons' states at their beginnings are kept, and each part is computed a second time in the backward pass:
        memory of K states and T / K steps, least at K ≈ √T, for a third more computation (Chen, Xu, Zhang & Guestrin,
        "Training deep nets with sublinear memory cost", 2016, Sec. 4). The gradient is the same. With `layerwise` each
        part is computed layer by layer, and a net is refused that has to see all steps at once.
      slopes: the number format in which the slopes of neurons are kept for the backward pass, jnp.bfloat16 for half the
        memory and each slope wrong by 1 part in 256 at most; None for their own. Step by step only.

    Raises:
      ValueError: `layerwise` together with `remat` or `slopes`; `segments` is no positive whole number, or `slopes` no
        format of real numbers.
    """
    check_segments("bptt", segments)
    if layerwise:
        check_layerwise("bptt", remat, slopes)
        return Rule("bptt", SequencePropagation(detach_reset=detach_reset), LayerByLayer(segments, remat=True))
    return Rule("bptt", SpikePropagation(detach_reset, checked_format("bptt", slopes)), WholeSequence(remat, segments))


def exodus(*, parallel: bool = False, segments: int | None = None, remat: bool = False) -> Rule:
    """Layer by layer; the exact gradient of BPTT, reset included, in closed form for each neuron. Memory O(T).

        e[t] = σ[t] g[t] + λ (1 − θσ[t]) e[t+1]

    Bauer, Lenz, Haghighatshoar & Sheik, "EXODUS: stable and efficient training of spiking neural networks", 2022.

    Args:
      parallel: solve the recurrence by an associative scan; see `safjax.neurons.lif_sequence`.
      segments: K, into how many parts of equal length the sequence is divided (the last may be shorter). Each part is
        computed layer by layer; e at its end comes from the part after it. The gradient is the same. Of all steps only
        the neurons' potentials are kept, from which spikes and slopes are had again without synapses; all else, such as
        a layer's currents, errors and pooled maps, is in memory for T / K steps. A net that has to see all steps at
        once (attention over time, `PSN`, BatchNorm(over="time") in training) is refused.
      remat: with `segments`, keep the neurons' states at the beginnings of the parts instead of all potentials, and
        compute each part a second time: memory of K states and T / K steps, for a third more computation.

    Raises:
      ValueError: `segments` is no positive whole number; `remat` without it.
    """
    propagation = SequencePropagation(closed_form=True, parallel=parallel)
    return Rule("exodus", propagation, _in_segments("exodus", segments, remat))


def slayer(*, parallel: bool = False, segments: int | None = None, remat: bool = False) -> Rule:
    """As `exodus`, but the reset is ignored in the gradient: e[t] = σ[t] g[t] + λ e[t+1]. Memory O(T).

    Shrestha & Orchard, "SLAYER: spike layer error reassignment in time", 2018.
    """
    return Rule("slayer", SequencePropagation(True, True, parallel), _in_segments("slayer", segments, remat))


def _in_segments(rule: str, segments: int | None, remat: bool) -> LayerByLayer:
    check_segments(rule, segments)
    if remat and segments is None:
        raise ValueError(
            f"{rule}(remat=True): the parts of a sequence that are computed a second time are its segments. Write "
            f"{rule}(segments=10, remat=True) for ten of them."
        )
    return LayerByLayer(segments, remat)


def sltt(*, sampled: int | None = None) -> Rule:
    """Spatial learning through time: dW = Σ_t δ[t] ⊗ x[t]. Memory O(1) in T.

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


def approx_otpe(*, online: bool = False) -> Rule:
    """Online training with postsynaptic estimates, in its approximation of rank one. Memory O(1) in T.

        dW = Σ_t (σ̄ g)[t] ⊗ z[t],   db = Σ_t (σ̄ g)[t],   z[t] = λ z[t−1] + a[t]

    with g the error at the spikes and σ̄ the mean slope so far, weighed by λ; in layers that an `InstantReadout` reads,
    OTTT's δ ⊗ a without bias trace. Where BPTT's own reset is detached it is nearer to BPTT than OTTT is, for one more
    array for each neuron. Traces start with the net's input. It trains weights; what neurons learn themselves, such as
    thresholds, is refused.

    Summe, Schaefer & Joshi, "Estimating post-synaptic effects for online training of feed-forward SNNs", arXiv
    2311.16151, of which the published code is for dense layers.

    Args:
      online: update at every step, instead of once with the sum of the gradients of all steps.
    """
    return Rule("approx_otpe", ApproxOTPEPropagation(), EachStepUpdated() if online else EachStep())


def stllr(
    *,
    pre_decay: float = 0.75,
    post_decay: float = 0.2,
    causal: float = 1.0,
    noncausal: float = -1.0,
    readout_decay: float | None = None,
    first: int = 0,
) -> Rule:
    """S-TLLR: a three-factor rule with a causal and a non-causal part, errors back-propagated. Memory O(1) in T.

        dW = Σ_{t ≥ t₀} α₊ (σ g)[t] ⊗ p[t] + α₋ (q g)[t] ⊗ x[t],   db = Σ_{t ≥ t₀} (σ g)[t]
        p[t] = λ₊ p[t−1] + x[t],   q[t+1] = λ₋ q[t] + σ[t]

    with x a synapse's input, σ the slope of the surrogate of the neurons behind it, g the error at their spikes. Here
    neurons may have decays of their own, synapses without weights need not be affine, and nets may be recurrent. With
    α₋ = 0 and λ₊ = λ it is OTTT without bias trace, with λ₊ = 0, too, SLTT. It trains weights; what neurons learn
    themselves is refused. Errors by direct feedback alignment belong to the net.

    Apolinario & Roy, "S-TLLR: STDP-inspired temporal local learning rule for spiking neural networks", 2025, arXiv
    2306.15220. The defaults are published for DVS Gesture; for SHD (pre_decay=1, post_decay=.5, noncausal=1).

    Args:
      pre_decay: λ₊ ∈ [0, 1], of the trace of spikes before the synapse.
      post_decay: λ₋ ∈ [0, 1], of the trace of slopes behind it.
      causal: α₊.
      noncausal: α₋; 0 for none.
      readout_decay: of the trace at which the weights of a leaky readout are learned; None takes λ₊.
      first: t₀, the step, counted from 0, from which on it learns.

    Raises:
      ValueError: a decay outside [0, 1], a factor that is not finite, a first step that is no whole number ≥ 0.
    """
    if not isinstance(first, int) or isinstance(first, bool) or first < 0:
        raise ValueError(f"stllr(first={first!r}): expected the first step that learns, a whole number ≥ 0.")
    factors = pre_decay, post_decay, causal, noncausal, readout_decay
    return Rule("stllr", STLLRPropagation(*factors), EachStep(first=first))


def saf_e() -> Rule:
    """Spike accumulation forwarding, loss and update at every step. Memory O(1) in T.

    Saiin et al., "Spike accumulation forwarding for effective training of spiking neural networks", arXiv 2310.02772.
    At given weights its gradient equals `ottt_o`'s (Theorem 1).
    """
    return Rule("saf_e", RatePropagation(again=True), EachStepUpdated())


def saf_f() -> Rule:
    """Spike accumulation forwarding, loss at the final step only: T − 1 steps without gradient. Memory O(1) in T.

    arXiv 2310.02772. Its gradient equals that of the spike representation (Theorem 2).
    """
    return Rule("saf_f", RatePropagation(), LastStep())


def spike_representation() -> Rule:
    """Differentiation on the spike representation: the net r_out = clamp(f(r_in) / θ, 0, 1) at the SNN's own rates.

    dr_out / dv = 1[0 < v < θ] / θ in place of a surrogate. Memory O(1) in T. Meng et al., "Training high-performance
    low-latency spiking neural networks by differentiation on spike representation", 2022. Of `IF` neurons it is the
    gradient of tandem learning (Wu et al., "A tandem learning rule for effective training and rapid inference of deep
    spiking neural networks", 2021).
    """
    return Rule("spike_representation", RatePropagation(clamp=True), LastStep())


def ide(*, iterations: int = 200) -> Rule:
    """Implicit differentiation at the equilibrium of a net with feedback. Memory O(1) in T.

    The rates of a feedback net settle at a fixed point r = Φ(r) of its spike representation. After T steps without
    gradient, the error at the fixed point is the solution of β = ∂L/∂r + (∂Φ/∂r)ᵀ β, found by damped iteration. Xiao et
    al., "Training feedback spiking neural networks by implicit differentiation on the equilibrium state", 2021.

    Args:
      iterations: the most iterations β ← (β + ∂L/∂r + (∂Φ/∂r)ᵀ β) / 2; they end sooner at rounding error.

    Raises:
      ValueError: `iterations` is not a positive whole number.
    """
    if not isinstance(iterations, int) or isinstance(iterations, bool) or iterations < 1:
        raise ValueError(
            f"ide(iterations={iterations!r}): expected a whole number ≥ 1 of fixed-point iterations in the backward "
            "pass."
        )
    return Rule("ide", RatePropagation(clamp=True), Equilibrium(iterations))


def rate_backprop(*, detach_reset: bool = True, layerwise: bool = False) -> Rule:
    """Rate-based back-propagation: T steps without gradient, then one backward pass through mean rates. Memory O(1).

        dL/dc̄ = E · dL/dr̄,   dW = dL/dc̄ ⊗ r̄_in,   dL/dr̄_in = Wᵀ dL/dc̄,   E = (1/T) Σ_t σ[t] f[t]

    with mean rates r̄ and mean currents c̄, and f[t] = du[t]/dc, a membrane's answer to a constant current. Exact for one
    layer and a constant input; across layers, what slopes and errors have in common over time is left out. The loss is
    that of the mean output (1/T) Σ_t o[t], which of an `InstantReadout` is that of the mean current. An input that
    changes with time counts by its mean: nothing that lies in the timing of spikes is learned. Behind a readout may
    stand what is affine, the same at every step, and learns no factors; what is not belongs into the loss.

    Yu et al., "Advancing training efficiency of deep spiking neural networks through rate-based backpropagation", 2024.

    Args:
      detach_reset: leave the reset's spike out of f, as published.
      layerwise: compute the net layer by layer with time folded into the batch. The gradient is the same, and the net
        may have `BatchNorm(over="time")`; what is kept of all steps at once is one layer's currents and spikes.
    """
    if layerwise:
        return Rule("rate_backprop", MeanSequencePropagation(detach_reset=detach_reset), MeanOutputLayerByLayer())
    return Rule("rate_backprop", MeanPropagation(detach_reset), MeanOutput())


RULES: dict[str, Callable[..., Rule]] = {
    "saf_f": saf_f,
    "saf_e": saf_e,
    "ottt_a": ottt_a,
    "ottt_o": ottt_o,
    "approx_otpe": approx_otpe,
    "bptt": bptt,
    "exodus": exodus,
    "slayer": slayer,
    "sltt": sltt,
    "stllr": stllr,
    "spike_representation": spike_representation,
    "ide": ide,
    "rate_backprop": rate_backprop,
    "ostl": ostl,
    "otpe": otpe,
    "eprop": eprop,
}
"""Every rule by its name: the table that command lines and tests go through."""
