"""Nets of ReLUs as spiking nets: rates tend to activations, accuracy stays, and few steps are learned."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax.nn import IF, LeakyReadout, Synapse
from safjax.ops import avg_pool

FEW = 4


def _pool(x):
    return avg_pool(x, (2, 2))


def _flat(x):
    return x.reshape(len(x), -1)


def loss(output, labels):
    return optax.softmax_cross_entropy_with_integer_labels(output, labels).mean()


@functools.cache
def digits():
    """((images, labels) to train on, those to test on), pixels from 0 to 1."""
    images, labels = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = jnp.asarray(images[order] / 16.0, jnp.float32).reshape(-1, 8, 8, 1), jnp.asarray(labels[order])
    return (images[:1400], labels[:1400]), (images[1400:], labels[1400:])


def trained(ann):
    """The same net, trained for a second."""
    optimizer = nnx.Optimizer(ann, optax.adam(0.01), wrt=nnx.Param)

    @nnx.jit
    def step(ann, optimizer, x, y):
        optimizer.update(ann, nnx.grad(lambda ann: loss(ann(x), y))(ann))

    images, labels = digits()[0]
    for at in batches(120):
        step(ann, optimizer, images[at], labels[at])
    ann.eval()
    return ann


def convolutional(rngs):
    norm = nnx.BatchNorm(8, momentum=0.8, rngs=rngs)
    block = nnx.Sequential(nnx.Conv(1, 8, (3, 3), rngs=rngs), norm, nnx.relu, _pool)
    hidden = nnx.Sequential(_flat, nnx.Linear(128, 32, rngs=rngs), nnx.relu, nnx.Dropout(0.1, rngs=rngs))
    return nnx.Sequential(block, hidden, nnx.Linear(32, 10, rngs=rngs))


def deep(rngs):
    hidden = [f for n in (64, 32, 32, 32) for f in (nnx.Linear(n, 32, rngs=rngs), nnx.relu)]
    return nnx.Sequential(_flat, *hidden, nnx.Linear(32, 10, rngs=rngs))


def batches(count):
    rng = np.random.default_rng(1)
    return (rng.choice(1400, 128, replace=False) for _ in range(count))


def accuracy(outputs):
    return float(jnp.mean(outputs.argmax(-1) == digits()[1][1]))


def of_steps(net, steps):
    return accuracy(safjax.predict(net, digits()[1][0], steps, outputs="last"))


def test_many_steps_are_as_good_as_the_net_itself():
    """Of a convolutional net with batch normalisation, average pooling and dropout."""
    ann = trained(convolutional(nnx.Rngs(0)))
    before, net = accuracy(ann(digits()[1][0])), safjax.convert(ann, digits()[0][0][:300])
    assert before > 0.93 and abs(of_steps(net, 64) - before) <= 0.01
    rates = {path: float(s.mean()) for path, s in safjax.simulate(net, digits()[1][0], 16).spikes.items()}
    assert list(rates) == ["layers.1", "layers.3"] and all(0.05 < rate < 0.6 for rate in rates.values()), rates


def test_few_steps_are_learned():
    """Four, in which three layers of neurons have coarse rates; saf_f goes on from the converted net."""
    images, labels = digits()[0]
    net = safjax.convert(trained(deep(nnx.Rngs(0))), images[:300], percentile=100)
    rates = [float(s.mean()) for s in safjax.simulate(net, images[:300], FEW).spikes.values()]
    assert len(rates) == 4 and all(0.05 < rate < 0.6 for rate in rates), rates
    lost = [loss(safjax.predict(net, images, FEW, outputs="last"), labels)]
    right = [of_steps(net, FEW)]
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, 150))
    step = safjax.train_step(loss, safjax.rules.saf_f(), optimizer, FEW)
    opt_state = step.init(net)
    for at in batches(150):
        net, opt_state, _ = step(net, opt_state, images[at], labels[at])
    lost.append(loss(safjax.predict(net, images, FEW, outputs="last"), labels))
    right.append(of_steps(net, FEW))
    assert lost[1] < 0.75 * lost[0] and right[1] > right[0] + 0.015, (lost, right)


def dense():
    rngs = nnx.Rngs(3)
    init = {"kernel_init": nnx.initializers.normal(0.5), "bias_init": nnx.initializers.normal(0.3), "rngs": rngs}
    return nnx.Sequential(
        nnx.Linear(6, 20, **init),
        nnx.relu,
        nnx.Linear(20, 15, **init),
        lambda x: 0.5 * x,
        nnx.relu,
        nnx.Linear(15, 3, **init),
    )


def test_rates_tend_to_activations():
    """θ / 2T in the first layer, O(1 / T) in those behind it, and in what is read out."""
    ann, x = dense(), jnp.asarray(np.random.default_rng(0).normal(0.3, 1.0, (40, 6)), jnp.float32)
    first = nnx.relu(ann.layers[0](x))
    second = nnx.relu(0.5 * ann.layers[2](first))
    net = safjax.convert(ann, x, percentile=100)
    errors = {}
    for steps in (16, 64, 256):
        run = safjax.simulate(net, x, steps)
        rates = [run.spikes[path].mean(0) for path in ("layers.1", "layers.3")]
        apart = [jnp.abs(a.max() * r - a) for a, r in zip((first, second), rates, strict=True)]
        assert float(apart[0].max()) <= float(first.max()) / (2 * steps) * (1 + 1e-3)
        errors[steps] = [float(e.mean()) for e in (*apart, jnp.abs(run.outputs[-1] - ann(x)))]
        assert all(0.05 < float(r.mean()) < 0.6 for r in rates)
    for few, many in ((16, 64), (64, 256)):
        assert all(b < 0.4 * a for a, b in zip(errors[few], errors[many], strict=True)), errors
    assert errors[256][2] < 0.02 * float(jnp.abs(ann(x)).mean())


def test_the_net_is_one_of_plain_spikes():
    ann, x = dense(), jnp.ones((2, 6))
    before = jax.tree.map(jnp.copy, nnx.state(ann))
    net = safjax.convert(ann, x)
    assert [type(layer) for layer in net.layers] == [Synapse, IF, Synapse, IF, Synapse, LeakyReadout]
    assert all((n.threshold, n.reset, n.scaled) == (0.5, 2.0, False) for n in (net.layers[1], net.layers[3]))
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(ann))


def _max(x):
    return nnx.max_pool(x[..., None], (2,), (2,))[..., 0]


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (_max, "'_max' at 'layers.1' contains max pooling.*avg_pool"),
        (nnx.gelu, "'gelu' at 'layers.1'.*nnx.relu itself"),
        (nnx.leaky_relu, "'leaky_relu' at 'layers.1'"),
        (lambda x: x + 1.0, "at 'layers.1' makes something else than 0 of 0.*bias"),
        (nnx.LayerNorm(6, rngs=nnx.Rngs(0)), "'LayerNorm' at 'layers.1' cannot be converted"),
    ],
)
def test_what_rates_cannot_follow_is_refused_by_name(layer, told):
    rngs = nnx.Rngs(0)
    ann = nnx.Sequential(nnx.Linear(6, 6, rngs=rngs), layer, nnx.relu, nnx.Linear(6, 2, rngs=rngs))
    with pytest.raises(ValueError, match=told):
        safjax.convert(ann, jnp.ones((2, 6)))


def test_mistakes():
    rngs, x = nnx.Rngs(0), jnp.ones((2, 6))
    with pytest.raises(TypeError, match=r"expected an nnx.Sequential.*given Linear"):
        safjax.convert(nnx.Linear(6, 2, rngs=rngs), x)
    with pytest.raises(ValueError, match=r"percentile=0"):
        safjax.convert(dense(), x, percentile=0)
    with pytest.raises(ValueError, match=r"ends at 'layers.1' without"):
        safjax.convert(nnx.Sequential(nnx.Linear(6, 2, rngs=rngs), nnx.relu), x)
    with pytest.raises(ValueError, match=r"Before the nnx.relu at 'layers.2' comes no layer with weights"):
        safjax.convert(nnx.Sequential(nnx.Linear(6, 2, rngs=rngs), nnx.relu, nnx.relu, nnx.Linear(2, 2, rngs=rngs)), x)
    with pytest.raises(ValueError, match=r"the nnx.relu at 'layers.1' have 0.0 for their 99.9th"):
        silent = nnx.Sequential(nnx.Linear(6, 6, use_bias=False, rngs=rngs), nnx.relu, nnx.Linear(6, 2, rngs=rngs))
        safjax.convert(silent, jnp.zeros((2, 6)))
