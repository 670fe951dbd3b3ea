"""The gradients of all rules on one net and batch, beside exact ones."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
from flax import nnx

from safjax.nn.comparison import Compared, Comparison, likeness, together
from safjax.nn.inference import inference_rule
from safjax.nn.programs import Programs
from safjax.nn.task import check_call, check_rule
from safjax.nn.training import Loss
from safjax.rules import RULES, Rule, bptt

Rules = Mapping[str, Rule] | Iterable[Rule]


def compare(
    net: nnx.Module,
    x: Any,
    *targets: Any,
    loss: Loss,
    steps: int | None = None,
    rules: Rules | None = None,
    references: Rules | None = None,
    key: jax.Array | None = None,
    turns: int = 0,
) -> Comparison:
    """How like the gradients of learning rules are to exact ones on a net and a batch, and what each costs.

        print(safjax.compare(net, x, labels, loss=loss, steps=6))

    For a rule's gradient g and a reference h: cosine g·h / (|g| |h|) and |g| / |h|, of each parameter and of all
    together, in float64. Of rules that update at each step, g is the sum of the gradients of all steps at the weights
    that the net has, as of `value_and_grad`.

    Every rule gets a copy of the net in the state it is in, dropout masks included, and the net is left unchanged.

    Args:
      net, x, targets, loss, steps: as of `safjax.value_and_grad`. Under rules of the last step the loss is that step's.
      rules: which are compared, {name: rule} or a list of rules; None takes all of `safjax.rules.RULES` and the
        references. Those that do not train the net with this loss are in the result with their reasons.
      references: the rules that they are compared with, which must train the net; None takes bptt(), with the reset in
        its gradient, and bptt(detach_reset=True), without. For a net that needs all steps at once these go layer by
        layer.
      key: for rules that draw at random, sltt(sampled=K).
      turns: how often each gradient is timed, all rules taking turns; 0 measures no cost.

    Returns:
      A mapping from the names of rules to what was found: `loss`, `together[reference]` and `layers[reference][path]`
      with `cosine`, `ratio` of norms and the norms, `cost` if it was measured, `trains` and `reasons`. The cosine of a
      gradient that is zero, or not finite, is NaN; printed, that of a zero is "–". `summary()` and `by_layer(...)` are
      its tables.

    Raises:
      TypeError, ValueError: as of `safjax.value_and_grad` under the references; two rules of one name in a list, turns
        that are none, a rule that draws without a key.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, LeakyReadout, Synapse
      >>> net = nnx.Sequential(Synapse(nnx.Linear(4, 2, rngs=nnx.Rngs(0))), LIF(), LeakyReadout())
      >>> loss = lambda output, target: jnp.mean((output - target) ** 2)
      >>> rules = {"bptt": safjax.rules.bptt(), "exodus": safjax.rules.exodus()}
      >>> report = safjax.compare(net, jnp.ones((3, 4)), jnp.zeros((3, 2)), loss=loss, steps=6, rules=rules)
      >>> like = report["exodus"].layers["bptt"]["layers.0.layer.kernel"]
      >>> round(like.cosine, 6), round(like.ratio, 6)
      (1.0, 1.0)
    """
    beside = _references(net) if references is None else _named(references, "references")
    asked = {**{name: make() for name, make in RULES.items()}, **beside} if rules is None else _named(rules, "rules")
    if not isinstance(turns, int) or isinstance(turns, bool) or turns < 0:
        raise ValueError(f"turns={turns!r}: expected how often each gradient is timed, a whole number ≥ 0; 0 for none.")
    for rule in (*beside.values(), *asked.values()):
        check_rule(rule)
        check_call(net, x, steps, rule, key)
    programs = Programs(net, x, targets, loss, steps, key)
    exact = {name: programs.run(rule)[1] for name, rule in beside.items()}
    reasons = {verdict.rule: verdict.reasons for verdict in programs.verdicts(asked)}
    for name, rule in asked.items():
        reasons[name] = reasons[name] or programs.refused(rule)
    trained = dict.fromkeys(rule for name, rule in asked.items() if not reasons[name])
    costs = programs.costs(trained, turns) if turns else {}
    rows = []
    for name, rule in asked.items():
        if rule not in trained:
            rows.append(Compared(name, reasons[name]))
            continue
        value, gradient = programs.run(rule)
        layers = {ref: {path: likeness(gradient[path], h) for path, h in exact[ref].items()} for ref in exact}
        summed = {ref: together(list(parts.values())) for ref, parts in layers.items()}
        rows.append(Compared(name, (), value, summed, layers, costs.get(rule)))
    return Comparison(tuple(rows), tuple(beside))


def _references(net: nnx.Module) -> dict[str, Rule]:
    layerwise = isinstance(net, nnx.Module) and inference_rule(net) != bptt()
    if layerwise:
        both = bptt(layerwise=True), bptt(detach_reset=True, layerwise=True)
        return dict(zip(("bptt(layerwise=True)", "bptt(detach_reset=True, layerwise=True)"), both, strict=True))
    return {"bptt": bptt(), "bptt(detach_reset=True)": bptt(detach_reset=True)}


def _named(rules: Rules, what: str) -> dict[str, Rule]:
    """Rules by name.

    Raises:
      TypeError, ValueError: they are none, or two in a list have one name.
    """
    if isinstance(rules, Rule) or not isinstance(rules, Iterable):
        raise TypeError(f"{what} must be a mapping from names to rules, or a list of rules, but was {rules!r}.")
    if isinstance(rules, Mapping):
        named = dict(rules)
    else:
        listed = list(rules)
        for rule in listed:
            check_rule(rule)
        named = {rule.name: rule for rule in listed}
        if len(named) < len(listed):
            raise ValueError(
                f"{what}: two of the rules are called the same, {', '.join(rule.name for rule in listed)}. Name them: "
                f"{what}={{'sltt': sltt(), 'sltt, two steps': sltt(sampled=2)}}."
            )
    if not named:
        raise ValueError(f"{what} holds no rule.")
    return named
