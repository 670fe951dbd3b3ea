"""Eligibilities: how the memory of each neuron depends on each weight that drives it, carried forward in time.

A neuron has a state h of a few numbers, a step h[t] = F(h[t−1], I[t]; p), s[t] = S(h[t−1], I[t]; p), and nobody's
memory but its own in it. By a weight w that drives it, or a constant p of its own,

    ε[t] = dh[t]/dw = (∂F/∂h) ε[t−1] + (∂F/∂I) dI[t]/dw,   e[t] = ds[t]/dw = (∂S/∂h) ε[t−1] + (∂S/∂I) dI[t]/dw

of the membrane of `LIFCell` alone ε[t] = λ (1 − ρθ σ[t−1]) ε[t−1] + x[t]. The partial derivatives are those of the
cell's own step, so that these equations hold for every cell whose neurons do not see one another.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from safjax.messages import Driven
from safjax.neurons.constants import Names, constants_of, with_constants
from safjax.neurons.recording import Pick, recorded
from safjax.precision import wide_dtype, widened
from safjax.rules.spikes import height
from safjax.standing_in import with_gradient_of

Traces = tuple[tuple[jax.Array, ...], ...]
"""ε by each variable, weights first, then constants; of each, by every number of the neuron's state."""


MESSAGE = ""
"""Stands for what neurons hand on among the names of what is recorded."""


class Step(NamedTuple):
    """One step of neurons with its derivatives, all of them constants.

    Attributes:
      state: of the cell, after the step.
      traces: ε[t].
      spikes: s[t].
      values: what a neuron lets others see: `MESSAGE`, and what is recorded by its name.
      eligibilities: e[t] of each, by each variable.
      slopes: the derivative of each by the neuron's own current at this step.
    """

    state: Any
    traces: Traces
    spikes: jax.Array
    values: Mapping[str, jax.Array]
    eligibilities: Mapping[str, tuple[jax.Array, ...]]
    slopes: Mapping[str, jax.Array]


def variables(current: Driven, cell: Any) -> list[jax.Array]:
    """What the eligibilities are derivatives by: the weights behind a current, and the cell's own constants."""
    return [source.weights for source in current.sources] + list(constants_of(cell).values())


def zero_traces(state: Any, current: Driven, cell: Any) -> Traces:
    """ε = 0 for neurons in this state, the first, and for currents like this one."""
    numbers = _real(state)[0]
    shapes = [source.slopes.shape for source in current.sources] + [current.step_shape] * len(constants_of(cell))
    return tuple(tuple(jnp.zeros(shape, wide_dtype(number)) for number in numbers) for shape in shapes)


def advanced(state: Any, traces: Traces, current: Driven, cell: Any, detach_reset: bool, pick: Pick | None) -> Step:
    """One step of neurons, and of the eligibilities of what they let others see."""
    numbers, others = _real(state)
    value = widened(jax.lax.stop_gradient(current.value))
    constants = {name: jnp.broadcast_to(a, value.shape) for name, a in constants_of(cell).items()}

    def step(numbers: list[jax.Array], value: jax.Array, constants: dict[Names, jax.Array]) -> tuple[Any, Any]:
        own, before = with_constants(cell, constants), _together(state, numbers, others)
        after, spikes = own.step(before, value, detach_reset)
        drop = height(own)
        seen = {MESSAGE: spikes if drop is None else drop * spikes}
        seen.update(recorded(pick, own, before, value, after, spikes))
        real = {name: x for name, x in seen.items() if jnp.issubdtype(x.dtype, jnp.floating)}
        return (_real(after)[0], real), (after, spikes, {name: x for name, x in seen.items() if name not in real})

    arguments = jax.lax.stop_gradient((numbers, value, constants))
    (_, real), pull_back, (after, spikes, rest) = jax.vjp(step, *arguments, has_aux=True)
    inflows = [source.slopes for source in current.sources]
    no_state, nothing = jax.tree.map(jnp.zeros_like, (_real(after)[0], real))

    def derivatives(
        of_state: list[jax.Array], of_values: dict[str, jax.Array]
    ) -> tuple[tuple[jax.Array, ...], jax.Array]:
        """Of what these cotangents pick out: (by each variable, by the current)."""
        to_numbers, to_current, to_constants = pull_back((of_state, of_values))
        direct = [_along(to_current, inflow) * inflow for inflow in inflows] + list(to_constants.values())
        through = (sum(_along(j, e) * e for j, e in zip(to_numbers, of, strict=True)) for of in traces)
        return tuple(a + b for a, b in zip(through, direct, strict=True)), to_current

    new = [derivatives(_one(no_state, place), nothing)[0] for place in range(len(numbers))]
    found = {name: derivatives(no_state, {**nothing, name: jnp.ones_like(x)}) for name, x in real.items()}
    by_variable = tuple(zip(*new, strict=True)) if traces else ()
    eligibilities, slopes = {name: of[0] for name, of in found.items()}, {name: of[1] for name, of in found.items()}
    return jax.lax.stop_gradient(Step(after, by_variable, spikes, {**real, **rest}, eligibilities, slopes))


def differentiated(
    value: jax.Array, eligibilities: tuple[jax.Array, ...], by: list[jax.Array], *through: tuple[jax.Array, jax.Array]
) -> jax.Array:
    """A constant value with the derivative e by each variable, and those of other terms, slope · x."""
    terms = [slope * x for slope, x in through]
    terms += [_gathered(e * variable, value.ndim) for e, variable in zip(eligibilities, by, strict=True)]
    return with_gradient_of(value, sum(terms, jnp.zeros_like(value)).astype(value.dtype)) if terms else value


def _gathered(products: jax.Array, rank: int) -> jax.Array:
    """Σ over all axes of weights but that of the neurons."""
    return jnp.sum(products, tuple(range(1, 1 + products.ndim - rank)))


def _along(x: jax.Array, like: jax.Array) -> jax.Array:
    """x[B, n] in a shape that multiplies like[B, ..., n]."""
    return x.reshape(x.shape[0], *(1,) * (like.ndim - x.ndim), *x.shape[1:])


def _one(zeros: list[jax.Array], place: int) -> list[jax.Array]:
    return [jnp.ones_like(zero) if i == place else zero for i, zero in enumerate(zeros)]


def _real(state: Any) -> tuple[list[jax.Array], list[jax.Array]]:
    """The parts of a cell's state that have derivatives, and those that have none."""
    leaves = jax.tree.leaves(state)
    real = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]
    return [x for x, r in zip(leaves, real, strict=True) if r], [x for x, r in zip(leaves, real, strict=True) if not r]


def _together(state: Any, numbers: list[jax.Array], others: list[jax.Array]) -> Any:
    leaves, structure = jax.tree.flatten(state)
    real, rest = iter(numbers), iter(others)
    return jax.tree.unflatten(
        structure, [next(real if jnp.issubdtype(leaf.dtype, jnp.floating) else rest) for leaf in leaves]
    )
