"""Operations of a synapse in which several inputs meet, f(a, b, …), from the values that they have in a step.

The function is affine in each input while the others are held; it is walked through line by line.

- Sums, concatenation and weights are linear: a spike of any input costs an accumulation for every path from it to an
  output, and a number of an input that is no spikes a multiply-accumulation for every path, whatever it is.
- Where two streams are multiplied, at least one of them spikes, nothing is multiplied: the other is added where both
  are there (a spike, or what a sum of spikes has made that is not 0), and is not where the gate is shut. So a spike
  that AND lets through costs what a spike costs; a matrix product of spikes, Q Kᵀ, an accumulation for each pair that
  meets. Two streams of numbers are multiplied everywhere.
- A sum of spikes that is multiplied, such as the scores Q Kᵀ in (Q Kᵀ) V, is formed before: what it costs is counted
  once for each product that takes it. What the product passes on goes along its paths as a spike does.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal

from experiments.energy.connections import PRODUCTS, SAME, SUMS, evaluate, program_in
from safjax.affine import nonaffine_operation

_MOVES = {
    *("reshape", "transpose", "squeeze", "expand_dims", "broadcast_in_dim", "slice", "dynamic_slice", "concatenate"),
    *("pad", "rev", "gather", "select_n", "split"),
}


class Flow(NamedTuple):
    """What depends on an input.

    Attributes:
      value: its numbers.
      accumulations, multiplications: how many of each every entry has taken since the input, or the last product.
      moved: whether entries have been moved and scaled only, so that each is that of one entry.
      spikes: whether it is of spikes alone.
    """

    value: jax.Array
    accumulations: jax.Array
    multiplications: jax.Array
    moved: bool
    spikes: bool

    def present(self) -> jax.Array:
        """1 where there is something to be added: a number is, whatever it is."""
        return (self.value != 0).astype(jnp.float32) if self.spikes else jnp.ones_like(self.accumulations)


def meeting(
    function: Callable[..., jax.Array], shapes: Sequence[tuple[int, ...]], spikes: Sequence[bool]
) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Counts of `function`(a, b, …) of one example [1, *shape] each.

    Args:
      spikes: of each input, whether it is spikes.

    Returns:
      (a, b, …) ↦ (AC, MAC), of values of one example, without the first axis.

    Raises:
      ValueError: the function is not affine in one of its inputs.
    """
    zeros = [jnp.zeros((1, *shape), jnp.float32) for shape in shapes]
    for place in range(len(zeros)):

        def of_one(others: list, x: jax.Array, place: int = place) -> jax.Array:
            return function(*others[:place], x, *others[place:])

        others = [*zeros[:place], *zeros[place + 1 :]]
        if (operation := nonaffine_operation(of_one, others, zeros[place])) is not None:
            raise ValueError(
                f"it contains {operation}, which is not affine in input {place + 1} of {len(zeros)}, so its operations "
                "cannot be counted"
            )
    closed = jax.make_jaxpr(function)(*zeros)

    def count(*values: jax.Array) -> tuple[jax.Array, jax.Array]:
        flows, formed = [], list[Flow]()
        for value, fires in zip(values, spikes, strict=True):
            x = value[None].astype(jnp.float32)
            none = jnp.zeros_like(x)
            flows.append(Flow(x, spikes_in(x), none, True, True) if fires else Flow(x, none, none + 1, True, False))
        results = _walk(closed, flows, formed)
        counted = [*formed, *(result for result in results if isinstance(result, Flow))]
        accumulations, multiplications = (
            sum((_total(getattr(flow, name)) for flow in counted), jnp.int32(0))
            for name in ("accumulations", "multiplications")
        )
        return accumulations, multiplications

    return count


def spikes_in(x: jax.Array) -> jax.Array:
    """How many spikes each entry is: a whole number as many as it counts, any other that is not 0 one."""
    return jnp.where(x == jnp.round(x), jnp.abs(x), 1)


