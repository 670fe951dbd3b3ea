"""A learned factor for each time step."""

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn.calls import layer_call
from safjax.nn.numbers import checked_whole
from safjax.nn.step_index import StepIndexed


class StepWeights(StepIndexed):
    """Multiplies the currents of each step by a learned weight of that step.

        y[t] = p[t] x[t],   p[t] one number, or one for each feature, the last axis

    Behind the batch normalisation of all steps this is TEBN, which gives scale and shift of each step a factor of their
    own; behind that of each step, with running statistics for each, it is BNTT:

        Synapse(nnx.Sequential(conv, BatchNorm(64, over="time"), StepWeights(T)))
        Synapse(nnx.Sequential(conv, BatchNorm(64, over="step", steps=T, use_scale=False, use_bias=False),
                               StepWeights(T, 64)))

    Duan et al., "Temporal effective batch normalization in spiking neural networks", NeurIPS 2022, where p is learned
    from 1; Kim & Panda, "Revisiting batch normalization for training low-latency deep spiking neural networks from
    scratch", 2021 (BNTT), with p[t] for each feature and no shift.

    An ordinary layer, to be put into a `Synapse`: [B, ..., features] to the same. Parameter: `weight` p [T] or
    [T, features], which starts at 1. Step by step the steps are counted in the state of the sequence: they go on from
    call to call and through a stream, for each member by itself after `safjax.reset`. Step T + 1 of a sequence that
    goes on, and all later ones, take p[T]. On a static image under rules that go layer by layer, what stands before it
    in the same synapse is computed for each step: give it a synapse of its own there.

    Args:
      steps: T, the most steps of a call.
      features: size of the last axis, for a weight for each feature; None for one number a step.
      param_dtype: dtype of the weights.

    Raises:
      ValueError: steps or features not whole numbers ≥ 1; when called, an input of another number of features.
      ValueError: when a rule meets the net: it accumulates, and so needs one map for all steps; a call has more than T
        steps; the layer stands outside of synapses, or is called twice in a step.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import InstantReadout, StepWeights, Synapse
      >>> weights = StepWeights(3)
      >>> weights.weight[...] = jnp.array([1.0, 0.5, 0.25])
      >>> net = nnx.Sequential(Synapse(weights), InstantReadout())
      >>> safjax.predict(net, jnp.ones((1, 1)), steps=3).ravel().tolist()
      [1.0, 0.5, 0.25]
    """

    def __init__(self, steps: int, features: int | None = None, *, param_dtype: jax.typing.DTypeLike = jnp.float32):
        self.steps = checked_whole(self, "steps", steps, "the most steps of a call")
        self.features = features
        if features is not None:
            checked_whole(self, "features", features, "the size of the input's last axis, or None")
        self.weight = nnx.Param(jnp.ones((steps,) if features is None else (steps, features), param_dtype))

    @layer_call
    def __call__(self, x: jax.Array, /) -> jax.Array:
        """x[B, ..., features] ↦ the same shape."""
        if self.features not in (None, x.shape[-1]) or x.ndim < (1 if self.features is None else 2):
            raise ValueError(
                f"StepWeights(features={self.features}) was given an array of shape {list(x.shape)}, but expected is "
                f"[B, ..., {self.features}]: the batch first, the features last."
            )
        rows, index = self.rows_and_steps(x)
        return (self.at(self.weight[...], index, rows) * rows).reshape(x.shape)
