"""What a run's net does on a few test examples: its spikes and its energy."""

import functools
from typing import NamedTuple

import numpy as np
from flax import nnx

from experiments import energy
from experiments.config import Config
from experiments.config.settings import settings
from experiments.data import DataUnavailable
from experiments.distribution.devices import choose
from experiments.report.runs import Run
from experiments.training.feed import Batch
from experiments.training.losses import mean_loss
from experiments.training.trained import load_parameters
from experiments.training.trainer import make_feed
from safjax.rules import RULES


class Activity(NamedTuple):
    """What was seen.

    Attributes:
      classes: of the examples that were shown.
      spikes: of the layers from the input up, [T, examples, ...].
      inference: operations and energy of the synapses.
      training: MAC of a training step under the run's rule, an example.
    """

    classes: list[int]
    spikes: dict[str, np.ndarray]
    inference: energy.Inference
    training: float


def activity(run: Run, examples: int) -> Activity | str:
    """Shows the net that a run left some test examples; in words, why that cannot be."""
    if run.config is None:
        return "its configuration cannot be read"
    config = run.config.changed(devices=1, coordinator=None, processes=None, process=None)
    with settings(config.net.precision, config.run.quiet):
        try:
            net = load_parameters(run.path)
            feed = make_feed(config, choose(config.run, config.data.batch_size))
            return _seen(run, config, net, feed.some_test_examples(examples), feed.steps)
        except FileNotFoundError:
            return "it has saved no parameters yet"
        except DataUnavailable:
            return f"the data set {config.data.dataset} is not in {config.run.data_dir}"
        except (OSError, ValueError) as error:
            return str(error)


def _seen(run: Run, config: Config, net: nnx.Module, batch: Batch, steps: int | None) -> Activity:
    inputs, labels, _, lengths = batch
    inference = energy.inference(net, inputs, steps, lengths)
    loss, rule = functools.partial(mean_loss, mse_weight=config.training.loss_mse), RULES[config.training.method]()
    whole = energy.training_multiplications(net, loss, rule, inputs, labels, steps=steps, lengths=lengths)
    training = whole / len(labels)
    spikes = {layer: np.asarray(fired) for layer, fired in inference.spikes.items()}
    # From the input up, as the records have them.
    order = list(run.records[-1]["rates"]) if run.records else list(spikes)
    return Activity(np.asarray(labels).tolist(), {layer: spikes[layer] for layer in order}, inference, training)
