"""Small nets, inputs and comparisons for the equivalence tests."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import safjax
from safjax import ops
from safjax.nn import LIF, Delay, LeakyReadout, Recurrent, Synapse, WSConv
from safjax.surrogate import Sigmoid

DTYPE = jnp.float64
STEPS, BATCH, CLASSES = 5, 3, 4


def loss(output, labels):
    """0.95 cross-entropy + 0.05 mean squared error to one-hot: a loss of one step, averaged over the batch."""
    one_hot = jax.nn.one_hot(labels, output.shape[-1], dtype=output.dtype)
    return 0.95 * optax.softmax_cross_entropy(output, one_hot).mean() + 0.05 * jnp.mean((output - one_hot) ** 2)


@functools.lru_cache(maxsize=256)
def value_and_grad(loss, rule, steps=None, **options):
    """One function for equal arguments, so that nets of one form share what is compiled."""
    return safjax.value_and_grad(loss, rule, steps, **options)


def labels():
    return jnp.arange(BATCH) % CLASSES


def _image(seed, size, channels):
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(-1.0, 3.0, (BATCH, size // 2, size // 2, channels))
    return coarse.repeat(2, 1).repeat(2, 2) + rng.normal(0, 0.2, (BATCH, size, size, channels))


def image(seed=0, size=6, channels=2):
    """A batch of images with power at low frequencies: pooling leaves their variance, so deep layers fire."""
    return jnp.asarray(_image(seed, size, channels), DTYPE)


def video(seed=0, steps=STEPS, size=6, channels=2):
    """A batch of image sequences x[T, B, H, W, C]."""
    return jnp.asarray(np.stack([_image(seed + 100 * t, size, channels) for t in range(steps)]), DTYPE)


class Dense(nnx.Module):
    """Two hidden layers with biases, dense."""

    def __init__(self, readout=LeakyReadout, decay=0.5, surrogate=Sigmoid(), sizes=(7, 9, 8), threshold=1.0, seed=0):  # noqa: B008
        rngs = nnx.Rngs(seed)
        a, b, c = sizes
        self.first = Synapse(_dense(a, b, rngs))
        self.lif1 = LIF(decay, threshold, surrogate)
        self.second = Synapse(_dense(b, c, rngs))
        self.lif2 = LIF(decay, threshold, surrogate)
        self.last = Synapse(_dense(c, CLASSES, rngs))
        self.readout = readout()

    def __call__(self, x):
        return self.readout(self.last(self.lif2(self.second(self.lif1(self.first(x))))))


def _dense(n_in, n_out, rngs):
    normal = nnx.initializers.normal
    return nnx.Linear(
        n_in, n_out, kernel_init=normal(1.5 / n_in**0.5), bias_init=normal(0.3), param_dtype=DTYPE, rngs=rngs
    )


# Functions of their own: two nets with one lambda each would not be of one form.
def _pooled(x):
    return 2.0 * ops.avg_pool(x, (2, 2))


def _flat(x):
    return x.reshape(x.shape[0], -1)


def _halved(x):
    return 0.5 * x


class Conv(nnx.Module):
    """A standardised and a plain convolution, both with bias, average pooling between them, dense readout."""

    def __init__(self, readout=LeakyReadout, decay=0.5):
        rngs = nnx.Rngs(1)
        pool = nnx.Sequential(_pooled, _conv(5, 6, rngs))
        self.first = Synapse(_randomised(WSConv(2, 5, param_dtype=DTYPE, rngs=rngs)))
        self.lif1 = LIF(decay)
        self.second = Synapse(pool)
        self.lif2 = LIF(decay)
        self.last = Synapse(nnx.Sequential(_flat, _dense(3 * 3 * 6, CLASSES, rngs)))
        self.readout = readout()

    def __call__(self, x):
        return self.readout(self.last(self.lif2(self.second(self.lif1(self.first(x))))))


def _conv(n_in, n_out, rngs):
    normal = nnx.initializers.normal
    return nnx.Conv(n_in, n_out, (3, 3), kernel_init=normal(0.45), bias_init=normal(0.3), param_dtype=DTYPE, rngs=rngs)


def _randomised(convolution):
    rng = np.random.default_rng(5)
    features = convolution.bias[...].shape
    convolution.bias[...] = jnp.asarray(rng.normal(0.2, 0.3, features), DTYPE)
    convolution.gain[...] = jnp.asarray(rng.uniform(0.7, 1.3, features), DTYPE)
    return convolution


class Block(nnx.Module):
    """A foreign residual block: currents in, currents out, with a projection on the shortcut."""

    def __init__(self, n_in, n_out, rngs):
        self.lif1, self.lif2 = LIF(), LIF()
        self.conv1, self.conv2 = Synapse(_conv(n_in, n_out, rngs)), Synapse(_conv(n_out, n_out, rngs))
        self.shortcut = Synapse(nnx.Conv(n_in, n_out, (1, 1), use_bias=False, param_dtype=DTYPE, rngs=rngs))

    def __call__(self, x):
        spikes = self.lif1(x)
        return 0.7 * self.conv2(self.lif2(self.conv1(spikes))) + self.shortcut(spikes)


class Residual(nnx.Module):
    """Two residual blocks whose stream of currents goes on to a readout without a last neuron."""

    def __init__(self, readout=LeakyReadout):
        rngs = nnx.Rngs(2)
        self.stem = Synapse(nnx.Sequential(_halved, _conv(2, 4, rngs)))
        self.blocks = nnx.List([Block(4, 5, rngs), Block(5, 4, rngs)])
        self.head = Synapse(nnx.Sequential(ops.global_avg_pool, _dense(4, CLASSES, rngs)))
        self.readout = readout()

    def __call__(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.readout(self.head(x))


class Hybrid(nnx.Module):
    """Stock nonlinear layers before a spiking part, and behind it unless that is said."""

    def __init__(self, readout=LeakyReadout, behind=True):
        rngs = nnx.Rngs(3)
        self.before = _conv(2, 3, rngs)
        self.synapse = Synapse(_conv(3, 4, rngs))
        self.lif = LIF()
        self.last = Synapse(nnx.Sequential(ops.global_avg_pool, _dense(4, 8 if behind else CLASSES, rngs)))
        self.readout = readout()
        self.after = _dense(8, CLASSES, rngs) if behind else None

    def __call__(self, x):
        x = nnx.relu(nnx.max_pool(self.before(x), (2, 2), (2, 2)))
        output = self.readout(self.last(self.lif(self.synapse(x))))
        return output if self.after is None else self.after(nnx.tanh(output))


def assert_fires(rates, low=0.05, high=0.6):
    """Every layer fires, so that an agreement of gradients means something."""
    bad = {path: float(rate) for path, rate in rates.items() if not low <= rate <= high}
    assert rates and not bad, f"silent or saturated layers: {bad}"


def assert_trees_close(actual, expected, rtol=1e-12, atol=None):
    """Leaf by leaf, relative to the largest entry of the expected leaf; same structure required, as plain arrays."""
    actual, expected = nnx.as_pure((actual, expected))
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True):
        # NumPy's, which compiles nothing.
        scale = float(np.abs(np.asarray(b)).max())
        assert scale > 0, f"{jax.tree_util.keystr(path)}: the expected gradient is zero, the comparison proves nothing"
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale if atol is None else atol, err_msg=str(path))


def distance(a, b):
    """Relative distance of two gradient trees."""
    a, b = _flattened(a), _flattened(b)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def cosine(a, b):
    a, b = _flattened(a), _flattened(b)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _flattened(tree):
    """All numbers of a tree, one after the other, in double precision: NumPy's, which compiles nothing."""
    return np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(nnx.as_pure(tree))])


class Feedback(nnx.Module):
    """Two convolutions; the last spikes go back to the first neurons, the first ones ahead to the readout.

    The first neurons also receive their own spikes through a recurrent convolution.
    """

    def __init__(self, readout=LeakyReadout, neuron=LIF, seed=4):
        rngs = nnx.Rngs(seed)
        self.first, self.second = Synapse(_conv(2, 4, rngs)), Synapse(_conv(4, 4, rngs))
        self.lif1, self.lif2 = Recurrent(neuron(), Synapse(_conv(4, 4, rngs))), neuron()
        self.back, self.delay = Synapse(_conv(4, 4, rngs)), Delay()
        self.head, self.ahead = (Synapse(_pooled_dense(4, rngs)) for _ in range(2))
        self.readout = readout()

    def __call__(self, x):
        one = self.lif1(self.first(x) + 0.5 * self.back(self.delay.recall()))
        two = self.lif2(self.second(one))
        self.delay.keep(two)
        return self.readout(self.head(two) + self.ahead(one))


def _pooled_dense(features, rngs):
    return nnx.Sequential(ops.global_avg_pool, _dense(features, CLASSES, rngs))
