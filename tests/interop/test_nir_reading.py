"""What is read from a NIR graph computes what its equations say: every kind of node, against NumPy."""

import itertools
import random

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from tests.nets import assert_fires
from tests.nir_reference import Simulator

nir = pytest.importorskip("nir")
from safjax.nir import Convention, from_nir  # noqa: E402

pytestmark = pytest.mark.usefixtures("x64")

DT, STEPS, BATCH = 1e-3, 12, 2
DRAW = np.random.default_rng(0)
START = DRAW.bit_generator.state


@pytest.fixture(autouse=True)
def same_numbers():
    DRAW.bit_generator.state = START


def draw(*shape, low=0.0, high=1.0):
    return DRAW.uniform(low, high, shape)


def weights(out, *given):
    return DRAW.normal(0.3 / np.sqrt(np.prod(given)), 1.6 / np.sqrt(np.prod(given)), (out, *given))


def lif(*shape, **other):
    numbers = {
        "tau": draw(*shape, low=2e-3, high=8e-3),
        "r": draw(*shape, low=2, high=4),
        "v_leak": np.zeros(shape),
        "v_threshold": draw(*shape, low=0.6, high=1.0),
        "v_reset": draw(*shape, low=-0.2, high=0.2),
    }
    return nir.LIF(**{**numbers, **other})


def cuba(kind, *shape):
    numbers = {
        "tau_syn": draw(*shape, low=1.5e-3, high=4e-3),
        "tau_mem": draw(*shape, low=2e-3, high=8e-3),
        "r": draw(*shape, low=2, high=4),
        "v_leak": np.zeros(shape),
        "w_in": draw(*shape, low=2, high=4),
    }
    if kind is nir.CubaLIF:
        numbers |= {"v_threshold": draw(*shape, low=0.6, high=1.0), "v_reset": np.zeros(shape)}
    return kind(**numbers)


def chain(shape, **nodes):
    """A graph of nodes one after the other; NIR's own check infers shapes of such convolutions wrongly."""
    size = shape
    nodes = {"input": nir.Input({"input": np.array(shape)}), **nodes}
    nodes["output"] = nir.Output({"output": np.array(size)})
    names = list(nodes)
    return nir.NIRGraph(nodes, list(itertools.pairwise(names)), type_check=False)


def sized(graph, *shape):
    graph.nodes["output"].output_type = {"output": np.array(shape)}
    return graph


def inputs(*shape):
    """[T, B, *shape], channels first, of zeros and ones."""
    return (draw(STEPS, BATCH, *shape) < 0.5).astype(np.float64)


def last(x):
    """[T, B, C, ...] ↦ [T, B, ..., C]."""
    return jnp.asarray(np.moveaxis(x, 2, -1))


def check(graph, x, delayed=(), low=0.05, **options):
    """The net's records of all nodes equal NumPy's."""
    expected = Simulator(graph, DT, delayed).run(x)
    run = safjax.simulate(from_nir(graph, DT, **options), last(x))
    np.testing.assert_allclose(run.outputs, np.moveaxis(expected["output"], 2, -1), rtol=1e-10, atol=1e-12)
    spiking = {n for n, node in graph.nodes.items() if type(node).__name__ in ("LIF", "IF", "CubaLIF", "Threshold")}
    assert_fires({name: expected[name].mean() for name in spiking}, low)
    for name in spiking:
        np.testing.assert_array_equal(run.spikes[f"layers.{name}"], np.moveaxis(expected[name], 2, -1))


def images():
    """Rectangles and windows that are no squares, strides, padding, dilation, groups."""
    return sized(
        chain(
            (4, 9, 7),
            conv=nir.Conv2d((9, 7), weights(6, 2, 3, 2), (2, 1), (1, 2), (1, 2), 2, draw(6, low=-0.2, high=0.2)),
            lif=lif(6, 5, 9),
            sum=nir.SumPool2d(np.array([2, 3]), np.array([1, 2]), np.array([1, 0])),
            same=nir.Conv2d((6, 4), weights(3, 6, 2, 3) / 2, 1, "same", 1, 1, draw(3, low=-0.2, high=0.2)),
            cuba=cuba(nir.CubaLIF, 3, 6, 4),
            mean=nir.AvgPool2d(np.int64(2), np.int64(2), np.array([1, 0])),
            part=nir.Flatten(np.array([3, 4, 2]), 1, 2),
            kept=nir.Affine(3 * weights(15, 8).reshape(3, 5, 8), draw(3, 5)),
            whole=nir.Flatten(np.array([3, 5]), 0, -1),
            scale=nir.Scale(draw(15, low=0.5, high=2)),
            last=nir.LIF(*(np.full(15, v) for v in (3e-3, 2.0, 0.0, 0.8))),
        ),
        15,
    )


