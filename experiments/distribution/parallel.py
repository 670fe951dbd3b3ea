"""Data parallelism: every device runs the whole net on its part of the batch, and gradients are averaged in between.

For a loss that is a mean over the batch, the gradient is the mean of those of equal parts. Averaging them is the
optimizer's first act, so there is one exchange for each update, whatever the rule: once a batch, or at every time step
under the rules that update there. Between devices nothing else travels but firing rates and the loss, once a batch, and
batch statistics. Of the variables of a net that are not learned,

    batch statistics    are those of its part on each device, and after each batch their mean on all. Those of
                        safjax.nn.BatchNorm(..., axis_name=AXIS) are of the whole batch, as on one device.
    random keys         are folded with the device's number while it runs the net: each draws for itself.
    counts              are the same on all.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import optax
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

import safjax
from experiments.distribution.devices import AXIS, Devices
from experiments.storage.arrays import is_key
from safjax.aot import Call
from safjax.nn.graphs import Graph, split_net
from safjax.rules import Rule
from safjax.schedules.schedule import for_optimizers, with_gradient

WHOLE, ROWS, TIME_AND_ROWS = PartitionSpec(), PartitionSpec(AXIS), PartitionSpec(None, AXIS)


def averaged(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The optimizer, given the mean over all devices of their gradients; its state has the same form.

    So are the value of the loss, and the loss as a function of the parameters, which some optimizers ask for.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def update(grads, state, params=None, *, value, value_fn, **_):
        def value_and_grad(params):
            return jax.lax.pmean(jax.value_and_grad(value_fn)(params), AXIS)

        grads, value = jax.lax.pmean(grads, AXIS), jax.lax.pmean(value, AXIS)
        return optimizer.update(grads, state, params, **for_optimizers(value, grads, with_gradient(value_and_grad)))

    return optax.GradientTransformationExtraArgs(optimizer.init, update)


class ParallelStep:
    """As `safjax.TrainStep`, on several devices.

    Args:
      loss, rule, optimizer, steps: as of `safjax.train_step`. The loss is a mean over the batch.
      devices: on which the net and the optimizer's state are kept whole, and batches divided.
    """

    def __init__(
        self,
        loss: Callable[..., jax.Array],
        rule: Rule,
        optimizer: optax.GradientTransformation,
        steps: int | None,
        devices: Devices,
    ):
        self._devices = devices
        self._step = step = safjax.train_step(loss, rule, averaged(optimizer), steps, outputs="all")

        def local(graph, params, rest, opt_state, x, labels, key, lengths):
            net = graph.merge(params, _own(rest, devices))
            net, opt_state, (value, aux) = step(net, opt_state, x, labels, key=key, lengths=lengths)
            _, params, after = split_net(net)
            mean, rates = jax.lax.pmean((value, _weighed(aux.rates, lengths)), AXIS)
            return params, jax.tree.map(_common, rest, after), opt_state, aux._replace(rates=rates), mean

        @functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2, 3))
        def update(graph, params, rest, opt_state, x, labels, key, lengths):
            return _on_each(
                devices.mesh,
                functools.partial(local, graph),
                (WHOLE, WHOLE, WHOLE, _rows(steps), ROWS, WHOLE, ROWS),
                (WHOLE, WHOLE, WHOLE, _SPECS, WHOLE),
            )(params, rest, opt_state, x, labels, key, lengths)

        self._update = update

    def init(self, net: nnx.Module) -> tuple[nnx.Module, Any]:
        """A copy of the net, and the optimizer's state for it, on all devices."""
        graph, *variables = split_net(net)
        placed = self._devices.replicate((variables, self._step.init(net)))
        variables, opt_state = jax.tree.map(jax.numpy.copy, placed)
        return graph.merge(*variables), opt_state

    def lower(
        self,
        net: nnx.Module,
        opt_state: Any,
        x: jax.Array,
        labels: jax.Array,
        key: jax.Array | None = None,
        lengths: jax.Array | None = None,
    ) -> Any:
        """The lowered step, as of `jax.jit(f).lower(...)`."""
        call = self.call_of((*split_net(net), opt_state), x, labels, key, lengths)
        return call.jitted.lower(*call.arguments)

    def init_of(self, params: Any) -> Any:
        """The optimizer's state for parameters."""
        return self._step.init_of(params)

    def call_of(
        self, learner: tuple[Graph, Any, Any, Any], x: Any, labels: Any, key: Any = None, lengths: Any = None
    ) -> Call:
        """The compiled function that a call runs, and its arguments; shapes may stand for arrays.

        Args:
          learner: a net as `split_net` has split it, and the optimizer's state.
        """
        return Call(self._update, (*learner, x, labels, key, lengths))

    def __call__(
        self,
        net: nnx.Module,
        opt_state: Any,
        x: jax.Array,
        labels: jax.Array,
        key: jax.Array | None = None,
        lengths: jax.Array | None = None,
    ) -> tuple[nnx.Module, Any, tuple[jax.Array, safjax.Aux]]:
        """One step on one batch; the net and the state given, both from here, are used up.

        The random time steps of sltt(sampled=K), which `key` gives, are the same on all devices. `lengths` [B] are as
        of `safjax.TrainStep`, divided among the devices as the labels are; rates are those of all steps of all members.
        """
        graph, params, rest = split_net(net)
        params, rest, opt_state, aux, value = self._update(graph, params, rest, opt_state, x, labels, key, lengths)
        return graph.merge(params, rest), opt_state, (value, aux)


