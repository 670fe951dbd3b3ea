"""Propagation of spikes together with their means over time: rate-based back-propagation.

T steps go forward on spikes, and the gradient is that of a net of mean rates r̄ = (1/T) Σ_t s[t] (Yu et al., "Advancing
training efficiency of deep spiking neural networks through rate-based backpropagation", 2024). With σ the surrogate's
slope, c̄ = f(w, r̄_in) a layer's mean current, and f[t] = du[t]/dc the membrane's answer to a constant added to it,

    f[t] = 1 + λ J[t−1] f[t−1],   E = (1/T) Σ_t σ[t] f[t],   dL/dc̄ = E · dL/dr̄

where J = dm/du is 1 if the reset is detached. What is carried of a step does not grow with T.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from safjax.gains import Gain
from safjax.messages import Averaged
from safjax.neurons import LIFCell
from safjax.neurons.recording import Pick, recorded
from safjax.precision import wide_zeros, widened
from safjax.rules.propagation import Course, Fired, SynapseFn
from safjax.rules.refusals import only_mean
from safjax.rules.spikes import SpikePropagation, height, spiking_readout
from safjax.standing_in import with_gradient_of


class MeanState(NamedTuple):
    """A membrane, the sums over time that means are made of, and how many steps they hold.

    Attributes:
      membrane: m[t].
      answers: dm[t]/dc, and dm[t]/dp for each array p among the cell's constants.
      spikes: Σ s.
      slopes: Σ ds/dc, and Σ ds/dp for each.
      seen: t.
    """

    membrane: jax.Array
    answers: list[jax.Array]
    spikes: jax.Array
    slopes: list[jax.Array]
    seen: Gain


class InputState(NamedTuple):
    """Sum of an input that changes with time, and over how many steps."""

    total: jax.Array
    seen: Gain


@dataclasses.dataclass(frozen=True)
class MeanPropagation:
    """Messages are `Averaged` pairs; only the mean is differentiated.

    Attributes:
      detach_reset: leave the reset's spike out of the gradient, J = 1.
    """

    detach_reset: bool = True
    accumulates = True
    affine = True
    one_decay = False
    per_weight = False
    whole_sequence = False
    one_map: ClassVar[str | None] = None
    learns_neurons = True
    recalls = False

    @property
    def inference(self) -> SpikePropagation:
        return SpikePropagation()

    @property
    def refuses_as(self) -> "MeanPropagation":
        return MeanPropagation()

    def longest(self, decay: Any, dtype: jnp.dtype) -> None:
        del decay, dtype

    def refusal(self, cell: Any, current: Averaged, course: Course) -> str | None:
        del current
        return only_mean(cell, course)

    def follows(self, course: Course) -> bool:
        # What a layer made of the steps before is a constant.
        return course.static

    def encode(self, state: InputState | None, x: jax.Array, course: Course) -> tuple[InputState | None, Averaged]:
        if course.static:
            return None, Averaged.of_still(x)
        state = InputState(wide_zeros(x), Gain.start(x)) if state is None else state
        total, count = state.total + x, state.seen.step(1.0)
        return InputState(total, count), Averaged(x, total / count.of(total))

    def synapse(self, function: SynapseFn, weights: Any, *messages: Averaged) -> Averaged:
        mean = function(weights, *(message.mean for message in messages))
        if all(message.still for message in messages):
            return Averaged.of_still(mean)
        # Where nothing is differentiated the mean current is not looked at, and the compiler drops its product.
        fixed, values = jax.lax.stop_gradient((weights, [message.value for message in messages]))
        return Averaged(function(fixed, *values), mean)

    def start(self, current: Averaged, cell: LIFCell, course: Course) -> MeanState:
        del course
        return started(current.value, cell)

    def neuron(self, state: MeanState, current: Averaged, cell: LIFCell, pick: Pick | None = None) -> Fired:
        value = jax.lax.stop_gradient(current.value)
        after, spikes = advanced(state, value, cell, self.detach_reset)
        message, drop = Averaged(spikes, mean_of(after, current.mean, cell)), height(cell)
        if drop is not None:
            message = self.synapse(lambda drop, x: drop * x, drop, message)
        return Fired(after, message, spikes, recorded(pick, cell, state.membrane, value, after.membrane, spikes))

    def unlearned(self, record: str) -> str | None:
        return unlearned(record)

    def recall(self, state: Any, decay: float) -> Any:
        raise NotImplementedError("of a mean over time nothing is handed to the next step")

    def keep(self, state: Any, message: Any, decay: float) -> Any:
        return self.recall(state, decay)

    def leaky_readout(self, state: Any, current: Averaged, decay: float, course: Course) -> tuple[Any, jax.Array]:
        del course
        state, output = spiking_readout(state, jax.lax.stop_gradient(current.value), decay)
        return state, with_gradient_of(output, widened(current.mean).astype(output.dtype))

    def instant_readout(self, state: Any, current: Averaged, decay: float, course: Course) -> tuple[Any, jax.Array]:
        del decay, course
        output = widened(current.value)
        return state, with_gradient_of(output, widened(current.mean).astype(output.dtype))


def differentiated(cell: LIFCell) -> dict[str, jax.Array]:
    """The arrays among a cell's constants that a spike depends on, by their names; a reset's value is one of them."""
    names = "decay", "reset", "threshold"  # in the order that JAX gives a dictionary
    leaves = {name: jax.tree.leaves(getattr(cell, name)) for name in names}
    return {name: found[0] for name, found in leaves.items() if found and isinstance(found[0], jax.Array)}


def _with(cell: LIFCell, arrays: dict[str, jax.Array]) -> LIFCell:
    values = {n: jax.tree.unflatten(jax.tree.structure(getattr(cell, n)), [a]) for n, a in arrays.items()}
    return dataclasses.replace(cell, **values)


def unlearned(record: str) -> str:
    """Why no loss of what is recorded has a gradient."""
    del record
    return (
        "differentiates the mean over time of a layer's spikes in their place, so that what is recorded of single "
        "steps has no gradient; train with sltt() or bptt()"
    )


def started(current: jax.Array, cell: LIFCell) -> MeanState:
    """Before the first step, for currents like this one."""
    zeros = wide_zeros(current)
    several = [zeros] * (1 + len(differentiated(cell)))
    return MeanState(zeros, several, zeros, several, Gain.start(zeros))


def advanced(state: MeanState, current: jax.Array, cell: LIFCell, detach_reset: bool) -> tuple[MeanState, jax.Array]:
    """(the state of the next step, s[t]), both constants."""
    membrane, spikes, answers, slopes = _answered(state.membrane, current, cell, state.answers, detach_reset)
    sums = [a + b for a, b in zip(state.slopes, slopes, strict=True)]
    return MeanState(membrane, answers, state.spikes + spikes, sums, state.seen.step(1.0)), spikes


def mean_of(state: MeanState, current: jax.Array, cell: LIFCell) -> jax.Array:
    """The mean rate r̄ until now, differentiated as E · c̄ + Σ_p (dr̄/dp) · p, of the mean current c̄ until now."""
    steps = state.seen.of(state.spikes)
    mean, *slopes = jax.lax.stop_gradient([total / steps for total in (state.spikes, *state.slopes)])
    variables = [widened(current), *differentiated(cell).values()]
    terms = [s * v for s, v in zip(slopes, variables, strict=True)]
    return with_gradient_of(mean, sum(terms[1:], terms[0]).astype(mean.dtype))


def _answered(
    membrane: jax.Array, current: jax.Array, cell: LIFCell, answers: list[jax.Array], detach_reset: bool
) -> tuple[jax.Array, jax.Array, list[jax.Array], list[jax.Array]]:
    """One step with its derivatives, neuron by neuron: (m[t], s[t], dm[t]/d·, ds[t]/d·).

    The derivatives are those by a constant added to every current, and by each of `differentiated`; `answers` are those
    of m[t−1].
    """
    constants = {n: jnp.broadcast_to(a, membrane.shape) for n, a in jax.lax.stop_gradient(differentiated(cell)).items()}

    def step(membrane: jax.Array, current: jax.Array, constants: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return _with(cell, constants).step(membrane, current, detach_reset)

    # Neurons do not see one another: a cotangent of ones gives each its own derivative, whatever defines the slope.
    (after, spikes), pull = jax.vjp(step, membrane, widened(current), constants)
    results = []
    for cotangents in ((jnp.ones_like(after), jnp.zeros_like(spikes)), (jnp.zeros_like(after), jnp.ones_like(spikes))):
        to_membrane, to_current, to_constants = pull(cotangents)
        direct = [to_current, *to_constants.values()]
        results.append([to_membrane * a + d for a, d in zip(answers, direct, strict=True)])
    return jax.lax.stop_gradient((after, spikes, results[0], results[1]))
