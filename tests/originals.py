"""Nets of other libraries beside the same nets here: the weights are copied there, spikes and gradients compared."""

import functools
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from tests import nets


class Pair(NamedTuple):
    """Parameters here, the parameter there, and the linear map from the former to the latter."""

    ours: tuple[nnx.Param, ...]
    theirs: Any
    there: Callable[..., jax.Array]


class Original(NamedTuple):
    """A net of another library.

    Attributes:
      run: x[T, B, C, H, W] or x[T, B, C] ↦ (outputs[T, B, ...], [spikes of each layer of neurons, in order]).
      pairs: the parameters of both.
    """

    run: Callable
    pairs: list[Pair]


def same(ours, theirs):
    return Pair((ours,), theirs, lambda a: a)


def scaled(factor, ours, theirs):
    return Pair((ours,), theirs, lambda a: factor * a)


def convolution(ours, theirs):
    return [Pair((ours.kernel,), theirs.weight, lambda k: k.transpose(3, 2, 0, 1)), *_bias(ours, theirs)]


def dense(ours, theirs, image=None):
    """After an image [H, W, C] is flattened, inputs stand in another order there."""

    def there(kernel):
        if image is None:
            return kernel.T
        return kernel.reshape(*image, -1).transpose(3, 2, 0, 1).reshape(kernel.shape[1], -1)

    return [Pair((ours.kernel,), theirs.weight, there), *_bias(ours, theirs)]


def _bias(ours, theirs):
    return [] if ours.bias is None else [same(ours.bias, theirs.bias)]


def norm(ours, theirs):
    """Theirs learns the product of deviation and scale."""
    return [scaled(ours.deviation, ours.scale, theirs.weight), same(ours.bias, theirs.bias)]


def in_float64(net):
    """The net with all its numbers widened, and normalisations that are not all alike."""
    state = nnx.state(net)
    nnx.update(net, jax.tree.map(lambda a: a.astype(float) if jnp.issubdtype(a.dtype, jnp.floating) else a, state))
    rng = np.random.default_rng(0)
    for _, module in nnx.iter_modules(net):
        if isinstance(module, safjax.nn.BatchNorm):
            module.scale[...] = jnp.asarray(rng.uniform(0.8, 1.3, module.features))
            module.bias[...] = jnp.asarray(rng.normal(0.1, 0.1, module.features))
        if isinstance(module, safjax.nn.StepWeights):
            module.weight[...] = jnp.asarray(rng.uniform(0.8, 1.3, module.weight.shape))
        if isinstance(module, safjax.nn.Dropout):
            module.deterministic = True
    return net


def channels_first(x):
    """[T, B, ..., C] ↦ [T, B, C, ...]."""
    return np.moveaxis(np.asarray(x), -1, 2)


def compare(net, original, paths, x, steps, loss, their_loss, targets, detach_reset=False, close=1e-9):
    """Equal spikes in all layers, equal outputs, and the same gradient of a loss of all parameters.

    Args:
      paths: of the layers of neurons here, in the order of theirs.
      loss, their_loss: of (outputs, *targets), here as of `value_and_grad`.
    """
    torch = importlib.import_module("torch")
    for pair in original.pairs:
        values = np.asarray(pair.there(*(p[...] for p in pair.ours)))
        assert values.shape == tuple(pair.theirs.shape)
        pair.theirs.data = torch.tensor(values)
    rule = safjax.rules.bptt(layerwise=True, detach_reset=detach_reset)
    gradient = safjax.value_and_grad(loss, rule, steps, outputs="all", record=("spikes",))
    params = {id(v): path for path, v in nnx.iter_graph(net) if isinstance(v, nnx.Param)}
    compared = {id(p) for pair in original.pairs for p in pair.ours}
    assert compared == set(params), [path for key, path in params.items() if key not in compared]
    sequence = x if steps is None else jnp.broadcast_to(x, (steps, *x.shape))
    outputs, spikes = original.run(torch.tensor(channels_first(sequence)))
    expected = their_loss(outputs, *(torch.tensor(np.asarray(t)).long() for t in targets))
    expected.backward()
    (value, aux), grads = gradient(net, x, *targets)
    assert len(spikes) == len(paths) == len(aux.rates)
    for path, there in zip(paths, spikes, strict=True):
        there = np.moveaxis(there.detach().numpy(), 2, -1)
        np.testing.assert_array_equal(aux.records["spikes"][path], there, err_msg=path)
    nets.assert_fires(aux.rates)
    np.testing.assert_allclose(value, expected.item(), rtol=1e-6)
    _compare_gradients(original.pairs, params, nnx.as_pure(grads), close)


def _compare_gradients(pairs, params, grads, close):
    for pair in pairs:
        there = jnp.asarray(pair.theirs.grad.numpy())
        expected = jax.vjp(pair.there, *(p[...] for p in pair.ours))[1](there)
        for param, gradient in zip(pair.ours, expected, strict=True):
            path = params[id(param)]
            ours = functools.reduce(lambda tree, key: tree[key], path, grads)
            scale = float(jnp.abs(gradient).max())
            assert scale > 1e-10, f"{path}: a gradient of zero proves nothing"
            np.testing.assert_allclose(ours, gradient, rtol=close, atol=close * scale, err_msg=str(path))


def jelly():
    """Its modules of neurons, layers, surrogates and functions."""
    pytest.importorskip("spikingjelly")
    names = ("neuron", "layer", "surrogate", "functional")
    return [importlib.import_module(f"spikingjelly.activation_based.{name}") for name in names]


def watched(module, kind):
    """A module as what returns its outputs and the spikes of its neurons, of all steps at once."""
    functional = jelly()[3]
    functional.set_step_mode(module, "m")
    module = module.double()
    neurons = [m for m in module.modules() if isinstance(m, kind)]

    def run(x):
        spikes = []
        hooks = [m.register_forward_hook(lambda _m, _x, s: spikes.append(s)) for m in neurons]
        outputs = module(x)
        for hook in hooks:
            hook.remove()
        return outputs, spikes

    return run
