"""Losses of what the neurons do: stacked layers, memory, and what is refused by name."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import safjax
from safjax import rules
from safjax.losses import SequenceLoss, WithRecords
from tests import nets
from tests.nn.test_layer_loops import Net, Unrolled, image
from tests.test_record_losses import CURRENTS, LOSS, STEPS, inputs, of_leaves, regularised

pytestmark = pytest.mark.usefixtures("x64")


def test_layers_stacked_in_one():
    """Of `nnx.scan` over layers the loss sees one array for all of them; with lengths that is refused."""
    loss = WithRecords(of_leaves, ("potential",))

    def run(net, rule, **options):
        sequence = jnp.stack([image() * (t % 3) for t in range(4)])
        (value, _), _ = safjax.value_and_grad(loss, rule)(net, sequence, nets.labels(), **options)
        return value

    def alone(output, records, labels):
        potentials = [jnp.stack([records["potential"][f"blocks.{i}.lif"] for i in range(2)])]
        return of_leaves(output, [records["potential"]["lif"], *potentials], labels)

    for rule in (rules.sltt(), rules.exodus()):
        stacked = run(Net(), rule)
        loss = WithRecords(alone, ("potential",))
        np.testing.assert_allclose(stacked, run(Unrolled(), rule), rtol=1e-12)
        loss = WithRecords(of_leaves, ("potential",))
        with pytest.raises(ValueError, match="the layers stacked at 'blocks.lif' record all members"):
            run(Net(), rule, lengths=jnp.full(nets.BATCH, 2))


def test_memory_does_not_grow_with_time():
    """What only the loss is given is not kept of every step."""

    def bytes_for(steps, record=()):
        net = nets.Dense()
        step = safjax.train_step(LOSS, rules.sltt(), optax.sgd(0.1), steps, record=record)
        lowered = step.lower(net, step.init(net), inputs()[0], nets.labels()).compile()
        memory = lowered.memory_analysis()
        return memory.temp_size_in_bytes + memory.output_size_in_bytes

    few, many, kept = bytes_for(8), bytes_for(800), bytes_for(800, ("spikes",))
    assert many - few < 1000
    assert kept - many > 800 * nets.BATCH * (9 + 8) * 8 - 1000


@pytest.mark.parametrize(
    ("make", "loss", "message"),
    [
        (rules.ottt_a, CURRENTS, "record 'current', but the rule 'ottt_a' gives weights.*take 'potential'"),
        (rules.saf_e, CURRENTS, "No layer of this net records 'current'.*know sums of currents"),
        (rules.spike_representation, LOSS, "record 'spikes', but the rule 'spike_representation' differentiates the l"),
        (rules.ide, LOSS, "record 'spikes', but the rule 'ide' differentiates the limit"),
        (rules.sltt, WithRecords(regularised, ("voltage",)), "No layer of this net records 'voltage'"),
    ],
)
def test_refused(make, loss, message):
    with pytest.raises(ValueError, match=message):
        safjax.value_and_grad(loss, make())(nets.Dense(), inputs(), nets.labels())


def test_refused_when_made():
    with pytest.raises(TypeError, match=r"is written WithRecords\(SequenceLoss\(f\)"):
        SequenceLoss(LOSS)
    with pytest.raises(TypeError, match="expected a function"):
        WithRecords(None)
    for record in ("spikes", (), (1,)):
        with pytest.raises(TypeError, match="expected a tuple of one name or more"):
            WithRecords(regularised, record)


def test_targets_that_do_not_fit_are_explained_as_ever():
    def loss(output, records, target):
        return jnp.mean((output - target) ** 2) + records["spikes"]["lif1"].mean()

    target = jnp.zeros((STEPS, nets.BATCH, 5))
    with pytest.raises(ValueError, match=r"safjax.losses.Timed\(y\)"):
        safjax.value_and_grad(WithRecords(loss), rules.sltt())(nets.Dense(), inputs(), target)
