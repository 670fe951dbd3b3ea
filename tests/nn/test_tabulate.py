"""`nnx.tabulate` shows a spiking net, changes nothing, and where it fails leaves nothing broken behind."""

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import safjax
from safjax.models import SpikingVGG
from safjax.nn import (
    ALIF,
    LIF,
    PLIF,
    PSN,
    SPSN,
    BatchNorm,
    CurrentLIF,
    Delay,
    Dropout,
    LeakyReadout,
    NormalisedLIF,
    Recurrent,
    Refractory,
    StepWeights,
    Synapse,
)
from safjax.nn.module import SpikingModule

RNGS = nnx.Rngs(0)


def dense(inputs=3, outputs=3, **options):
    return Synapse(nnx.Linear(inputs, outputs, rngs=RNGS, **options))


class Feedback(nnx.Module):
    """What comes back is read before it is known."""

    def __init__(self):
        self.first, self.back = dense(), dense()
        self.lif, self.delay, self.readout = LIF(), Delay(), LeakyReadout()

    def __call__(self, x):
        spikes = self.lif(self.first(x) + self.back(self.delay.recall()))
        self.delay.keep(spikes)
        return self.readout(spikes)


class Residual(nnx.Module):
    """Blocks beside one another, sums, dropout."""

    def __init__(self):
        self.first, self.drop, self.readout = dense(), Dropout(0.5, rngs=RNGS), LeakyReadout(0.5)
        self.blocks = nnx.List([nnx.Dict(synapse=dense(), neurons=ALIF()) for _ in range(2)])

    def __call__(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = x + block["neurons"](block["synapse"](x))
        return self.readout(self.drop(x))


class Softened(nnx.Module):
    """A spike function that learns."""

    def __init__(self):
        self.width = nnx.Param(jnp.ones(()))

    def __call__(self, x):
        return jax.nn.sigmoid(x / self.width[...])


def sequential():
    pooled = nnx.Sequential(lambda x: x / 2, nnx.Linear(3, 4, dtype=jnp.bfloat16, rngs=RNGS))
    return nnx.Sequential(Synapse(pooled), LIF(surrogate=Softened()), Synapse(lambda x: x[:, :2]), LeakyReadout())


def normalised():
    """Layers in a synapse that are told of the time."""
    norms = [BatchNorm(3, over=over) for over in ("step", "time")]
    return nnx.Sequential(
        Synapse(nnx.Sequential(dense().layer, *norms, StepWeights(6))), NormalisedLIF(3), LeakyReadout()
    )


NETS = {
    "normalised": normalised,
    "sequential": sequential,
    "residual": Residual,
    "feedback": Feedback,
    "kinds": lambda: nnx.Sequential(LIF(), PLIF(), CurrentLIF(), Refractory(PLIF(), 2), LeakyReadout(0.5)),
    "recurrent": lambda: nnx.Sequential(dense(3, 4), Recurrent(LIF(), dense(4, 4)), LeakyReadout()),
    "parallel": lambda: nnx.Sequential(dense(), PSN(6, rngs=RNGS), dense(), SPSN(rngs=RNGS), LeakyReadout(0.5)),
}


def rows(net, x, **options):
    """{path: (type, inputs, outputs, ...)} of the table; of a cell of several lines, the last."""
    table = nnx.tabulate(net, x, console_kwargs={"width": 500, "force_terminal": False}, **options)
    found, path = {}, None
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("│┃\n").split("│")]
        if len(cells) > 3 and "Total" not in cells:
            path = cells[0] if cells[1] else path
            kept = found.get(path, [""] * len(cells))
            found[path] = [new or old for new, old in zip(cells, kept, strict=True)] if path in found else cells
    return {path: cells[1:] for path, cells in found.items()}


def written(a):
    return f"{a.dtype}[{','.join(map(str, a.shape))}]"


