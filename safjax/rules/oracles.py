"""Rules that keep a derivative for each weight and member of the batch: for small dense nets, and as oracles."""

from safjax.rules.eprop import BroadcastPropagation
from safjax.rules.per_weight import EligibilityPropagation
from safjax.rules.postsynaptic import EstimatingPropagation
from safjax.rules.rule import Rule
from safjax.schedules import EachStep


def ostl(*, detach_reset: bool = False) -> Rule:
    """Online spatio-temporal learning: each layer's own memory exactly, in dense layers. Memory O(1) in T.

        dW = Σ_t g[t] e[t],   e[t] = ds[t]/dW through the layer's own state,   dL/dI[t] = σ[t] g[t]

    For LIF neurons e[t] = σ[t] ε[t] with ε[t] = λ (1 − θσ[t−1]) ε[t−1] + x[t]. One layer of neurons behind an
    `InstantReadout` has the gradient of `bptt`, constants of the neurons included; across layers, and over a
    recurrence, what spikes do in later steps is left out. A derivative is kept for every weight and member of the
    batch, twice as many where a neuron remembers two numbers: an oracle for small nets, for tests of other rules. With
    detached resets its gradient is `ottt_a`'s, which needs one number for each input, but for weights that an
    `InstantReadout` reads: those have their own gradient here, and there one with a trace.

    Bohnstingl, Woźniak, Pantazi & Eleftheriou, "Online spatio-temporal learning in deep neural networks", 2022, Sec. 3.

    Args:
      detach_reset: leave the reset's spike out of the gradient.
    """
    return Rule("ostl", EligibilityPropagation(detach_reset), EachStep())


def otpe(*, detach_reset: bool = False, everywhere: bool = False) -> Rule:
    """Online training with postsynaptic estimates: OSTL whose spikes act on in the next membrane. Memory O(1) in T.

        dW = Σ_t g[t] R̂[t],   R̂[t] = λ R̂[t−1] + e[t],   dL/dI[t] = σ̄[t] g[t],   σ̄ the λ-weighted mean of slopes

    with e as of `ostl`; an output layer, whose spikes an `InstantReadout` reads, has OSTL's gradient. One hidden layer
    behind a `LeakyReadout` has the gradient of `bptt`. Memory is twice that of `ostl`: an oracle for small nets with
    dense layers.

    Summe, Schaefer & Joshi, "Estimating post-synaptic effects for online training of feed-forward SNNs", arXiv
    2311.16151.

    Args:
      detach_reset: leave the reset's spike out of the gradient.
      everywhere: use R̂ and σ̄ in the output layer, too.
    """
    return Rule("otpe", EstimatingPropagation(detach_reset, everywhere), EachStep())


def eprop() -> Rule:
    """e-prop: what readouts say, times what each neuron remembers of its weights. Memory O(1) in T.

        dW = Σ_t L[t] ē[t],   ē[t] = κ ē[t−1] + e[t],   L[t] the error of a step at the spikes, through readouts alone

    with e as of `ostl`, the reset's spike and all spikes that come from other neurons being constants, and κ the decay
    of the net's `LeakyReadout`; of an `InstantReadout`, and of recorded spikes, ē = e. So a net with one recurrent
    layer, `Recurrent(ALIF(...), ...)`, has symmetric e-prop, which is `bptt` with these constants. A layer whose spikes
    no readout sees learns nothing, and is refused; random feedback reaches it in a term of the readout's current that
    is zero, B (s − detach(s)), see `safjax.nn.detach`. Rates f̄ are regularised by a loss `WithRecords` of "spikes",
    c Σ_j (f̄_j − f*) s_j[t]. Memory is that of the batch times the weights of dense layers, three times for adaptive
    neurons: an oracle for small nets.

    Bellec et al., "A solution to the learning dilemma for recurrent networks of spiking neurons", 2020, Eq. (4), (13),
    (24), (25).
    """
    return Rule("eprop", BroadcastPropagation(), EachStep())
