"""What each spiking layer adds to a drawing: the propagation that a net is bound to while it is written."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from safjax.messages import is_message
from safjax.neurons.recording import Pick
from safjax.nir.cells import draw_neurons, draw_readout
from safjax.nir.drawing import Drawing, Wire, refused
from safjax.nir.synapses import draw_synapse
from safjax.nn import AxonalDelay, Synapse
from safjax.nn.numbers import value_of
from safjax.rules.propagation import Course, Fired, SynapseFn
from safjax.rules.spikes import SpikePropagation


@dataclasses.dataclass(frozen=True)
class Drawn(SpikePropagation):
    """Adds the node of one layer to a drawing.

    Attributes:
      drawing: that of the net.
      path, layer: the layer, and where it is in the net.
    """

    drawing: Drawing = dataclasses.field(kw_only=True)
    path: str = dataclasses.field(kw_only=True)
    layer: Any = dataclasses.field(kw_only=True)

    def encode(self, state: Any, x: Any, course: Course) -> tuple[Any, Any]:
        if not is_message(x):
            raise refused(self.path, "is given an array that is not the net's input. NIR has no constant inputs.")
        return state, x

    def synapse(self, function: SynapseFn, weights: Any, *messages: Any) -> Any:
        del function, weights
        assert isinstance(self.layer, Synapse)
        return draw_synapse(self.drawing, self.path, self.layer.layer, messages)

    def start(self, current: Any, cell: Any, course: Course) -> Any:
        return ()

    def neuron(self, state: Any, current: Any, cell: Any, pick: Pick | None = None) -> Fired:
        # No spikes: what is reported of them is thrown away.
        return Fired(None, draw_neurons(self.drawing, self.path, cell, current), jnp.zeros((1,)))

    def recall(self, state: jax.Array, decay: float) -> Any:
        if _kept(self.path) in self.drawing.kept:
            # Kept in this step already, so that what comes back is of this step.
            return self.drawing.kept[_kept(self.path)]
        batch, *shape = jnp.shape(state)
        return Wire(self.drawing, ((_kept(self.path), 1),), tuple(shape), batch)

    def keep(self, state: Any, message: Any, decay: float) -> Any:
        self.drawing.kept[_kept(self.path)] = self.drawing.straight(self.path, message)
        return state

    def leaky_readout(self, state: Any, current: Any, decay: Any, course: Course) -> tuple[Any, Any]:
        if not isinstance(decay, jax.Array) and not isinstance(decay, int | float | np.ndarray):
            raise refused(self.path, "has a decay that is no number.")
        return None, draw_readout(self.drawing, self.path, current, decay)

    def instant_readout(self, state: Any, current: Any, decay: float, course: Course) -> tuple[Any, Any]:
        return None, dataclasses.replace(self.drawing.straight(self.path, current), final=True)


def _kept(path: str) -> str:
    """The name under which a drawing has what a `Delay` keeps, until it is known which nodes that is."""
    return f"\0{path}"


def draw_delay(drawing: Drawing, path: str, layer: AxonalDelay, wire: Wire) -> Wire:
    """The `Delay` of whole steps that axonal delays are in evaluation."""
    delays = value_of(layer.delays, (0, layer.max_delay)) if hasattr(layer.delays, "get_value") else layer.delays
    steps = np.round(np.asarray(delays, np.float64))
    return drawing.add(path, drawing.nir.Delay(wire.spread(steps) * drawing.dt), wire, order=wire.order)
