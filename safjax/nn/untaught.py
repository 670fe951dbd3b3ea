"""Layers that errors of the output do not reach where a rule hands none from layer to layer."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.dependence import Labels, Learned, follow
from safjax.nn.refusing import Refusals
from safjax.nn.states import flat, join


def refuse_untaught(
    step: Callable[..., Any], params: Any, carry: Any, constants: dict[Any, Any], x: Any, name: str, refusals: Refusals
) -> None:
    """Refuses parameters on which a step's output and records depend, but not their derivatives.

    Args:
      step: (params, constants, carry, x) ↦ (carry, output, reports).
      carry: before the first step.
      x: one step's input, arrays or shapes.
      name: of the rule.
    """
    paths = list(flat(params))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), x)

    def seen(values: list[Any]) -> tuple[Any, Any]:
        _, output, reports = step(nnx.from_flat_state(dict(zip(paths, values, strict=True))), constants, carry, zeros)
        return output, reports.records

    names = [join(path) for path in paths]
    closed = jax.make_jaxpr(seen)([flat(params)[path] for path in paths])
    labels = [Labels({Learned(name), name}) for name in names]
    reached = Labels().union(*follow(closed.jaxpr, labels, lambda *_: Labels()))
    untaught = [name for name in names if name in reached and Learned(name) not in reached]
    if untaught:
        listed = ", ".join(f"'{name}'" for name in untaught[:3]) + " ..." * bool(untaught[3:])
        refusals.refuse(
            untaught[0].rpartition(".")[0],
            f"The rule '{name}' teaches a layer by what readouts make of its own spikes, and hands no error from one "
            f"layer to the one below, so that {listed} would learn nothing. Give these spikes a way to a readout too: "
            "readout(last(two) + back(one - detach(one))), with back = Synapse(fixed(nnx.Linear(...))) without a bias, "
            "adds nothing to the output and brings its error to `one`; an nnx.Variable does not learn.",
        )
