"""Data parallelism: every device runs the whole net on its part of the batch, and gradients are averaged in between.

For a loss that is a mean over the batch, the gradient is the mean of those of equal parts. Averaging them is the
optimizer's first act, so there is one exchange for each update, whatever the rule: once a batch, or at every time step
under the rules that update there. Between devices nothing else travels but firing rates and the loss, once a batch.
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
from safjax.rules import Rule

WHOLE, ROWS, TIME_AND_ROWS = PartitionSpec(), PartitionSpec(AXIS), PartitionSpec(None, AXIS)


def averaged(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The optimizer, given the mean over all devices of their gradients; its state has the same form."""

    def update(grads, state, params=None):
        return optimizer.update(jax.lax.pmean(grads, AXIS), state, params)

    return optax.GradientTransformation(optimizer.init, update)


class ParallelStep:
    """As `safjax.TrainStep`, on several devices, for a net whose only variables are its parameters.

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
        self._step = step = safjax.train_step(loss, rule, averaged(optimizer), steps)

        def local(graphdef, params, opt_state, x, labels):
            net, opt_state, (value, aux) = step(nnx.merge(graphdef, params), opt_state, x, labels)
            mean, rates = jax.lax.pmean((value, aux.rates), AXIS)
            return nnx.as_pure(nnx.state(net)), opt_state, aux.outputs, mean, rates

        @functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
        def update(graphdef, params, opt_state, x, labels):
            return _on_each(
                devices.mesh,
                functools.partial(local, graphdef),
                (WHOLE, WHOLE, _rows(steps), ROWS),
                (WHOLE, WHOLE, TIME_AND_ROWS, WHOLE, WHOLE),
            )(params, opt_state, x, labels)

        self._update = update

    def init(self, net: nnx.Module) -> tuple[nnx.Module, Any]:
        """A copy of the net, and the optimizer's state for it, on all devices."""
        graphdef, params = _parameters(net)
        placed = self._devices.replicate((params, self._step.init(net)))
        params, opt_state = jax.tree.map(jax.numpy.copy, placed)
        return nnx.merge(graphdef, params), opt_state

    def lower(self, net: nnx.Module, opt_state: Any, x: jax.Array, labels: jax.Array) -> Any:
        """The lowered step, as of `jax.jit(f).lower(...)`."""
        return self._update.lower(*_parameters(net), opt_state, x, labels)

    def __call__(
        self, net: nnx.Module, opt_state: Any, x: jax.Array, labels: jax.Array
    ) -> tuple[nnx.Module, Any, tuple[jax.Array, safjax.Aux]]:
        """One step on one batch; the net and the state given, both from here, are used up."""
        graphdef, params = _parameters(net)
        params, opt_state, outputs, value, rates = self._update(graphdef, params, opt_state, x, labels)
        return nnx.merge(graphdef, params), opt_state, (value, safjax.Aux(outputs, rates))


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def _predict(graphdef, params, x, steps, mesh):
    def local(params, x):
        return safjax.predict(nnx.merge(graphdef, params), x, steps)

    return _on_each(mesh, local, (WHOLE, _rows(steps)), TIME_AND_ROWS)(params, x)


def predict(net: nnx.Module, x: jax.Array, steps: int | None, devices: Devices) -> jax.Array:
    """As `safjax.predict`, of a batch that is divided among devices."""
    return _predict(*_parameters(net), x, steps, devices.mesh)


def _parameters(net: nnx.Module) -> tuple[Any, Any]:
    graphdef, params, *rest = nnx.split(net, nnx.Param, ...)
    if jax.tree.leaves(rest):
        raise NotImplementedError("variables that are not parameters would differ from device to device")
    return graphdef, nnx.as_pure(params)


def _on_each(mesh: Mesh, function: Callable, in_specs: Any, out_specs: Any) -> Callable:
    # Unchecked, a gradient stays that of the device's own part until it is averaged: checked, it would be summed over
    # the devices in every time step.
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def _rows(steps: int | None) -> PartitionSpec:
    """Where the batch axis of a net's input is: first in images, second in sequences."""
    return TIME_AND_ROWS if steps is None else ROWS