def test_images():
    check(images(), inputs(4, 9, 7))


def lines():
    """Along one axis; membranes that do not fire, thresholds of either sign, delays of each neuron."""
    return sized(
        chain(
            (3, 12),
            conv=nir.Conv1d(12, weights(4, 3, 3), 2, 1, 2, 1, draw(4, low=-0.1, high=0.2)),
            integrate=nir.IF(draw(4, 5, low=300, high=800), np.full((4, 5), 0.9), draw(4, 5, low=-0.1, high=0.1)),
            delay=nir.Delay(DT * DRAW.integers(0, 4, (4, 5))),
            flat=nir.Flatten(np.array([4, 5]), 0, -1),
            linear=nir.Linear(weights(6, 20)),
            leaky=nir.LI(draw(6, low=2e-3, high=6e-3), draw(6, low=1, high=2), draw(6, low=-0.2, high=0.3)),
            threshold=nir.Threshold(np.array([-0.05, 0.0, 0.1, 0.2, 0.25, 0.1])),
            affine=nir.Affine(weights(5, 6), draw(5)),
            cuba=cuba(nir.CubaLI, 5),
            sum=nir.I(draw(5, low=20, high=90)),
        ),
        5,
    )


def test_lines():
    check(lines(), inputs(3, 12), start="leak", low=0.02)


def loops():
    """Two layers that feed back to themselves and to each other, in sub-graphs, with an edge around."""
    inner = nir.NIRGraph(
        {
            "in": nir.Input({"input": np.array([6])}),
            "lif": lif(6),
            "w": nir.Affine(weights(6, 6), draw(6, low=-0.3, high=0.3)),
            "out": nir.Output({"output": np.array([6])}),
        },
        [("in", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "out")],
    )
    nodes = {
        "input": nir.Input({"input": np.array([5])}),
        "first": nir.Affine(weights(6, 5), draw(6, low=-0.5, high=0.2)),
        "block": inner,
        "if": nir.Linear(weights(4, 6)),
        "second": lif(4),
        "back": nir.Linear(weights(6, 4)),
        "around": nir.Linear(weights(4, 5)),
        "output": nir.Output({"output": np.array([4])}),
    }
    edges = [
        ("input", "first"), ("first", "block"), ("block", "if"), ("if", "second"), ("second", "output"),
        ("second", "back"), ("back", "block"), ("input", "around"), ("around", "output"),
    ]  # fmt: skip
    return nodes, edges


def flat_loops():
    """The same without sub-graph, for NumPy."""
    nodes, edges = loops()
    inner = nodes.pop("block")
    nodes |= {"block.lif": inner.nodes["lif"], "block.w": inner.nodes["w"]}
    edges = [(a.replace("block", "block.lif"), b.replace("block", "block.lif")) for a, b in edges]
    edges += [("block.lif", "block.w"), ("block.w", "block.lif")]
    return nir.NIRGraph(nodes, edges, type_check=False)


def test_loops_take_one_step_in_any_order_of_nodes_and_edges():
    x, outputs = inputs(5), []
    for seed in (None, 1):
        DRAW.bit_generator.state = START
        nodes, edges = loops()
        if seed is not None:
            names = random.Random(seed).sample(list(nodes), len(nodes))
            nodes, edges = {name: nodes[name] for name in names}, random.Random(seed).sample(edges, len(edges))
            nodes["block"].edges = nodes["block"].edges[::-1]
        outputs.append(safjax.predict(from_nir(nir.NIRGraph(nodes, edges, type_check=False), DT), jnp.asarray(x)))
    DRAW.bit_generator.state = START
    flat = flat_loops()
    expected = Simulator(flat, DT, [("block.w", "block.lif"), ("back", "block.lif")]).run(x)
    assert_fires({name: expected[name].mean() for name in ("block.lif", "second")})
    for found in outputs:
        np.testing.assert_allclose(found, expected["output"], rtol=1e-12)


