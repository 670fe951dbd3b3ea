"""The training step of a run, for devices that need not be there."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.config import Config, ConfigError
from experiments.data import Shape
from experiments.distribution.devices import AXIS, Devices
from experiments.distribution.parallel import ParallelStep
from experiments.training.losses import mean_loss
from experiments.training.networks import build_net
from experiments.training.optimizers import make_optimizer
from safjax.aot import Call
from safjax.nn.graphs import split_net
from safjax.rules import RULES


class Step(NamedTuple):
    """A training step, and bytes of what stays in a device's memory from one to the next.

    Attributes:
      call: what is compiled.
      net: bytes of the net's variables.
      optimizer: of the optimizer's state.
    """

    call: Call
    net: int
    optimizer: int


def step_of(config: Config, shape: Shape, shown: int | None, devices: int) -> Step:
    """The step of a configuration on so many devices, of shapes alone: nothing is computed.

    Args:
      shape: what the net takes and gives.
      shown: for how many steps an image is shown; None where inputs are sequences of --steps.
      devices: among which the batch is divided.

    Raises:
      ConfigError: the batch cannot be divided among them, or the net does not suit the data.
    """
    size, rule = config.data.batch_size, RULES[config.training.method]()
    if size % devices:
        raise ConfigError(f"--batch-size={size} cannot be divided among {devices} devices into equal parts.")
    mesh = Mesh(np.array(jax.devices("cpu")[:devices]), (AXIS,))
    net = nnx.eval_shape(lambda: build_net(config.net, shape, config.training.seed))
    loss = functools.partial(mean_loss, mse_weight=config.training.loss_mse)
    assert config.data.steps is not None
    # How many batches there are changes a number in the program.
    optimizer = make_optimizer(config.training, rule, 1000 * config.training.epochs, config.data.steps)
    step = ParallelStep(loss, rule, optimizer, shown, Devices(mesh))
    graph, params, rest = split_net(net)
    opt_state = jax.eval_shape(step.init_of, params)
    whole, rows = PartitionSpec(), PartitionSpec(AXIS)
    images = shown is not None
    lead = (size,) if images else (config.data.steps, size)
    kind = jnp.float64 if config.net.precision == "float64" else jnp.float32
    x = jax.ShapeDtypeStruct((*lead, *shape.input_shape), kind)
    labels = jax.ShapeDtypeStruct((size,), jnp.int32)
    variables = _placed((params, rest, opt_state), mesh, whole)
    batch = _placed(x, mesh, rows if images else PartitionSpec(None, AXIS)), _placed(labels, mesh, rows)
    return Step(step.call_of((graph, *variables), *batch), _bytes((params, rest)), _bytes(opt_state))


def _placed(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    place = NamedSharding(mesh, spec)
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place), tree)


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
