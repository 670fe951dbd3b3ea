"""Entry points of training: the gradient of a spiking net under a rule, and the compiled training step."""

import functools
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
from flax import nnx

from safjax.aot import Call
from safjax.nn.binding import rest_of
from safjax.nn.carrying import handed_on
from safjax.nn.graphs import Graph, split_net, split_variables
from safjax.nn.intervals import kept_within
from safjax.nn.results import Aux, Gradient, made_aux, once
from safjax.nn.starting import start
from safjax.nn.task import check_arguments, check_call, check_optimizer, check_over, task_maker
from safjax.nn.used_up import mark_used_up, refuse_used_up, told_untaken
from safjax.rules import Rule
from safjax.state import State
from safjax.tally import Kept

Loss = Callable[..., jax.Array]
Net = TypeVar("Net", bound=nnx.Module)
_Array = jax.Array | None


def value_and_grad(
    loss: Loss,
    rule: Rule,
    steps: int | None = None,
    *,
    mean_over: int | None = None,
    outputs: Kept | None = None,
    record: Sequence[str] = (),
    rates: bool = True,
) -> Gradient:
    """The loss of a spiking net and its gradient under a learning rule; mirrors `jax.value_and_grad`.

        (value, aux), grads = safjax.value_and_grad(loss, rule, steps=6)(net, x, *targets)

    Args:
      loss: (output[B, ...], *targets) ↦ scalar, the mean over the batch of one step's loss. The value is its mean over
        the steps; under rules that look at the last step only, it is that step's.
      rule: from `safjax.rules`.
      steps: T for a static image x[B, ...], presented at every step; None for a sequence x[T, B, ...].
      mean_over: over how many steps the mean goes; None for those of a call. Of a sequence that comes in chunks, its
        whole length: then the gradients of the chunks add up to the whole sequence's. 1 takes each step's loss as it
        is.
      outputs: what is kept of the outputs, "all", "last" or "mean"; None for the last or the mean, as the loss looks
        at them.
      record: names of what is kept of every neuron at every step in `aux.records`, as of `safjax.simulate`. What a loss
        `WithRecords` asks for need not stand here.
      rates: whether `aux.rates` is kept, the neurons' firing rates. On accelerators that takes some kernels for each
        layer and step, which in small nets are a tenth of all and more.

    Returns:
      A compiled function of (net, x, *targets, key=None, state=None, lengths=None). Its gradients are an `nnx.State` of
      the form of nnx.state(net, nnx.Param), as of `nnx.grad`, under every rule; nnx.as_pure(grads) has plain arrays for
      leaves. `key` is for rules that draw at random, sltt(sampled=K). Without `state`, which `safjax.start` makes, the
      sequence begins at rest; with it the sequence goes on, and `aux.state` is for the next call. In a padded batch,
      `lengths` [B] says how many steps each member has: the loss is then taken of each member by itself, the mean over
      its own steps or that of its own last step; what stands beyond, be it NaN, changes nothing, and outputs there are
      0. Variables that the net itself changes (batch statistics, dropout counts) are updated in place; everything else
      of `net` is left as it is. JAX may differentiate the results once more, with respect to the state too: exactly
      under rules of spikes (BPTT, EXODUS, SLTT; under SLAYER with the reset for a constant), not at all under those
      that accumulate, nor where a net is computed layer by layer in segments.

    Raises:
      TypeError, ValueError: bad steps, inputs that do not fit them, a net that the rule cannot train; a rule that
        accumulates (OTTT, SAF, SR, IDE) is differentiated a second time, or given a sequence through a learned layer
        before the spiking part that stands in no `Synapse`.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import optax
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, LeakyReadout, Synapse
      >>> net = nnx.Sequential(Synapse(nnx.Linear(4, 2, rngs=nnx.Rngs(0))), LIF(), LeakyReadout())
      >>> loss = lambda output, target: jnp.mean((output - target) ** 2)
      >>> loss_and_grad = safjax.value_and_grad(loss, safjax.rules.saf_f(), steps=6)
      >>> (value, aux), grads = loss_and_grad(net, jnp.ones((3, 4)), jnp.zeros((3, 2)))
      >>> value.shape, aux.output.shape, list(aux.rates)
      ((), (3, 2), ['layers.1'])
      >>> grads["layers"][0]["layer"]["kernel"].shape
      (4, 2)

      With an `nnx.Optimizer`:
      >>> optimizer = nnx.Optimizer(net, optax.adam(1e-3), wrt=nnx.Param)
      >>> updates = optimizer.update(net, grads)
    """
    check_arguments(loss, rule, steps)
    check_over(mean_over, loss)
    task_of = task_maker(loss, rule, steps, mean_over, outputs, record, rates)

    @functools.partial(jax.jit, static_argnums=0)
    def compute(
        graph: Graph, params: Any, rest: Any, x: Any, targets: Any, key: _Array, state: State | None, lengths: _Array
    ) -> Any:
        bound, task = task_of((graph, params, rest), (x, targets, state, lengths))
        run, grads = rule.schedule.gradients(task, bound.params, key)
        aux = made_aux(run, task, rule, state and handed_on(bound, run.carry, bound.params, state))
        return once(rule, ((run.value, aux), grads, rest_of(bound, run.carry)))

    def compute_for(
        net: nnx.Module,
        x: Any,
        *targets: Any,
        key: jax.Array | None = None,
        state: State | None = None,
        lengths: jax.Array | None = None,
    ) -> tuple[tuple[jax.Array, Aux], nnx.State[Any, Any]]:
        check_call(net, x, steps, rule, key, state, lengths)
        graph, variables, arrays = split_variables(net)
        refuse_used_up(arrays)
        result, grads, rest = compute(graph, *arrays, x, targets, key, state, lengths)
        nnx.update(net, rest)
        # As `nnx.grad` has them: what is a parameter in the net is one in its gradient.
        return result, jax.tree.unflatten(jax.tree.structure(variables[0]), jax.tree.leaves(grads))

    return compute_for