def _total(counts: jax.Array) -> jax.Array:
    return jnp.round(counts).astype(jnp.int32).sum()


def _walk(closed: ClosedJaxpr, inputs: Sequence[Any], formed: list[Flow]) -> list[Any]:
    """Runs a program on flows and plain values; what products have taken is added to `formed`."""
    jaxpr = closed.jaxpr
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *inputs], strict=True))

    def value(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        operands = [value(atom) for atom in equation.invars]
        values.update(zip(equation.outvars, _line(equation, operands, formed, jaxpr), strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _line(equation: Any, operands: list[Any], formed: list[Flow], outer: Any) -> list[Any]:
    name, params = equation.primitive.name, equation.params
    flows = [operand for operand in operands if isinstance(operand, Flow)]
    if not flows:
        return evaluate(equation, operands, outer)
    if name == "cond":
        return _walk(params["branches"][-1], operands[1:], formed)
    if name not in SAME | SUMS | PRODUCTS and (inner := program_in(params)) is not None:
        return _walk(inner, operands, formed)
    results = evaluate(equation, [_value(operand) for operand in operands], outer)
    if name in PRODUCTS:
        taken, moved = _product(equation, operands, formed), name in ("mul", "div")
        return [Flow(results[0], *taken, moved and all(f.moved for f in flows), all(f.spikes for f in flows))]
    moved = all(f.moved for f in flows) and (name in _MOVES | SAME or (name in SUMS and len(flows) == 1))
    counts = [_linear(equation, operands, field, outer) for field in ("accumulations", "multiplications")]
    spikes = all(f.spikes for f in flows)
    return [Flow(value, a, m, moved, spikes) for value, a, m in zip(results, *counts, strict=True)]


def _value(operand: Any) -> Any:
    return operand.value if isinstance(operand, Flow) else operand


def _linear(equation: Any, operands: list[Any], field: str, outer: Any) -> list[jax.Array]:
    """The counts of a line that moves or adds up; constants beside count nothing."""
    name = equation.primitive.name
    if name in SUMS:
        return [sum(getattr(operand, field) for operand in operands if isinstance(operand, Flow))]
    if name in SAME:
        return [getattr(operands[0], field)]
    counts = [getattr(o, field) if isinstance(o, Flow) else o for o in operands]
    nothing = [0 * c if isinstance(o, Flow) else c for o, c in zip(operands, counts, strict=True)]
    pairs = zip(evaluate(equation, counts, outer), evaluate(equation, nothing, outer), strict=True)
    return [with_counts - without for with_counts, without in pairs]


def _product(equation: Any, operands: list[Any], formed: list[Flow]) -> tuple[jax.Array, jax.Array]:
    """(AC, MAC) of every entry of a product, by weights or of two flows."""
    first, second = operands

    def multiplied(a: Any, b: Any) -> jax.Array:
        # A quotient is a product by the inverse.
        primitive = jax.lax.mul_p if equation.primitive.name == "div" else equation.primitive
        params = {} if primitive is jax.lax.mul_p else dict(equation.params)
        if "preferred_element_type" in params:
            params["preferred_element_type"] = None
        return primitive.bind(a, b, **params)

    if not (isinstance(first, Flow) and isinstance(second, Flow)):
        ones = [None if isinstance(o, Flow) else jnp.ones(jnp.shape(o), jnp.float32) for o in operands]
        counts = []
        for field in ("accumulations", "multiplications"):
            pair = [getattr(o, field) if one is None else one for o, one in zip(operands, ones, strict=True)]
            counts.append(multiplied(*pair))
        return counts[0], counts[1]
    formed += [flow for flow in (first, second) if not flow.moved]
    met = multiplied(first.present(), second.present())
    gated = any(flow.moved and flow.spikes for flow in (first, second))
    return (met, 0 * met) if gated else (0 * met, multiplied(*(jnp.ones_like(f.accumulations) for f in operands)))
