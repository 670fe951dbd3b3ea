"""Which functions mix the members of a batch: what is said of them, against what they do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from safjax import ops
from safjax.mixing import mixing_operation
from safjax.nn import WSConv

BATCH = 6


def rows():
    return jnp.asarray(np.random.default_rng(0).normal(size=(BATCH, 4)))


def images():
    return jnp.asarray(np.random.default_rng(0).normal(size=(BATCH, 4, 4, 3)))


def rngs():
    return nnx.Rngs(0)


def over_batch(x):
    """A convolution along the axis of the batch."""
    numbers = ("NWC", "WIO", "NWC")
    return jax.lax.conv_general_dilated(x.T[..., None], jnp.ones((3, 1, 1)), (1,), "SAME", dimension_numbers=numbers)


def own_kernels(x):
    """A kernel for each member, made of it."""

    def one(a):
        numbers = ("NHWC", "HWIO", "NHWC")
        kernel = a.mean() * jnp.ones((1, 1, 3, 3), a.dtype)
        return jax.lax.conv_general_dilated(a[None], kernel, (1, 1), "SAME", dimension_numbers=numbers)[0]

    return jax.vmap(one)(x)


def heads(x):
    """The batch is moved, merged with another axis and taken out again."""
    y = x.reshape(BATCH, 16, 3).transpose(2, 0, 1).reshape(3 * BATCH, 16)
    return (2 * y).reshape(3, BATCH, 16).transpose(1, 2, 0)


def sorted_and_back(x):
    order = jnp.argsort(x[:, 0])
    return jnp.tanh(x[order])[jnp.argsort(order)]


def doubled(x):
    y = jnp.tanh(jnp.concatenate([x, -x]))
    return y[:BATCH] + 2 * y[BATCH:]


MIXED = {
    "centred": (lambda x: x - x.mean(0), "a sum"),
    "scaled": (lambda x: x / jnp.abs(x).max(), "a maximum"),
    "normalised": (lambda x: (x - x.mean(0)) / x.std(0), "a sum"),
    "softmax": (lambda x: jax.nn.softmax(x, 0), "a maximum"),
    "the largest": (lambda x: jnp.where(x >= x.max(0), x, 0), "a maximum"),
    "place of the largest": (lambda x: jax.nn.one_hot(jnp.argmax(x, 0), BATCH).T, "an argmax"),
    "flat": (lambda x: (x.reshape(-1) - x.reshape(-1).mean()).reshape(x.shape), "a sum"),
    "rolled": (lambda x: jnp.roll(x, 1, 0), "an exchange"),
    "halves exchanged": (lambda x: jnp.concatenate([x[3:], x[:3]]), "an exchange"),
    "late": (lambda x: jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]]), "an exchange"),
    "reversed": (lambda x: x[::-1], "an exchange"),
    "differences": (lambda x: jnp.pad(x[1:] - x[:-1], ((0, 1), (0, 0))), "'sub'"),
    "sorted": (lambda x: jnp.sort(x, 0), "sorting"),
    "against the first": (lambda x: x - x[0], "'sub'"),
    "the last for all": (lambda x: jnp.broadcast_to(x[-1:], x.shape), "an exchange"),
    "the first in a product": (lambda x: x * x[:1], "'mul'"),
    "sums up to each": (lambda x: jnp.cumsum(x, 0), "cumsum"),
    "log-sums up to each": (lambda x: jax.lax.cumlogsumexp(x), "cumlogsumexp"),
    "sums by an associative scan": (lambda x: jax.lax.associative_scan(jnp.add, x), "'add'"),
    "sums in a loop": (
        lambda x: jax.lax.scan(lambda c, b: (c + b, c), jnp.zeros(4, x.dtype), x)[1],
        "a loop over them",
    ),
    "products": (lambda x: x @ (x.T @ x), "a matrix product"),
    "weights over the batch": (lambda x: jnp.ones((BATCH, BATCH)) @ x, "a matrix product"),
    "all pairs": (lambda x: x @ x.T, "an exchange"),
    "attention": (lambda x: jax.nn.softmax(x @ x.T) @ x, "a maximum"),
    "a convolution": (lambda x: over_batch(x)[..., 0].T, "a convolution"),
    "pooled": (lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, (3, 1), (1, 1), "SAME"), "pooling"),
    "in a function": (jax.jit(jax.checkpoint(lambda x: x - x.mean(0))), "a sum"),
    "in a choice": (lambda x: jax.lax.cond(x[0, 0] < 9, lambda x: x - x.mean(0), lambda x: x, x), "a sum"),
    "mapped over features": (lambda x: jax.vmap(lambda a: a - a.mean(), 1, 1)(x), "a sum"),
}
APART = {
    "flattened": lambda x: x.reshape(len(x), -1),
    "softmax": jax.nn.softmax,
    "centred": lambda x: x - x.mean(1, keepdims=True),
    "rolled": lambda x: jnp.roll(x, 1, 1),
    "sorted": lambda x: jnp.sort(x, 1),
    "rolled and back": lambda x: jnp.roll(jnp.tanh(jnp.roll(x, 1, 0)), -1, 0),
    "reversed and back": lambda x: jnp.tanh(x[::-1])[::-1],
    "sorted and back": sorted_and_back,
    "transposed and back": lambda x: (x.T * 2).T,
    "in two parts": lambda x: jnp.concatenate([jnp.tanh(x[:2]), x[2:]]),
    "twice": doubled,
    "one by one": lambda x: jnp.stack([jnp.tanh(x[i]) for i in range(len(x))]),
    "one by one in a loop": lambda x: jax.lax.map(lambda a: a - a.mean(), x),
    "some at a time": lambda x: jax.lax.map(lambda a: a - a.mean(), x, batch_size=2),
    "each by itself": jax.vmap(lambda a: a - a.mean()),
    "even and odd": lambda x: jnp.stack([x[::2], x[1::2]], 1).reshape(x.shape),
    "padded and cut": lambda x: jnp.pad(x, ((1, 3), (0, 0)))[1:7],
    "repeated": lambda x: jnp.repeat(x, 2, 0).reshape(BATCH, 2, 4).sum(1),
    "tiled": lambda x: jnp.tile(x, (2, 1)).reshape(2, BATCH, 4)[1],
    "merged": lambda x: (x.reshape(-1, 2) @ jnp.ones((2, 3))).reshape(BATCH, -1),
    "own products": lambda x: jnp.einsum("bi,ij,bj->b", x, jnp.ones((4, 4)), x)[:, None],
    "standardised weights": lambda x: x @ (jnp.eye(4) - jnp.eye(4).mean(0)),
    "dropout": lambda x: x * jax.random.bernoulli(jax.random.key(0), 0.5, x.shape),
    "chosen features": lambda x: x[jnp.arange(BATCH), jnp.zeros(BATCH, int)][:, None] + x[:, 1:2],
    "features by their order": lambda x: jnp.take_along_axis(x, jnp.argsort(x, 1), 1),
    "embedded": lambda x: jnp.arange(18.0).reshape(9, 2)[jnp.clip(4 * x + 4, 0, 8).astype(int)],
    "one set": lambda x: x.at[0].set(0),
    "any spike": lambda x: jax.lax.cond(jnp.any(x > 99), lambda x: x, lambda x: x, x),
    "weights in a loop": lambda x: jax.lax.scan(lambda c, w: (jnp.tanh(c @ w), None), x, jnp.ones((2, 4, 4)))[0],
}
OF_IMAGES = {
    "convolution": lambda: nnx.Conv(3, 4, (3, 3), rngs=rngs()),
    "grouped": lambda: nnx.Conv(3, 3, (3, 3), feature_group_count=3, rngs=rngs()),
    "transposed": lambda: nnx.ConvTranspose(3, 4, (2, 2), rngs=rngs()),
    "standardised": lambda: WSConv(3, 4, rngs=rngs()),
    "mapped": lambda: jax.vmap(nnx.Conv(3, 4, (3, 3), rngs=rngs())),
    "own kernels": lambda: own_kernels,
    "pooled": lambda: lambda x: nnx.max_pool(x, (2, 2), (2, 2)) + ops.avg_pool(x, (2, 2)),
    "mean of a map": lambda: ops.global_avg_pool,
    "normalised layers": lambda: nnx.LayerNorm(3, rngs=rngs()),
    "normalised groups": lambda: nnx.GroupNorm(3, num_groups=3, rngs=rngs()),
    "patches": lambda: lambda x: x.reshape(BATCH, 2, 2, 2, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(BATCH, 4, 12),
    "heads": lambda: heads,
    "resized": lambda: lambda x: jax.image.resize(x, (BATCH, 8, 8, 3), "linear"),
    "over time": lambda: lambda x: nnx.RNN(nnx.GRUCell(12, 5, rngs=rngs()))(x.reshape(BATCH, 4, 12)),
}


def attention():
    layer = nnx.MultiHeadAttention(num_heads=2, in_features=3, qkv_features=4, decode=False, rngs=rngs())
    return lambda x: layer(x.reshape(BATCH, 16, 3))


OF_IMAGES["attention over tokens"] = attention


def said(function, x):
    return mixing_operation(jax.make_jaxpr(function)(x), [True])


def mixes(function, x):
    """Whether the results of members change with another one."""
    call = jax.jit(function)
    first, last = (call(x.at[i].set(3 - x[i])) for i in (0, BATCH - 1))
    y = call(x)
    return not (np.array_equal(first[1:], y[1:]) and np.array_equal(last[:-1], y[:-1]))


@pytest.mark.parametrize("name", MIXED)
def test_mixed(name):
    function, how = MIXED[name]
    assert mixes(function, rows())
    assert how in said(function, rows())


@pytest.mark.parametrize("name", APART)
def test_kept_apart(name):
    assert not mixes(APART[name], rows())
    assert said(APART[name], rows()) is None


@pytest.mark.parametrize("name", OF_IMAGES)
def test_images_kept_apart(name):
    function = OF_IMAGES[name]()
    assert said(function, images()) is None
    # That is known, and not just unknown: behind it mixing is seen.
    behind = said(lambda x: function(x) - function(x).mean(0), images())
    assert behind == (None if name == "own kernels" else "a sum")


def test_what_is_not_known_is_not_called_mixed():
    """A loop of unknown length, a call to the host."""
    unknown = lambda x: jax.lax.while_loop(lambda x: x.sum() < 0, lambda x: x + 1, x)  # noqa: E731
    called = lambda x: jax.pure_callback(lambda x: x, x, x)  # noqa: E731
    for function in (unknown, called):
        assert said(function, rows()) is None
        assert said(lambda x: function(x) - x.mean(0), rows()) == "a sum"  # noqa: B023


def test_a_batch_of_one_is_not_mixed():
    assert said(lambda x: x - x.mean(0), rows()[:1]) is None
