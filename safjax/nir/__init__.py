"""Nets as graphs of NIR, the neuromorphic intermediate representation, and graphs as nets.

    graph = safjax.nir.to_nir(net, x, dt=1e-4)
    net = safjax.nir.from_nir(nir.read("net.nir"), dt=1e-4, like="norse")

Pedersen et al., "Neuromorphic intermediate representation: a unified instruction set for interoperable brain-inspired
computing", Nature Communications 2024. Files are written and read by the package `nir`: pip install 'safjax[nir]'.

    to_nir, from_nir    a net as a graph; a graph as a net
    Convention, LIKE    how a graph's equations become steps, and how the libraries that write files do it
    ResetLost           warns of a reset that NIR has no field for
    Wired               the net that a graph becomes
    library             the package `nir`
"""

from safjax.nir.conventions import LIKE, Convention
from safjax.nir.library import library
from safjax.nir.net import Wired
from safjax.nir.reading import from_nir
from safjax.nir.writing import ResetLost, to_nir

__all__ = ["LIKE", "Convention", "ResetLost", "Wired", "from_nir", "library", "to_nir"]