@pytest.mark.parametrize("name", NETS)
def test_shapes_are_those_of_the_simulation(name):
    net, x = NETS[name](), jnp.ones((2, 3))
    table = rows(net, x)
    run = jax.eval_shape(lambda x: safjax.simulate(net, x), jnp.ones((6, 2, 3)))
    assert len(run.spikes) >= 1
    for path, spikes in run.spikes.items():
        step = jax.ShapeDtypeStruct(spikes.shape[1:], spikes.dtype)
        assert table[path.replace(".", "/")][2] == written(step)
    (readout,) = (cells for cells in table.values() if cells[0] == "LeakyReadout")
    assert readout[2] == written(jax.ShapeDtypeStruct(run.outputs.shape[1:], run.outputs.dtype))
    inside = [m.neuron for _, m in nnx.iter_modules(net) if isinstance(m, Refractory)]
    called = [(path, m) for path, m in nnx.iter_modules(net) if isinstance(m, SpikingModule) and m not in inside]
    assert {"/".join(map(str, path)) for path, m in called if not isinstance(m, Delay)} <= set(table)


def test_parameters_are_counted():
    table = rows(sequential(), jnp.ones((2, 3)))
    assert table["layers/0"][0] == "Synapse" and table["layers/0"][3].startswith("16 ")
    assert table["layers/0/layer/layers/1"][3].startswith("16 ")
    assert table["layers/1/surrogate"][0] == "Softened" and table["layers/1"][3].startswith("1 ")
    back = rows(Feedback(), jnp.ones((2, 3)))["back"]
    assert back[1:3] == ["", ""] and back[3].startswith("12 "), "its shape is known after the first step"


def test_a_published_network():
    net = SpikingVGG(10, width=0.05, rngs=nnx.Rngs(0))
    table = rows(net, jnp.ones((2, 32, 32, 3)))
    count = sum(a.size for a in jax.tree.leaves(nnx.state(net, nnx.Param)))
    assert table[""][1:3] == ["float32[2,32,32,3]", "float32[2,10]"] and table[""][3].startswith(f"{count:,} ")


def test_flops_and_compiled_code():
    net, x = NETS["recurrent"](), jnp.ones((2, 3))
    assert int(rows(net, x, compute_flops=True)["layers/1/synapse/layer"][3]) > 0
    tables = []
    jax.jit(lambda x: tables.append(rows(net, x)) or x)(x)
    assert tables == [rows(net, x)]


def loss(output, target):
    return jnp.mean((output - target) ** 2)


@pytest.mark.parametrize("name", ["residual", "feedback"])
def test_the_net_stays_as_it_is(name):
    net, x = NETS[name](), jnp.ones((2, 3))
    graphdef, before = nnx.split(net)
    table = rows(net, x)
    assert rows(net, x) == table
    after = nnx.split(net)
    assert after[0] == graphdef and jax.tree.all(jax.tree.map(lambda a, b: a is b, after[1], before))
    with pytest.raises(RuntimeError, match="called by itself"):
        net(x)
    step = safjax.train_step(loss, safjax.rules.bptt(), optax.sgd(0.1), 4)
    trained, _, _ = step(net, step.init(net), x, jnp.ones((2, 3)))
    assert rows(trained, x) == table


class Broken(nnx.Module):
    """Fails in the call of its Synapse, or beside all spiking layers."""

    def __init__(self, inside):
        self.inside, self.plain = inside, nnx.Linear(5, 3, rngs=RNGS)
        self.synapse, self.lif = dense(5, 3), LIF()

    def __call__(self, x):
        return self.lif(self.synapse(x) if self.inside else self.plain(x))


@pytest.mark.parametrize("inside", [True, False])
def test_a_failure_breaks_no_other_net(inside):
    x, net = jnp.ones((2, 3)), Residual()
    table = rows(net, x)
    for after in (
        lambda: rows(net, x) == table,
        lambda: safjax.predict(net, x, 2 + inside).shape == (2 + inside, 2, 3),  # compiled anew
        lambda: rows(Feedback(), x)["lif"][0] == "LIF",
    ):
        with pytest.raises(TypeError, match="dot_general"):
            nnx.tabulate(Broken(inside), x)
        if inside:
            assert nnx.Linear(3, 2, rngs=RNGS)(x).shape == (2, 2)
        assert after()
    assert nnx.Linear(3, 2, rngs=RNGS)(x).shape == (2, 2)
    assert not nnx.Linear.__call__.__qualname__.startswith("_save_call_info")
