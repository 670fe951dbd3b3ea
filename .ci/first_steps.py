"""What a user does first, with nothing installed but the package: imports, a few steps of training, inference."""

import importlib
import importlib.metadata

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import safjax
from safjax.nn import LIF, LeakyReadout, Synapse

for name in ("data", "data.augment", "data.datasets", "losses", "models", "neurons", "nir", "nn", "ops", "rules"):
    importlib.import_module(f"safjax.{name}")
assert importlib.metadata.version("safjax") == safjax.__version__

hidden, last = (Synapse(nnx.Linear(n, m, rngs=nnx.Rngs(n))) for n, m in ((64, 32), (32, 10)))
net = nnx.Sequential(hidden, LIF(), last, LeakyReadout())
images, labels = 2 * jax.random.uniform(jax.random.key(0), (20, 64)), jnp.arange(20) % 10


def loss(output, labels):
    return optax.softmax_cross_entropy_with_integer_labels(output, labels).mean()


step = safjax.train_step(loss, safjax.rules.saf_f(), optax.adam(1e-2), steps=6)
state = step.init(net)
losses = []
for _ in range(10):
    net, state, (value, aux) = step(net, state, images, labels)
    losses.append(float(value))
assert losses[-1] < 0.8 * losses[0], losses
assert safjax.predict(net, images, steps=6).shape == (6, 20, 10)
print(f"safjax {safjax.__version__} of {safjax.__file__} trains: loss {losses[0]:.2f} to {losses[-1]:.2f} in ten steps")
