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
    export                        a trained net as programs that run without safjax
    convert                       a trained net of ReLUs as a spiking net
    start, reset                  the state of a net at rest; members of a batch put back to it
    rules, nn, models, losses     learning rules; layers; published networks; losses of whole sequences
    surrogate, ops                spike functions and their slopes; convolution and pooling
    keep_memory                   on CPU: steps that do not ask the operating system for their memory anew
"""

import importlib
import typing

from safjax import aot, losses, ops, rules, surrogate
from safjax.allocation import keep_memory
from safjax.state import State, reset

__version__ = "0.1.0"
"""The one place of the version: the package's metadata read it from here."""

if typing.TYPE_CHECKING:
    from safjax import models, nn
    from safjax.nn.check import check
    from safjax.nn.compare import compare
    from safjax.nn.convert import convert
    from safjax.nn.costs import cost
    from safjax.nn.export import export
    from safjax.nn.exported import Exported
    from safjax.nn.fptt import fptt
    from safjax.nn.inference import Simulation, predict, simulate
    from safjax.nn.results import Aux
    from safjax.nn.starting import start
    from safjax.nn.streaming import Stream, stream
    from safjax.nn.training import TrainStep, train_step, value_and_grad

__all__ = [
    "Aux",
    "Exported",
    "Simulation",
    "State",
    "Stream",
    "TrainStep",
    "aot",
    "check",
    "compare",
    "convert",
    "cost",
    "export",
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

_OF_FLAX = {
    "models": "safjax.models",
    "nn": "safjax.nn",
    "check": "safjax.nn.check",
    "compare": "safjax.nn.compare",
    "convert": "safjax.nn.convert",
    "cost": "safjax.nn.costs",
    "export": "safjax.nn.export",
    "Exported": "safjax.nn.exported",
    "fptt": "safjax.nn.fptt",
    **dict.fromkeys(("Simulation", "predict", "simulate"), "safjax.nn.inference"),
    "start": "safjax.nn.starting",
    **dict.fromkeys(("Stream", "stream"), "safjax.nn.streaming"),
    "Aux": "safjax.nn.results",
    **dict.fromkeys(("TrainStep", "train_step", "value_and_grad"), "safjax.nn.training"),
}
"""Where the names are that need Flax. They are imported when they are asked for, so that the core needs JAX alone."""

if not typing.TYPE_CHECKING:
    # Hidden from type checkers, to whom every name, misspelt ones too, would be one of these.
    def __getattr__(name: str) -> typing.Any:
        if name not in _OF_FLAX:
            raise AttributeError(f"module 'safjax' has no attribute '{name}'")
        module = importlib.import_module(_OF_FLAX[name])
        globals()[name] = found = module if module.__name__ == f"safjax.{name}" else getattr(module, name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
