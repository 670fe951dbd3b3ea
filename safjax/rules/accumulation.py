"""Propagation of accumulated spikes: spike accumulation forwarding (SAF) and spike representation (SR).

Messages are weighted rates r[t] = a[t] / Λ[t] ∈ [0, 1], and an affine synapse maps the rate of its input to the rate of
its current, v[t] = f(r[t]): bias, pooling and sums of streams need no special treatment, and no spike ever travels
(arXiv 2310.02772, Sec. 4.1). A static image is its own rate.
"""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from safjax.gains import Gain
from safjax.held import late
from safjax.messages import Gathered, Rate
from safjax.neurons import LIFCell, accumulation_step
from safjax.neurons.recording import Pick
from safjax.precision import wide_zeros, widened
from safjax.rules.propagation import Course, Fired, SynapseFn
from safjax.rules.refusals import exact, longest_gain, lost_in_rounding, only_lif
from safjax.rules.spikes import height
from safjax.standing_in import with_gradient_of


class Accumulation(NamedTuple):
    """A running sum and its gain: all the state there is."""

    total: jax.Array
    gain: Gain


def _start(like: jax.Array) -> Accumulation:
    return Accumulation(wide_zeros(like), Gain.start(like))


def _next_gain(state: Accumulation, decay: float | jax.Array) -> Gain:
    # The gain does not learn; its own recurrence must not enter a gradient through the state (see `Equilibrium`).
    return state.gain.constant().step(decay)


def clamp_limit(potential: jax.Array, cell: LIFCell) -> jax.Array:
    """The rate's limit for large Λ: clamp(v / ρθ, 0, n), or of spikes of height ρθ, clamp(v, 0, n ρθ).

    v is the weighted mean current; with decayed input, 1 − λ times that.

    Meng et al., "Training high-performance low-latency SNNs by differentiation on spike representation", 2022, Sec. 4.
    """
    below = potential = cell.driven(potential)
    if cell.max_spikes is not None:
        top = cell.max_spikes * cell.drop
        below = jnp.where(potential >= top, top, potential)
    inside = jnp.where(potential <= 0, 0, below)
    return inside if cell.scaled else inside / cell.drop


def _records(total: jax.Array, driven: jax.Array, spikes: jax.Array, cell: LIFCell) -> dict[str, jax.Array]:
    """u = Λ v − ρθ λ a[t−1] and m = u − ρθ s; a sum over time does not know the current of one step."""
    potential = driven - cell.drop * (cell.decay * jax.lax.stop_gradient(total))
    return {"spikes": spikes, "potential": potential, "membrane": potential - cell.drop * spikes}


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def rate_synapse(
    function: SynapseFn, weights: Any, rates: tuple[jax.Array, ...], made_of: tuple[Gathered | None, ...]
) -> jax.Array:
    """f(w, *r), for whose gradient accelerators keep no rate that can be made again of what is in memory anyway.

    Args:
      function: f, affine in all rates together.
      weights: w, any pytree.
      rates: r of each input.
      made_of: of what each was made, constants of differentiation; None of one that is kept.
    """
    del made_of
    return function(weights, *rates)


def _rate_forward(
    function: SynapseFn, weights: Any, rates: tuple[jax.Array, ...], made_of: tuple[Gathered | None, ...]
) -> tuple[jax.Array, Any]:
    kept = tuple(rate if source is None else None for rate, source in zip(rates, made_of, strict=True))
    return rate_synapse(function, weights, rates, made_of), (weights, kept, made_of)


def _rate_backward(function: SynapseFn, residuals: Any, error: jax.Array) -> tuple[Any, ...]:
    weights, kept, made_of = residuals
    rates = tuple(
        rate if source is None else source._replace(total=late(source.total, error)).rate()
        for rate, source in zip(kept, made_of, strict=True)
    )
    _, pull = jax.vjp(lambda weights, rates: function(weights, *rates), weights, rates)
    return *pull(error), jax.tree.map(jnp.zeros_like, made_of)


rate_synapse.defvjp(_rate_forward, _rate_backward)


