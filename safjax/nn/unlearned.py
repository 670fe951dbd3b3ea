"""Numbers that a rule gives no gradient, though they are to be learned."""

from flax import nnx

from safjax.neurons import ResetTo
from safjax.nn.module import SpikingModule
from safjax.nn.refusing import Refusals
from safjax.nn.states import join
from safjax.rules import Rule


def refuse_unlearned(net: nnx.Module, rule: Rule, refusals: Refusals) -> None:
    """Refuses learned numbers that act on the state of the next step only, where that is a constant of the gradient."""
    if rule.schedule.sees_all_steps or rule.propagation.accumulates:
        return
    for path, module in nnx.iter_modules(net):
        for name in module.carried if isinstance(module, SpikingModule) else ():
            number = getattr(module, name)
            number = number.value if isinstance(number, ResetTo) else number
            if isinstance(number, nnx.Param):
                refusals.refuse(
                    join(path),
                    f"{type(module).__name__} at '{join(path)}' learns '{name}', which acts on the state of the next "
                    f"step only, but the rule '{rule.name}' takes that state for a constant: it would never change. "
                    "Hold the number in an nnx.Variable, which is not learned.",
                )
