"""Events of an eye and of an ear, a sequence each, meet in one layer; an answer, and one of the eye alone beside it."""

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn import LIF, InstantReadout, LeakyReadout, Synapse


class Meeting(nnx.Module):
    def __init__(self, seen, heard, features, rngs):
        self.seen = nnx.Linear(seen, features, kernel_init=nnx.initializers.normal(0.5), rngs=rngs)
        self.heard = nnx.Linear(heard, features, kernel_init=nnx.initializers.normal(0.5), rngs=rngs)

    def __call__(self, seen, heard):
        return self.seen(seen) + self.heard(heard)


class Net(nnx.Module):
    def __init__(self, rngs):
        kernel = nnx.initializers.normal(0.5)
        self.look = Synapse(nnx.Linear(12, 16, kernel_init=kernel, rngs=rngs))
        self.eye, self.both, self.neurons = LIF(), Synapse(Meeting(16, 8, 16, rngs)), LIF()
        self.aside, self.answer = (Synapse(nnx.Linear(16, 4, rngs=rngs)) for _ in range(2))
        self.one, self.all = InstantReadout(), LeakyReadout()

    def __call__(self, x):
        seen = self.eye(self.look(x["eye"]))
        return {
            "eye": self.one(self.aside(seen)),
            "all": self.all(self.answer(self.neurons(self.both(seen, x["ear"])))),
        }


STEPS = None
TRAINED_BY = (
    "saf_f", "saf_e", "ottt_a", "ottt_o", "approx_otpe", "bptt", "exodus", "slayer", "sltt", "stllr",
    "spike_representation", "ide", "rate_backprop", "ostl", "otpe", "eprop", "bptt(layerwise=True)",
    "rate_backprop(layerwise=True)",
)  # fmt: skip


def inputs():
    events = jax.random.bernoulli(jax.random.key(4), 0.4, (6, 3, 20)).astype(float)
    return {"eye": events[..., :12], "ear": events[..., 12:]}


def loss(output, labels):
    def cross_entropy(logits):
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(3), labels])

    return cross_entropy(output["all"]) + 0.3 * cross_entropy(output["eye"])
