"""What no net can be made of is refused by the node's name, with what to write instead."""

import itertools

import numpy as np
import pytest

nir = pytest.importorskip("nir")
from safjax.nir import Convention, from_nir  # noqa: E402

DT = 1e-3


def lif(n=3, **other):
    numbers = {"tau": 4e-3, "r": 4.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0, **other}
    return nir.LIF(**{key: np.full(n, float(value)) for key, value in numbers.items()})


def told(**metadata):
    node = lif()
    node.metadata = metadata
    return node


def graph(*nodes, shape=(3,), made=None, metadata=None, edges=None):
    """A chain called a, b, c ..., or with other edges."""
    named = {"input": nir.Input({"input": np.array(shape)}), **dict(zip("abcdefg", nodes, strict=False))}
    named["output"] = nir.Output({"output": np.array(made or shape)})
    names = list(named)
    edges = edges or list(itertools.pairwise(names))
    return nir.NIRGraph(named, edges, metadata=metadata or {}, type_check=False)


class Unknown:
    """A node that a later NIR may have."""

    def __init__(self):
        self.input_type = self.output_type = {"input": np.array([3])}
        self.metadata = {}


def square(**other):
    numbers = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": np.zeros(2), **other}
    return nir.Conv2d(
        (4, 4), np.ones((2, 3, 3, 3)), *(numbers[k] for k in ("stride", "padding", "dilation", "groups", "bias"))
    )


