"""The state of a net at rest."""

import functools
from typing import Any

import jax
from flax import nnx

from safjax.nn.graphs import Graph, split_net
from safjax.nn.task import check_call, check_rule, one_step, started
from safjax.nn.verdicts import Trial, bound_or_advised
from safjax.rules import Rule, bptt
from safjax.state import State


def start(net: nnx.Module, x: Any, rule: Rule | None = None, steps: int | None = None) -> State:
    """The state of a net at rest, before the first step of a sequence; the same for training and inference.

        state = safjax.start(net, x, rule)
        (value, aux), grads = safjax.value_and_grad(loss, rule)(net, x, y, state=state)
        outputs = safjax.predict(net, x_next, state=aux.state)

    Args:
      net: a spiking net; left unchanged.
      x: inputs as the next call has them, of which only the shapes matter: a sequence [T, B, ...] of any length, or an
        image [B, ...] with `steps`.
      rule: what is to train the net. States of BPTT, SLTT, EXODUS and SLAYER, of inference, and of no rule are of one
        kind; OTTT's know traces too, those of SAF, SR and IDE accumulated spikes.
      steps: T of an image, or None.

    Raises:
      TypeError, ValueError: as of `safjax.value_and_grad`.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> net = nnx.Sequential(safjax.nn.LIF(), safjax.nn.LeakyReadout())
      >>> x, state = jnp.full((6, 2, 3), 0.6), safjax.start(net, jnp.ones((1, 2, 3)))
      >>> run = safjax.simulate(net, x[:2], state=state)
      >>> again = safjax.predict(net, x[2:], state=run.state)
      >>> bool(jnp.allclose(again, safjax.predict(net, x)[2:]))
      True
    """
    rule = bptt() if rule is None else rule
    check_rule(rule)
    check_call(net, x, steps, rule, jax.random.key(0))
    return _start(*split_net(net), x, rule, steps)


@functools.partial(jax.jit, static_argnums=(0, 4, 5))
def _start(graph: Graph, params: Any, rest: Any, x: Any, rule: Rule, steps: int | None) -> State:
    static = steps is not None
    trial = Trial(lambda: graph.merge(params, rest), one_step(x, static), steps or 1, static, going_on=True)
    return started(bound_or_advised(trial, rule, None))