class TrainStep:
    """A compiled training step; made by `train_step`."""

    def __init__(
        self,
        loss: Loss,
        rule: Rule,
        optimizer: Any,
        steps: int | None,
        mean_over: int | None = None,
        outputs: Kept | None = None,
        record: Sequence[str] = (),
        rates: bool = True,
    ):
        check_arguments(loss, rule, steps)
        check_optimizer(optimizer)
        check_over(mean_over, loss)
        task_of = task_maker(loss, rule, steps, mean_over, outputs, record, rates)
        self._optimizer, self._rule, self._steps = optimizer, rule, steps

        @functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2, 3))
        def update(
            graph: Any, params: Any, rest: Any, opt_state: Any, x: Any, targets: Any, key: Any, state: Any, lengths: Any
        ) -> Any:
            bound, task = task_of((graph, params, rest), (x, targets, state, lengths))
            learner = kept_within(optimizer, graph.merge(params, rest))
            run, params, opt_state = rule.schedule.train(task, bound.params, key, learner, opt_state)
            aux = made_aux(run, task, rule, state and handed_on(bound, run.carry, params, state))
            return once(rule, (params, rest_of(bound, run.carry), opt_state, (run.value, aux)))

        self._update = update
        self._made: dict[int, weakref.ref[jax.Array]] = {}
        self._before: list[weakref.ref[Any]] = []

    def init(self, net: nnx.Module) -> Any:
        """The optimizer's state for `net`."""
        return self.init_of(split_net(net)[1])

    def init_of(self, params: Any) -> Any:
        """The optimizer's state for parameters."""
        return self._optimizer.init(params)

    def start(self, net: nnx.Module, x: Any) -> State:
        """The net's state at rest, for inputs like x: `safjax.start` under this step's rule."""
        return start(net, x, self._rule, self._steps)

    def lower(
        self,
        net: nnx.Module,
        opt_state: Any,
        x: Any,
        *targets: Any,
        key: jax.Array | None = None,
        state: State | None = None,
        lengths: jax.Array | None = None,
    ) -> Any:
        """The lowered step, as of `jax.jit(f).lower(...)`: to read its memory and cost before running it."""
        call = self.call_of(net, opt_state, x, *targets, key=key, state=state, lengths=lengths)
        return call.jitted.lower(*call.arguments)

    def call_of(
        self,
        net: nnx.Module,
        opt_state: Any,
        x: Any,
        *targets: Any,
        key: jax.Array | None = None,
        state: State | None = None,
        lengths: jax.Array | None = None,
    ) -> Call:
        """The compiled function that a call runs, and its arguments; shapes may stand for arrays."""
        graph, params, rest = split_net(net)
        return Call(self._update, (graph, params, rest, opt_state, x, targets, key, state, lengths))

    def __call__(
        self,
        net: Net,
        opt_state: Any,
        x: Any,
        *targets: Any,
        key: jax.Array | None = None,
        state: State | None = None,
        lengths: jax.Array | None = None,
    ) -> tuple[Net, Any, tuple[jax.Array, Aux]]:
        """One step on one batch: (net, opt_state, x, *targets) ↦ (net, opt_state, (value, aux)).

        Without `state` every sequence begins at rest; with it the sequence goes on, and `aux.state` is for the next
        call. `lengths` is as of `value_and_grad`.
        """
        check_call(net, x, self._steps, self._rule, key, state, lengths)
        graph, variables, arrays = split_variables(net)
        made = len(self._made)
        used_up = jax.tree.map(self._ours, (*arrays, opt_state))
        self._before = told_untaken(arrays[0], self._before, self._made, made) if self._made else []
        params, rest, opt_state, result = self._update(graph, *used_up, x, targets, key, state, lengths)
        for used in variables:
            mark_used_up(used)
        self._made = {id(a): weakref.ref(a) for a in jax.tree.leaves((params, rest, opt_state))}
        return graph.merge(params, rest), opt_state, result

    def _ours(self, array: Any) -> Any:
        """An array that the last call made, and each but once; of any other, which somebody may still need, a copy."""
        made = self._made.pop(id(array), lambda: None)()
        if made is array:
            return array
        refuse_used_up(array)
        return jax.numpy.copy(array)