@dataclasses.dataclass(frozen=True)
class RatePropagation:
    """Messages are `Rate`s; a synapse is an ordinary function of them.

    Attributes:
      clamp: take the neuron's gradient from `clamp_limit` instead of its surrogate.
      again: keep no rates for the backward pass on accelerators, see `rate_synapse`. In a loop that takes a gradient at
        each step that is less memory; in a single step behind a loop it was more.
    """

    clamp: bool = False
    again: bool = False
    accumulates = True
    affine = True
    one_decay = True
    per_weight = False
    learns_neurons = True
    recalls = True
    whole_sequence = False
    one_map: ClassVar[str | None] = None

    @property
    def inference(self) -> "RatePropagation":
        return RatePropagation()

    @property
    def refuses_as(self) -> "RatePropagation":
        return self

    def longest(self, decay: float, dtype: jnp.dtype) -> float | None:
        return longest_gain(decay, dtype) if decay == 1 else None

    def refusal(self, cell: Any, current: Rate, course: Course) -> str | None:
        reasons = only_lif(cell, self.clamp), lost_in_rounding(cell, current.value, course)
        return "; and it ".join(reason for reason in reasons if reason is not None) or None

    def follows(self, course: Course) -> bool:
        # Of a sequence the sum of the steps before is a constant.
        return course.static

    def encode(self, state: Accumulation | None, x: jax.Array, course: Course) -> tuple[Accumulation | None, Rate]:
        decay = course.decay
        if course.static:
            return None, Rate(x)
        state = _start(x) if state is None else state
        gain = _next_gain(state, decay)
        total = decay * jax.lax.stop_gradient(state.total) + x
        rate = total / gain.of(total)
        if course.open:
            rate = exact(rate, gain, self.longest(decay, rate.dtype))
        return Accumulation(total, gain), Rate(rate)

    def synapse(self, function: SynapseFn, weights: Any, *messages: Rate) -> Rate:
        rates, made_of = (tuple(parts) for parts in zip(*((m.value, m.gathered) for m in messages), strict=True))
        if all(source is None for source in made_of):
            return Rate(function(weights, *rates))
        return Rate(rate_synapse(function, weights, rates, jax.lax.stop_gradient(made_of)))

    def start(self, current: Rate, cell: LIFCell, course: Course) -> Accumulation:
        del cell, course
        return _start(current.value)

    def neuron(self, state: Accumulation, current: Rate, cell: LIFCell, pick: Pick | None = None) -> Fired:
        potential = widened(current.value)
        gain = _next_gain(state, cell.decay)
        total, spikes = accumulation_step(state.total, gain.of(potential), current.value, cell)
        gathered = Gathered(total, gain, height(cell))
        rate = gathered.rate()
        if self.clamp:
            rate = with_gradient_of(rate, clamp_limit(potential, cell))
        driven = gain.of(potential) * cell.driven(potential)
        records = {} if pick is None else pick(_records(state.total, driven, spikes, cell))
        return Fired(Accumulation(total, gain), Rate(rate, gathered if self.again else None), spikes, records)

    def unlearned(self, record: str) -> str | None:
        del record
        if not self.clamp:
            return None
        return (
            "differentiates the limit of a layer's rate in the place of its spikes, so that single spikes and "
            "potentials have no gradient; train with saf_e() or saf_f()"
        )

    def recall(self, state: Accumulation, decay: float) -> Rate:
        # A stream one step late has gathered one step less: a[t−1] / Λ[t].
        return Rate(state.total / _next_gain(state, decay).of(state.total))

    def keep(self, state: Accumulation | None, message: Rate, decay: float) -> Accumulation:
        gain = _next_gain(_start(message.value) if state is None else state, decay)
        return Accumulation(gain.of(message.value) * message.value, gain)

    def leaky_readout(self, state: Any, current: Rate, decay: float, course: Course) -> tuple[Any, jax.Array]:
        del decay, course
        return state, widened(current.value)

    def instant_readout(
        self, state: Accumulation | None, current: Rate, decay: float, course: Course
    ) -> tuple[Accumulation, jax.Array]:
        del course
        state = _start(current.value) if state is None else state
        gain = _next_gain(state, decay)
        total = gain.of(current.value) * current.value
        return Accumulation(total, gain), total - decay * jax.lax.stop_gradient(state.total)
