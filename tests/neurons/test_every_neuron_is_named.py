"""No neuron of an installed library is left out: each is a line of the table, or named there with the reason."""

import importlib
import inspect

import pytest
from flax import nnx

from tests.neurons.own_lines import WITHOUT
from tests.neurons.test_other_libraries import LINES


def classes(library):
    """Public neurons of an installed library."""
    place = {"Spyx": "spyx.nn", "sinabs": "sinabs.layers", "norse": "norse.torch", "snnTorch": "snntorch._neurons"}
    module = pytest.importorskip(place.get(library, "spikingjelly.activation_based.neuron"))
    torch = library != "Spyx" and importlib.import_module("torch").nn.Module
    base = nnx.Module if library == "Spyx" else torch
    found = {name for name, one in vars(module).items() if inspect.isclass(one) and issubclass(one, base)}
    return {name for name in found if not name.startswith("_")}


LAYERS = {
    "snnTorch": {"LIF", "SpikingNeuron"},
    "SpikingJelly": set(),
    "norse": {"RegularizationCell"},
    "sinabs": {
        *("ChannelShift", "Cropping2dLayer", "FlattenTime", "UnflattenTime", "Img2SpikeLayer", "Sig2SpikeLayer"),
        *("Merge", "QuantizeLayer", "Repeat", "SpikingMaxPooling2dLayer", "StatefulLayer", "SumPool2d"),
    },
    "Spyx": {"ActivityRegularization", "Flatten", "PopulationCode", "Sequential", "SumPool"},
}
"""What is no neuron: layers, base classes and codes."""


@pytest.mark.parametrize("library", LAYERS)
def test_every_neuron_of_an_installed_library_is_in_the_table_or_named_with_the_reason(library):
    words = {name.split("(")[0].split()[1] for name in LINES if name.startswith(library)}
    found = {name for name in classes(library) if not name.endswith(("BaseNode", "Squeeze", "SqueezeMixin"))}
    found = {name for name in found - LAYERS[library] if "Recurrent" not in name}
    if library == "norse":
        # Each cell has a layer of the same name beside.
        found = {name for name in found if name.endswith("Cell") or name == "LIFCorrelation"}
    assert found == (words & found) | set(WITHOUT[library])
    assert not words & set(WITHOUT[library])
