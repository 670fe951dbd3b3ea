"""Batch normalisation by the statistics of all time, for training and inference alike."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from safjax.mixing import apart
from safjax.nn.batch_norm import BatchNorm
from safjax.nn.batch_norm_arguments import checked_ratio
from safjax.nn.calls import layer_call
from safjax.nn.layout import layout_in_synapse
from safjax.nn.module import NeuronState, owned
from safjax.precision import widened
from safjax.standing_in import with_gradient_of


class OfSequence(NamedTuple):
    """What a sequence is normalised by, and its own statistics so far.

    Attributes:
      mean, var: the running statistics at its start.
      seen: how many steps it has had.
      own_mean, own_var: mean and variance of these.
    """

    mean: jax.Array
    var: jax.Array
    seen: jax.Array
    own_mean: jax.Array
    own_var: jax.Array


class OnlineBatchNorm(BatchNorm):
    """Batch normalisation of currents by the statistics of all time: the same affine map in training and in evaluation.

        y[t] = γ (x[t] − m) / √(v + ε) + β,      m, v the running statistics at the start of the sequence

    Those of the sequence itself, over batch, space and its T steps, enter m and v for the next one:

        m ← ν m + (1 − ν) (1/T) Σ_t μ[t],   v ← ν v + (1 − ν) ((1/T) Σ_t (σ²[t] + μ[t]²) − ((1/T) Σ_t μ[t])²)

    So no step needs to know later ones, or the batch it is in. The gradient goes through the statistics of the step,
    μ[t] and σ²[t], as that of ordinary batch normalisation does. With g = dL/dy[t], s = √(σ²[t] + ε), ŝ = √(v + ε) and
    means over batch and space,

        dL/dx[t] = (γ/ŝ) (g − mean g − (x − μ)/s² · mean(g (x − μ))),   dL/dβ = Σ g
        dL/dγ = Σ g ((x − μ)/s + (μ − m)/ŝ)

    where dL/dγ is that of the published code; the derivative of y by γ has ŝ in the place of s. Of a feature for which
    ŝ/s is above R or below 1/R, as in the first batches it may be, the step is normalised by its own μ[t] and σ²[t],
    also forward.

    Zhu, Ding, Huang, Xie & Yu, "Online stabilization of spiking neural networks", ICLR 2024 (OSR), which trains with
    sltt(). It trains under bptt() too, and layer by layer with the same numbers: bptt(layerwise=True), exodus(),
    slayer(). After `net.eval()` m and v stay as they are, and rules that accumulate (OTTT, SAF, SR) train as well.

    Where a sequence goes on from call to call, it is normalised by the m and v of its start, and after each call those
    of the net have taken in the steps so far. As they are of the whole batch, `safjax.reset` cannot put some of its
    members back to the start.

    Args:
      features, momentum, epsilon, use_bias, use_scale, use_running_average, axis_name, dtype, param_dtype: as of
        `BatchNorm`; momentum ν and ε are by default as published.
      ratio: R > 1; 20 as published for images, 50 for events.

    Raises:
      TypeError, ValueError: an argument is none of these; when called, as of `BatchNorm`.
      ValueError: in training, when a rule meets the net: one that accumulates, or differentiates means over time; it
        stands outside of a `Synapse`; two calls in one time step; members with lengths of their own.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, LeakyReadout, OnlineBatchNorm, Synapse
      >>> dense = nnx.Linear(4, 2, use_bias=False, rngs=nnx.Rngs(0))
      >>> net = nnx.Sequential(Synapse(nnx.Sequential(dense, OnlineBatchNorm(2))), LIF(), LeakyReadout())
      >>> x, before = jnp.arange(60.0).reshape(5, 3, 4) % 7, nnx.clone(net)
      >>> (value, aux), grads = safjax.value_and_grad(jnp.mean, safjax.rules.sltt(), outputs="all")(net, x)
      >>> before.eval()
      >>> bool(jnp.allclose(aux.outputs, safjax.predict(before, x)))
      True
    """

    def __init__(
        self,
        features: int,
        *,
        momentum: float = 0.9,
        epsilon: float = 1e-4,
        ratio: float = 20.0,
        use_bias: bool = True,
        use_scale: bool = True,
        use_running_average: bool = False,
        axis_name: str | None = None,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
    ):
        super().__init__(
            features,
            over="step",
            momentum=momentum,
            epsilon=epsilon,
            use_bias=use_bias,
            use_scale=use_scale,
            use_running_average=use_running_average,
            axis_name=axis_name,
            dtype=dtype,
            param_dtype=param_dtype,
        )
        self.ratio = checked_ratio(self, ratio)

    @layer_call
    def __call__(self, x: jax.Array, /) -> jax.Array:
        """x[B, ..., features] ↦ the same shape."""
        self.refuse_shape(x)
        if self.use_running_average:
            return self._evaluated(x)
        binding = self.bound()
        if (reason := self._reason()) is not None:
            binding.refuse(reason)
            return self._evaluated(x)
        layout = self._layout(x)
        self.once()
        rows = x.reshape(layout.held, -1, *x.shape[1:])
        mean, var = self._statistics(rows)
        of_sequence = self._begun()
        result = self._of_both(rows, of_sequence, mean, var).reshape(x.shape)
        self._take_in(of_sequence, mean.reshape(-1, self.features), var.reshape(-1, self.features), layout.meant)
        return result if binding.discovering is None else apart(result)

    def _reason(self) -> str | None:
        """Why it cannot be trained here."""
        binding = self.bound()
        if layout_in_synapse() is None:
            return f"{self._name()} stands outside of a Synapse, where no step is told from another. Put it into one."
        if not binding.propagation.accumulates and binding.propagation.one_map is None:
            return None
        does = binding.propagation.one_map or "sends sums over time through a synapse"
        return (
            f"{self._name()} is in training, where the gradient goes through the statistics of each step's currents. "
            f"The rule '{binding.rule}' {does}, which needs one affine map for all steps. Call net.eval() before to "
            "train with its running statistics as they are, use weight standardisation (safjax.nn.WSConv) in its "
            "place, or train under a rule that exchanges spikes, such as sltt()."
        )

    def _begun(self) -> OfSequence:
        """The sequence so far; at its start that is nothing."""
        variable = getattr(self, "of_sequence", None)
        if variable is not None:
            return variable.get_value()
        mean, var = self.mean[...], self.var[...]
        start = OfSequence(mean, var, jnp.zeros((), mean.dtype), jnp.zeros_like(mean), jnp.zeros_like(var))
        # They are of the batch, and no member has a part of them.
        self.of_sequence = NeuronState(start, own=owned(start, (None,) * len(start)))
        return start

    def _of_both(self, rows: jax.Array, of_sequence: OfSequence, own_mean: jax.Array, own_var: jax.Array) -> jax.Array:
        """rows[held, B, ..., features], forward by the statistics of all time, backward through those of each step."""
        shape = (1,) * (rows.ndim - 1) + (self.features,)
        mean, var = (s.reshape(shape) for s in of_sequence[:2])
        ratio = jnp.sqrt((var + self.epsilon) / (own_var + self.epsilon))
        near = (ratio <= self.ratio) & (ratio >= 1 / self.ratio)
        mean, var = jax.lax.stop_gradient((jnp.where(near, mean, own_mean), jnp.where(near, var, own_var)))
        own = (widened(rows) - own_mean) * jax.lax.rsqrt(own_var + self.epsilon)
        share = jnp.where(near, 1 / ratio, 1.0)
        constant = (1 - share) * own + (own_mean - mean) * jax.lax.rsqrt(var + self.epsilon)
        share, constant = jax.lax.stop_gradient((share, constant))
        through = share * own + constant
        through = through if self.scale is None else widened(self.scale[...]) * through
        through = through if self.bias is None else through + widened(self.bias[...])
        value = self._normalised(rows, mean, var)
        return with_gradient_of(value, through.astype(value.dtype))

    def _take_in(self, before: OfSequence, mean: jax.Array, var: jax.Array, steps: int) -> None:
        """Moves the statistics by those of so many steps, held as rows[rows, features]."""
        mean, var = jax.lax.stop_gradient((mean, var))
        rows_mean = jnp.mean(mean, 0)
        rows_var = jnp.mean(var + jnp.square(mean - rows_mean), 0)
        seen = before.seen + steps
        share, away = steps / seen, rows_mean - before.own_mean
        # Not E[x²] − E[x]², which loses what is small against the mean.
        own_mean = before.own_mean + share * away
        own_var = (1 - share) * before.own_var + share * rows_var + share * (1 - share) * jnp.square(away)
        after = OfSequence(before.mean, before.var, seen, own_mean, own_var)
        if self.bound().discovering is None:
            self.of_sequence.set_value(jax.tree.map(lambda new, old: new.astype(old.dtype), after, before))
        for variable, start, own in ((self.mean, before.mean, own_mean), (self.var, before.var, own_var)):
            moved = self.momentum * start + (1 - self.momentum) * own
            variable.set_value(moved.astype(variable[...].dtype))

    def _kind(self) -> str:
        return "OnlineBatchNorm"
