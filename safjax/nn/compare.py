"""The gradients of all rules on one net and batch, beside exact ones."""

import functools
import statistics
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from safjax.nn.check import Verdict, verdicts_of
from safjax.nn.comparison import Compared, Comparison, Cost, likeness, together
from safjax.nn.graphs import Graph, split_net
from safjax.nn.inference import inference_rule
from safjax.nn.refusing import Reason
from safjax.nn.states import flat, join
from safjax.nn.task import check_call, check_rule
from safjax.nn.training import Loss, value_and_grad
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
    programs = _Programs(net, x, targets, loss, steps, key)
    exact = {name: programs.run(rule)[1] for name, rule in beside.items()}
    reasons = {verdict.rule: verdict.reasons for verdict in programs.verdicts(asked)}
    for name, rule in asked.items():
        reasons[name] = reasons[name] or programs.refused(rule)
    trained = {name: rule for name, rule in asked.items() if not reasons[name]}
    costs = programs.costs(dict.fromkeys(trained.values()), turns) if turns else {}
    rows = []
    for name, rule in asked.items():
        if name not in trained:
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


class _Program(NamedTuple):
    compiled: Any
    seconds: float


class _Programs:
    """The compiled gradient of each rule, on one net and batch."""

    def __init__(self, net: Any, x: Any, targets: tuple, loss: Loss, steps: int | None, key: Any):
        self._graph, *arrays = split_net(net)
        # A copy that nothing else uses up, on the device already.
        self._arrays = *arrays, *jax.device_put((x, targets)), key
        self._loss, self._steps = loss, steps
        self._compiled: dict[Rule, _Program] = {}

    def verdicts(self, asked: dict[str, Rule]) -> tuple[Verdict, ...]:
        """What each rule says of the net."""
        params, rest, x, *_ = self._arrays
        leaves, structure = jax.tree.flatten(jax.eval_shape(lambda *a: a, params, rest, x))
        x64 = jax.config.jax_enable_x64
        return _verdicts(self._graph, structure, tuple(leaves), self._steps, tuple(asked.items()), x64)

    def refused(self, rule: Rule) -> tuple[Reason, ...]:
        """Why the loss cannot be had under a rule that trains the net; none if it can."""
        try:
            self._program(rule)
        except ValueError as error:
            # The loss itself is well: the references have taken it.
            return (Reason(join(()), str(error)),)
        return ()

    def run(self, rule: Rule) -> tuple[float, dict[str, np.ndarray]]:
        """(loss, {path: gradient}), in the memory of the host."""
        value, grads, _ = self._program(rule).compiled(*self._arrays)
        return float(value), {join(path): np.asarray(leaf) for path, leaf in flat(grads).items()}

    def costs(self, rules: Iterable[Rule], turns: int) -> dict[Rule, Cost]:
        """Of each, timed in turns, so that a busy machine is busy for all of them."""
        programs = {rule: self._program(rule) for rule in rules}
        seconds: dict[Rule, list[float]] = {rule: [] for rule in programs}
        for program in programs.values():
            jax.block_until_ready(program.compiled(*self._arrays))
        for _ in range(turns):
            for rule, program in programs.items():
                began = time.perf_counter()
                jax.block_until_ready(program.compiled(*self._arrays))
                seconds[rule].append(time.perf_counter() - began)
        return {
            rule: Cost(statistics.median(seconds[rule]), _temporary_bytes(program.compiled), program.seconds)
            for rule, program in programs.items()
        }

    def _program(self, rule: Rule) -> _Program:
        if rule not in self._compiled:
            began = time.perf_counter()
            compiled = _gradient_of(self._loss, rule, self._steps).lower(self._graph, *self._arrays).compile()
            self._compiled[rule] = _Program(compiled, time.perf_counter() - began)
        return self._compiled[rule]


def _gradient_of(loss: Loss, rule: Rule, steps: int | None) -> Any:
    try:
        hash(loss)
    except TypeError:
        return _gradient.__wrapped__(loss, rule, steps)
    return _gradient(loss, rule, steps)


@functools.lru_cache(maxsize=128)
def _gradient(loss: Loss, rule: Rule, steps: int | None) -> Any:
    """Kept, so that nets of one form share what is compiled."""
    compute = value_and_grad(loss, rule, steps)

    def gradient(graph: Graph, params: Any, rest: Any, x: Any, targets: tuple, key: Any) -> tuple:
        net = graph.merge(params, rest)
        (value, _), grads = compute(net, x, *targets, key=key)
        # What the net changes in itself belongs to the cost.
        return value, nnx.as_pure(grads), split_net(net)[2]

    return jax.jit(gradient, static_argnums=0)


@functools.lru_cache(maxsize=128)
def _verdicts(graph: Graph, structure: Any, leaves: tuple, steps: int | None, asked: tuple, x64: bool) -> tuple:
    params, rest, x = jax.tree.unflatten(structure, leaves)
    return verdicts_of(graph, (params, rest), x, steps, dict(asked))


def _temporary_bytes(compiled: Any) -> int | None:
    analysis = compiled.memory_analysis()
    return None if analysis is None else analysis.temp_size_in_bytes
