"""safjax: spiking neural networks, written once, trained by any learning rule.

net = safjax.models.SpikingVGG(num_classes=10, rngs=nnx.Rngs(0))
step = safjax.train_step(loss, safjax.rules.saf_f(), optax.sgd(0.1), steps=6)
"""

from safjax import losses, models, nn, ops, rules, surrogate
from safjax.nn.inference import Simulation, predict, simulate
from safjax.nn.training import Aux, TrainStep, train_step, value_and_grad

__all__ = [
    "Aux",
    "Simulation",
    "TrainStep",
    "losses",
    "models",
    "nn",
    "ops",
    "predict",
    "rules",
    "simulate",
    "surrogate",
    "train_step",
    "value_and_grad",
]
