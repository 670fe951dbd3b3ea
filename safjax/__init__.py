"""safjax: spiking neural networks, written once, trained by any learning rule.

    net = safjax.models.SpikingVGG(num_classes=10, rngs=nnx.Rngs(0))
    step = safjax.train_step(loss, safjax.rules.saf_f(), optax.sgd(0.1), steps=6)

What there is:

    train_step, value_and_grad    learning: one compiled call a batch, or the gradient alone
    fptt                          an optimizer that keeps to an average of the weights, for updates at every step
    check                         which rules train a net, and all that keeps the others from it
    compare                       the gradients of all rules on one net, beside exact ones
    predict, simulate             inference: the outputs of all steps, or every spike too
    stream                        inference one step at a time
    cost                          memory, kernels and operations of a step on an accelerator that is not here
    start, reset                  the state of a net at rest; members of a batch put back to it
    rules, nn, models, losses     learning rules; layers; published networks; losses of whole sequences
    surrogate, ops                spike functions and their slopes; convolution and pooling
    keep_memory                   on CPU: steps that do not ask the operating system for their memory anew
"""

from safjax import aot, losses, models, nn, ops, rules, surrogate
from safjax.allocation import keep_memory
from safjax.nn.check import check
from safjax.nn.compare import compare
from safjax.nn.costs import cost
from safjax.nn.fptt import fptt
from safjax.nn.inference import Simulation, predict, simulate
from safjax.nn.starting import start
from safjax.nn.streaming import Stream, stream
from safjax.nn.training import Aux, TrainStep, train_step, value_and_grad
from safjax.state import State, reset

__version__ = "0.1.0"
"""The one place of the version: the package's metadata read it from here."""

__all__ = [
    "Aux",
    "Simulation",
    "State",
    "Stream",
    "TrainStep",
    "aot",
    "check",
    "compare",
    "cost",
    "fptt",
    "keep_memory",
    "losses",
    "models",
    "nn",
    "ops",
    "predict",
    "reset",
    "rules",
    "simulate",
    "start",
    "stream",
    "surrogate",
    "train_step",
    "value_and_grad",
]
