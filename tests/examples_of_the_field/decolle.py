"""Deep continuous local learning: Kaiser, Mostafa & Neftci, "Synaptic plasticity dynamics for deep continuous local
learning (DECOLLE)", 2020. Its rule is `sltt()`, each layer with a fixed random readout and a loss of its own;
presynaptic filters and the refractory trace are what a `Delay` hands on, constants of each step."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn import Delay, InstantReadout, Neuron, Synapse, detach, fixed
from safjax.ops import max_pool
from safjax.surrogate import Surrogate


class FastSigmoid(Surrogate):
    def slope(self, x):
        return 1 / (10 * jnp.abs(x) + 1) ** 2


@dataclasses.dataclass(frozen=True)
class Step:  # s[t] = H(u[t])
    surrogate: Surrogate

    def start(self, current):
        return jnp.zeros_like(current)

    def step(self, state, current, detach_reset=False):
        return state, self.surrogate(current)


class Spike(Neuron):
    def cell(self):
        return Step(FastSigmoid())


class Filter(nnx.Module):  # P[t] = α P[t−1] + (1 − α) Q[t−1],   Q[t] = β Q[t−1] + (1 − β) s[t]
    def __init__(self, alpha, beta):
        self.alpha, self.beta, self.p, self.q = alpha, beta, Delay(), Delay()

    def __call__(self, s):
        q = self.q.recall()
        p = self.alpha * self.p.recall() + (1 - self.alpha) * q
        self.p.keep(p)
        self.q.keep(self.beta * q + (1 - self.beta) * s)
        return p


class Block(nnx.Module):  # u = W P + b + R,   R[t] = α_r R[t−1] − (1 − α_r) H(u[t−1]);   H(max u) goes on
    def __init__(self, layer, pool, alpha, beta, resting):
        self.filter, self.synapse, self.resting, self.rest = Filter(alpha, beta), Synapse(layer), resting, Delay()
        self.own, self.sent = Spike(), Spike()
        self.pool = Synapse(lambda u: max_pool(u, (pool, pool))) if pool > 1 else None

    def __call__(self, s):
        rest = self.rest.recall()
        u = self.synapse(self.filter(s)) + rest
        self.rest.keep(self.resting * rest - (1 - self.resting) * self.own(u))
        return self.sent(u if self.pool is None else self.pool(u))


def flat(x):
    return x.reshape(len(x), -1)


class Net(nnx.Module):
    def __init__(self, rngs, classes=4, alpha=0.9, beta=0.85, resting=0.65, **options):
        init = nnx.initializers
        strong = {"kernel_init": init.normal(0.8), "bias_init": init.constant(-0.1), **options}
        conv1, conv2 = (nnx.Conv(*size, (3, 3), rngs=rngs, **strong) for size in ((2, 5), (5, 6)))
        dense = nnx.Sequential(flat, nnx.Linear(54, 10, rngs=rngs, **{**strong, "bias_init": init.constant(0.2)}))
        layers = ((conv1, 2), (conv2, 1), (dense, 1))
        self.blocks = nnx.List([Block(layer, pool, alpha, beta, resting) for layer, pool in layers])
        local = [nnx.Linear(n, classes, rngs=rngs, **options) for n in (45, 54, 10)]
        self.local = nnx.List([Synapse(nnx.Sequential(flat, fixed(layer))) for layer in local])
        self.readouts = nnx.List([InstantReadout() for _ in layers])

    def __call__(self, x):
        outputs = []
        for block, local, readout in zip(self.blocks, self.local, self.readouts, strict=True):
            x = block(detach(x))
            outputs.append(readout(local(x)))
        return tuple(outputs)


STEPS = None
TRAINED_BY = ("bptt", "sltt")


def inputs():
    return jax.random.bernoulli(jax.random.key(5), 0.4, (9, 3, 6, 6, 2)).astype(float)


def smooth_l1(output, target):
    far = jnp.abs(output - target)
    return jnp.mean(jnp.where(far < 1, far**2 / 2, far - 0.5))


def loss(outputs, labels):
    return sum(smooth_l1(output, jax.nn.one_hot(labels, output.shape[-1])) for output in outputs)
