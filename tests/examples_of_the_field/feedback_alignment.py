"""Direct feedback alignment: fixed random matrices bring the output's error to each layer. Nøkland, "Direct feedback
alignment provides learning in deep neural networks", 2016; in spiking nets, Apolinario & Roy, "S-TLLR: STDP-inspired
temporal local learning rule for spiking neural networks", 2025, whose net this is."""

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn import LIF, InstantReadout, Synapse, detach, fixed
from safjax.ops import avg_pool
from safjax.ops.standardisation import standardise
from safjax.surrogate import Surrogate
from tests.examples_of_the_field.tess import Dampened, flattened, standardised


class FastSigmoid(Surrogate):
    def slope(self, x):
        return 1 / (100 * jnp.abs(x) + 1) ** 2


class WSLinear(nnx.Linear):
    def __init__(self, n_in, n_out, *, rngs, **options):
        super().__init__(n_in, n_out, rngs=rngs, **options)
        self.gain = nnx.Param(jnp.full(n_out, 3.0, self.kernel.dtype))

    def __call__(self, x):
        return x @ standardise(self.kernel[...], self.gain[...]) + self.bias[...]


class Net(nnx.Module):
    def __init__(self, rngs, classes=4, **options):
        random = {"use_bias": False, "kernel_init": nnx.initializers.normal(0.3), **options}
        self.conv1, self.conv2 = (Synapse(standardised(*size, rngs=rngs, **options)) for size in ((2, 5), (5, 6)))
        self.pool = Synapse(lambda x: avg_pool(x, (2, 2)))
        self.dense = Synapse(nnx.Sequential(flattened, WSLinear(54, 8, rngs=rngs, **options)))
        self.last, self.readout = Synapse(nnx.Linear(8, classes, rngs=rngs, **options)), InstantReadout()
        self.lif1, self.lif2, self.lif3 = (LIF(0.5, 0.6, psi) for psi in (Dampened(), Dampened(), FastSigmoid()))
        back = [fixed(nnx.Linear(n, classes, rngs=rngs, **random)) for n in (5 * 36, 6 * 9, 8)]
        self.back = nnx.List([Synapse(nnx.Sequential(flattened, layer)) for layer in back])

    def __call__(self, x):
        one = self.lif1(self.conv1(x))
        two = self.pool(self.lif2(self.conv2(detach(one))))
        three = self.lif3(self.dense(detach(two)))
        current = self.last(detach(three))
        for back, spikes in zip(self.back, (one, two, three), strict=True):
            current = current + back(spikes - detach(spikes))  # nothing but an error
        return self.readout(current)


STEPS = None
TRAINED_BY = (
    "saf_f", "saf_e", "ottt_a", "ottt_o", "approx_otpe", "bptt", "exodus", "slayer", "sltt", "stllr",
    "spike_representation", "ide", "rate_backprop", "bptt(layerwise=True)", "rate_backprop(layerwise=True)",
)  # fmt: skip


def inputs():
    return jax.random.bernoulli(jax.random.key(7), 0.5, (6, 3, 6, 6, 2)).astype(float)


def loss(output, labels):
    return -jnp.mean(jax.nn.log_softmax(output)[jnp.arange(len(labels)), labels])