def train_step(
    loss: Loss,
    rule: Rule,
    optimizer: Any,
    steps: int | None = None,
    *,
    mean_over: int | None = None,
    outputs: Kept | None = None,
    record: Sequence[str] = (),
    rates: bool = True,
) -> TrainStep:
    """A training step, one compiled call a batch.

        step = safjax.train_step(loss, rule, optax.adam(1e-3), steps=6)
        opt_state = step.init(net)
        for x, y in batches:
            net, opt_state, (value, aux) = step(net, opt_state, x, y)

    A sequence that comes in chunks, or never ends, goes on from call to call with its state in your hands:

        step = safjax.train_step(loss, rule, optimizer, mean_over=1)
        state = step.start(net, x)
        for x, y in stream:
            net, opt_state, (value, aux) = step(net, opt_state, x, y, state=state)
            state = safjax.reset(aux.state, done)  # done[B]: these members begin anew

    Online rules give the gradient of the unbroken sequence, whatever the cuts; rules that look at the whole sequence
    take the state they are given for a constant, which is truncated back-propagation; rules of the last step take
    that of each call.

    Rules with an update at every time step (`ottt_o`, `saf_e`) apply the optimizer T times a call, with the gradient of
    L[t] / T each time, or of L[t] / mean_over, all inside the compiled loop.

    A returned net and optimizer state are used up by the next call: their buffers then hold the newer ones, and using
    them raises a RuntimeError. To keep one, best = copy.deepcopy(net). Arrays from elsewhere, those of the first net
    and of loaded parameters, are copied and stay as they were.

    Args:
      loss, rule, steps, mean_over, outputs, record, rates: as of `value_and_grad`.
      optimizer: an `optax.GradientTransformation`. One that asks for more than gradients (`optax.lbfgs`, `polyak_sgd`,
        `reduce_on_plateau`) is given the batch's loss, and the loss as a function of the parameters whose gradient is
        the rule's; at every time step where the update is there, then of L[t] / T. See `fptt` for one of those updates.

    Example:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, LeakyReadout, Synapse
      >>> net = nnx.Sequential(LIF(), Synapse(nnx.Linear(4, 2, rngs=nnx.Rngs(0))), LeakyReadout())
      >>> loss = lambda output, target: jnp.mean((output - target) ** 2)
      >>> step = safjax.train_step(loss, safjax.rules.ottt_o(), optax.sgd(0.1), steps=6)
      >>> opt_state, values = step.init(net), []
      >>> for _ in range(20):
      ...     net, opt_state, (value, aux) = step(net, opt_state, jnp.ones((3, 4)), jnp.full((3, 2), 0.4))
      ...     values.append(float(value))
      >>> values[-1] < 0.01 * values[0]
      True
    """
    return TrainStep(loss, rule, optimizer, steps, mean_over, outputs, record, rates)