def test_a_recurrent_bias_acts_at_the_first_step_where_it_is_said():
    """As in snnTorch: the loop's weights are given zeros before the first step."""
    graph = nir.NIRGraph(
        {
            "input": nir.Input({"input": np.array([3])}),
            "lif": nir.LIF(*(np.full(3, v) for v in (4e-3, 4.0, 0.0, 1.0))),
            "w": nir.Affine(np.zeros((3, 3)), np.array([2.0, 0.0, -2.0])),
            "output": nir.Output({"output": np.array([3])}),
        },
        [("input", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "output")],
    )
    x = jnp.zeros((3, 1, 3))
    for at_start, expected in ((False, [0, 1, 1]), (True, [1, 1, 1])):
        net = from_nir(graph, DT, like=Convention(bias_at_start=at_start))
        assert safjax.predict(net, x)[:, 0, 0].tolist() == expected


def test_neurons_that_answer_late_still_answer_their_own_weights_at_once():
    """A layer whose results come a step later, and nothing else."""
    nodes = {
        "input": nir.Input({"input": np.array([5])}),
        "first": nir.Affine(weights(6, 5), draw(6, low=-0.5, high=0.2)),
        "lif": lif(6),
        "w": nir.Affine(weights(6, 6), draw(6, low=-0.5, high=0.3)),
        "output": nir.Output({"output": np.array([6])}),
    }
    edges = [("input", "first"), ("first", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "output")]
    graph, x = nir.NIRGraph(nodes, edges), jnp.asarray(inputs(5))
    at_once, late = (
        safjax.predict(from_nir(graph, DT, like=Convention(answers_late=late)), x) for late in (False, True)
    )
    assert_fires({"lif": float(at_once.mean())})
    np.testing.assert_array_equal(late[1:], at_once[:-1])
    assert not np.any(late[0])


def test_a_leak_potential_starts_where_it_is_said():
    leaky = lif(4, v_leak=np.full(4, 0.4), v_threshold=np.full(4, 1.0), v_reset=np.full(4, -0.1))
    graph, x = chain((4,), lif=leaky), inputs(4)
    check(graph, x, start="leak")
    with pytest.raises(ValueError, match="LIF 'lif' has a v_leak of up to 0.4.*start='leak'"):
        from_nir(graph, DT)
    simulator = Simulator(graph, DT)
    simulator.state["lif"] = np.zeros((BATCH, 4))
    outputs = safjax.predict(from_nir(graph, DT, start="zero"), jnp.asarray(x))
    np.testing.assert_array_equal(outputs, simulator.run(x)["output"])


def test_a_number_for_all_neurons_is_spread():
    one = nir.LIF(*(np.array([v]) for v in (4e-3, 4.0, 0.0, 1.0)))
    many = nir.LIF(*(np.full(3, v) for v in (4e-3, 4.0, 0.0, 1.0)))
    x = jnp.asarray(inputs(3))
    outputs = [safjax.predict(from_nir(chain((3,), lif=node), DT), x) for node in (one, many)]
    np.testing.assert_array_equal(*outputs)
    assert 0.05 < float(outputs[0].mean()) < 0.6


def test_what_is_read_is_trained():
    """By online rules too, whose recurrent weights stand behind the delay."""
    nodes, edges = loops()
    nodes["block"].nodes["w"].bias = np.zeros(6)
    for node in (nodes["block"].nodes["lif"], nodes["second"]):
        node.tau, node.v_reset = np.full(node.tau.shape, 4e-3), np.zeros(node.tau.shape)
        node.r, node.v_threshold = np.full(node.tau.shape, 4.0), np.ones(node.tau.shape)
    graph = nir.NIRGraph(nodes, edges, type_check=False)
    x = jnp.asarray(inputs(5))
    net = from_nir(graph, DT, reset="subtract")
    (_, _), grads = safjax.value_and_grad(lambda o: jnp.mean(o**2), safjax.rules.ottt_a())(net, x)
    found = {"/".join(map(str, path)): float(jnp.abs(g).max()) for path, g in nnx.to_flat_state(nnx.as_pure(grads))}
    assert len(found) == 7 and min(v for k, v in found.items() if "kernel" in k) > 0


def test_the_net_says_how_it_wants_its_input():
    net = from_nir(images(), DT)
    with pytest.raises(ValueError, match=r"given a step of shape \[2, 4, 9, 7\], but expected is \['B', 9, 7, 4\]"):
        safjax.predict(net, jnp.ones((3, 2, 4, 9, 7)))