_WHOLE: Any = WHOLE
_SPECS: Any = safjax.Aux(ROWS, TIME_AND_ROWS, _WHOLE, _WHOLE, _WHOLE)


def _weighed(rates: dict[str, jax.Array], lengths: jax.Array | None) -> dict[str, jax.Array]:
    """A device's firing rates, such that their mean over the devices is that over all steps of all members."""
    if lengths is None:
        return rates
    steps = jax.numpy.sum(lengths)
    share = steps / jax.lax.pmean(steps, AXIS)
    return {layer: (rate * share).astype(rate.dtype) for layer, rate in rates.items()}


def _own(rest: Any, devices: Devices) -> Any:
    """The variables with which a device begins: random keys folded with its number, all else as it is everywhere."""
    if devices.mesh.size == 1:
        return rest
    number = jax.lax.axis_index(AXIS)
    return jax.tree.map(lambda value: _folded(value, number) if is_key(value) else value, rest)


def _folded(keys: jax.Array, number: jax.Array) -> jax.Array:
    fold = jax.random.fold_in
    for _ in range(keys.ndim):
        fold = jax.vmap(fold, (0, None))
    return fold(keys, number)


def _common(before: jax.Array, after: jax.Array) -> jax.Array:
    """What all devices keep of a variable: the key that it was, the mean of real numbers, a count."""
    if is_key(before):
        return before
    return jax.lax.pmean(after, AXIS) if jax.numpy.issubdtype(after.dtype, jax.numpy.inexact) else after


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def _predict(graph, variables, x, steps, mesh, lengths):
    def local(variables, x, lengths):
        return safjax.predict(graph.merge(*variables), x, steps, lengths=lengths)

    return _on_each(mesh, local, (WHOLE, _rows(steps), ROWS), TIME_AND_ROWS)(variables, x, lengths)


def predict(
    net: nnx.Module, x: jax.Array, steps: int | None, devices: Devices, lengths: jax.Array | None = None
) -> jax.Array:
    """As `safjax.predict`, of a batch that is divided among devices."""
    graph, *variables = split_net(net)
    return _predict(graph, variables, x, steps, devices.mesh, lengths)


def _on_each(mesh: Mesh, function: Callable, in_specs: Any, out_specs: Any) -> Callable:
    # Unchecked, a gradient stays that of the device's own part until it is averaged: checked, it would be summed over
    # the devices in every time step.
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def _rows(steps: int | None) -> PartitionSpec:
    """Where the batch axis of a net's input is: first in images, second in sequences."""
    return TIME_AND_ROWS if steps is None else ROWS
