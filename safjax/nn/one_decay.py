"""The one decay of a net, by which sums over time are weighed, and what has none refused."""

from typing import Any

from flax import nnx

from safjax.nn.module import SpikingModule
from safjax.nn.refusing import Refusals
from safjax.nn.states import join, modules
from safjax.rules import Rule


def net_decay(net: nnx.Module, rule: Rule, refusals: Refusals) -> float | None:
    """The one decay of the net's neurons and readouts, None where they differ."""
    spiking = [(join(p), m) for p, m in modules(net) if isinstance(m, SpikingModule)]
    if not spiking:
        raise ValueError(
            f"The net, a {type(net).__name__}, holds no spiking layer, so there is nothing for the rule '{rule.name}' "
            "to train in time. Build it from safjax.nn (Synapse, LIF, IF, LeakyReadout ...), or train it with "
            "nnx.value_and_grad."
        )
    decays = {path: decay for path, m in spiking if (decay := getattr(m, "decay", None)) is not None}
    learned = [path for path, decay in decays.items() if not isinstance(decay, float)]
    if not learned and len(set(decays.values())) == 1:
        return next(iter(decays.values()))
    if rule.propagation.one_decay:
        _refuse_decays(decays, learned, rule, refusals)
    return None


def _refuse_decays(decays: dict[str, Any], learned: list[str], rule: Rule, refusals: Refusals) -> None:
    """Where sums over time need one constant decay."""
    for path in learned:
        refusals.refuse(
            path,
            f"The rule '{rule.name}' accumulates over time with one constant decay for the whole net, but the decay of "
            f"'{path}' is an array of its own. Give all neurons and readouts one and the same number.",
        )
    constant = {path: decay for path, decay in decays.items() if path not in learned}
    if len(set(constant.values())) > 1 or not decays:
        listed = ", ".join(f"'{path}' {decay}" for path, decay in constant.items())
        refusals.refuse(
            join(()),
            f"The rule '{rule.name}' accumulates over time with one decay for the whole net, but this net's layers "
            f"have {listed or 'none'}. Give all neurons and readouts the same decay.",
        )
