"""Nets for rules that keep a derivative for each weight."""

from flax import nnx

from safjax.nn import ALIF, LIF, LeakyReadout, Recurrent, Synapse
from tests import nets

DENSE = {
    "ostl": ("recurrent, dropout", "filter, dropout, decays", "refractory"),
    "otpe": ("recurrent, dropout",),
    "eprop": ("two readouts",),
}
"""Of nets without convolutions, those that rules with a derivative for each weight train."""


def dense(n_in, n_out, rngs):
    return Synapse(nets._dense(n_in, n_out, rngs))


class Heard(nnx.Module):
    """Two layers, both of which the readout hears, so that e-prop teaches them."""

    def __init__(self):
        rngs = nnx.Rngs(2)
        self.first, self.lif = dense(7, 12, rngs), LIF(0.6)
        self.second, self.alif = dense(12, 9, rngs), Recurrent(ALIF(0.8), dense(9, 9, rngs))
        self.last, self.skip = dense(9, nets.CLASSES, rngs), dense(12, nets.CLASSES, rngs)
        self.readout = LeakyReadout(0.9)

    def __call__(self, x):
        one = self.lif(self.first(x))
        return self.readout(self.last(self.alif(self.second(one))) + self.skip(one))
