"""The gradients of many rules on one net and batch, as compiled programs: each is compiled once and run often."""

import functools
import statistics
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from safjax.nn.check import Verdict, verdicts_of
from safjax.nn.comparison import Cost
from safjax.nn.graphs import Graph, split_net
from safjax.nn.refusing import Reason
from safjax.nn.states import flat, join
from safjax.nn.training import Loss, value_and_grad
from safjax.rules import Rule


class Program(NamedTuple):
    """A compiled gradient, and the seconds that it took to compile."""

    compiled: Any
    seconds: float


class Programs:
    """The compiled gradient of each rule, on one net and batch."""

    def __init__(self, net: Any, x: Any, targets: tuple[Any, ...], loss: Loss, steps: int | None, key: Any):
        self._graph, *arrays = split_net(net)
        # A copy that nothing else uses up, on the device already.
        self._arrays = *arrays, *jax.device_put((x, targets)), key
        self._loss, self._steps = loss, steps
        self._compiled: dict[Rule, Program] = {}

    def verdicts(self, asked: dict[str, Rule]) -> tuple[Verdict, ...]:
        """What each rule says of the net."""
        params, rest, x, *_ = self._arrays
        leaves, structure = jax.tree.flatten(jax.eval_shape(lambda *a: a, params, rest, x))
        x64 = bool(jax.config.read("jax_enable_x64"))
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

    def _program(self, rule: Rule) -> Program:
        if rule not in self._compiled:
            began = time.perf_counter()
            compiled = _gradient_of(self._loss, rule, self._steps).lower(self._graph, *self._arrays).compile()
            self._compiled[rule] = Program(compiled, time.perf_counter() - began)
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

    def gradient(graph: Graph, params: Any, rest: Any, x: Any, targets: tuple[Any, ...], key: Any) -> tuple[Any, ...]:
        net = graph.merge(params, rest)
        (value, _), grads = compute(net, x, *targets, key=key)
        # What the net changes in itself belongs to the cost.
        return value, nnx.as_pure(grads), split_net(net)[2]

    return jax.jit(gradient, static_argnums=0)


@functools.lru_cache(maxsize=128)
def _verdicts(
    graph: Graph, structure: Any, leaves: tuple[Any, ...], steps: int | None, asked: tuple[Any, ...], x64: bool
) -> tuple[Any, ...]:
    params, rest, x = jax.tree.unflatten(structure, leaves)
    return verdicts_of(graph, (params, rest), x, steps, dict(asked))


def _temporary_bytes(compiled: Any) -> int | None:
    analysis = compiled.memory_analysis()
    return None if analysis is None else analysis.temp_size_in_bytes