IMAGE = {"shape": (3, 4, 4), "made": (2, 2, 2)}
TWICE = nir.NIRGraph(
    {"i": nir.Input({"input": np.array([3])}), "o": nir.Output({"output": np.array([3])})}, [("i", "o")]
)
GRAPHS = {
    "an unknown node": (lambda: graph(Unknown()), {}, "node 'a' is of the kind Unknown.*Known are Affine"),
    "no time step": (lambda: graph(lif()), {"dt": None}, "no time step.*dt=1e-4"),
    "a time step of 0": (lambda: graph(lif()), {"dt": 0.0}, "a time step above 0"),
    "no reset": (lambda: graph(lif()), {"like": "snntorch"}, "LIF 'a'.*reset=\"late\""),
    "sinabs in seconds": (lambda: graph(lif()), {"like": "sinabs"}, "counts time in steps. Write dt=1"),
    "a writer nobody knows": (lambda: graph(lif()), {"like": "brian"}, "expected one of 'nir', 'snntorch'"),
    "a reset nobody knows": (lambda: graph(lif()), {"reset": "hard"}, "expected one of 'zero', 'subtract'"),
    "too short a constant": (
        lambda: graph(lif(tau=5e-4)),
        {},
        "LIF 'a' has a tau of 0.0005, shorter than .* dt = 0.001",
    ),
    "a constant below 0": (lambda: graph(lif(tau=-1)), {"like": Convention(decay="exp")}, "LIF 'a' has a tau of -1"),
    "an endless constant": (lambda: graph(lif(tau=np.inf)), {}, "tau of the LIF 'a' is not finite"),
    "a threshold of 0": (
        lambda: graph(lif(v_threshold=0)),
        {},
        "LIF 'a' has a threshold of 0 above its membrane at rest",
    ),
    "a threshold below 0": (lambda: graph(lif(v_threshold=-1, v_reset=-2)), {}, "'a' has a threshold of -1"),
    "one below v_leak": (
        lambda: graph(lif(v_leak=2)),
        {"start": "leak"},
        "'a' has a threshold of -1 above its membrane",
    ),
    "a reset above": (lambda: graph(lif(v_reset=1.5)), {}, "LIF 'a' is reset to a v_reset that is not below"),
    "v_reset to subtract": (
        lambda: graph(lif(v_reset=0.1)),
        {"reset": "subtract"},
        "LIF 'a' has a v_reset or v_leak other",
    ),
    "late and no memory": (lambda: graph(lif(tau=DT)), {"reset": "late"}, "LIF 'a' keeps 0 of its membrane"),
    "several and to 0": (
        lambda: graph(lif()),
        {"like": Convention(several=True)},
        "LIF 'a' has no counterpart.*max_spikes",
    ),
    "a start at v_reset": (
        lambda: graph(lif(v_reset=0.1)),
        {"like": "spikingjelly"},
        "LIF 'a' starts from its v_reset",
    ),
    "other shapes": (lambda: graph(lif(4)), {}, r"LIF 'a' is given what has the shape \[3\].*tau has the shape \[4\]"),
    "an output of its own": (lambda: graph(lif(), made=(4,)), {}, r"Output 'output' has the shape \[4\], but is given"),
    "a batch axis": (
        lambda: graph(nir.Linear(np.ones((3, 3))), shape=(1, 3)),
        {},
        r"Linear 'a' is given .* \[1, 3\].*norse leave the batch",
    ),
    "channels last": (
        lambda: graph(square(), shape=(4, 4, 3), made=(2, 2, 2)),
        {},
        r"Conv2d 'a' is given .*\[4, 4, 3\]",
    ),
    "same with strides": (
        lambda: graph(square(stride=2, padding="same"), **IMAGE),
        {},
        "Conv2d 'a' has padding 'same'",
    ),
    "a wide window": (lambda: graph(square(dilation=2), **IMAGE), {}, "window of the Conv2d 'a'.*does not fit"),
    "groups that do not divide": (
        lambda: graph(square(groups=3), **IMAGE),
        {},
        "Conv2d 'a' has weights .* in 3 groups",
    ),
    "a bias of another shape": (lambda: graph(square(bias=np.zeros(3)), **IMAGE), {}, "Conv2d 'a' has a bias"),
    "pooling of vectors": (lambda: graph(nir.SumPool2d(*np.ones((3, 2), int))), {}, r"SumPool2d 'a' is given .*\[3\]"),
    "axes that are not there": (
        lambda: graph(nir.Flatten(np.array([3, 4]), 1, 2), shape=(3, 4), made=(12,)),
        {},
        "the Flatten 'a' is to join",
    ),
    "half a step": (lambda: graph(nir.Delay(np.full(3, 0.5 * DT))), {}, "Delay 'a' is 0.0005 long, which is 0.5 steps"),
    "a delay in a loop": (
        lambda: graph(
            lif(), nir.Delay(np.full(3, DT)), edges=[("input", "a"), ("a", "b"), ("b", "a"), ("a", "output")]
        ),
        {},
        "Delay 'b' lies in a loop",
    ),
    "two ways into a loop": (
        lambda: graph(
            lif(),
            lif(),
            edges=[("input", "a"), ("input", "b"), ("a", "b"), ("b", "a"), ("a", "output")],
        ),
        {},
        "loop of 'a', 'b' is entered at more than one node",
    ),
    "nothing leads to it": (lambda: graph(lif(), lif(), edges=[("input", "a"), ("a", "output")]), {}, "to the LIF 'b'"),
    "no way out": (lambda: graph(lif(), edges=[("input", "a")]), {}, "to the Output 'output'"),
    "an edge to nowhere": (lambda: graph(lif(), edges=[("input", "z"), ("a", "output")]), {}, "there is no node 'z'"),
    "an edge twice": (
        lambda: graph(lif(), edges=[("input", "a"), ("input", "a"), ("a", "output")]),
        {},
        "'input' to 'a' is listed twice",
    ),
    "two inputs": (lambda: graph(nir.Input({"input": np.array([3])})), {}, "2 nodes of kind Input: 'input', 'a'"),
    "a way past a sub-graph": (lambda: graph(TWICE), {}, "sub-graph 'a' leads from its input to its output"),
    "sums of other shapes": (
        lambda: graph(
            nir.Linear(np.ones((4, 3))),
            lif(),
            edges=[("input", "a"), ("input", "b"), ("a", "b"), ("b", "output")],
        ),
        {},
        r"what leads to 'b' differs in shape.*'a' \[4\], 'input' \[3\]|'input' \[3\], 'a' \[4\]",
    ),
    "metadata of nonsense": (lambda: graph(told(reset="soft")), {}, "metadata of 'a' say reset = 'soft'"),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_graphs(case):
    make, options, words = GRAPHS[case]
    with pytest.raises(ValueError, match=words):
        from_nir(make(), **{"dt": DT, **options})


def test_what_is_no_graph():
    with pytest.raises(TypeError, match="expected a nir.NIRGraph"):
        from_nir("net.nir", DT)
    with pytest.raises(TypeError, match="the name of a library"):
        from_nir(graph(lif()), DT, like=3)


def test_a_convention_of_choices_that_there_are_not():
    with pytest.raises(ValueError, match=r"Convention\(gain='two'\): expected one of 'file'"):
        Convention(gain="two")
