"""Batch normalisation that says which time steps its statistics are of.

Published variants are made of the two: tdBN is the one over time, TEBN gives it a learned weight for each step, and
BNTT gives the one at each step learned weights and running statistics for each; see `StepWeights`.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.mixing import apart
from safjax.nn.batch_norm_arguments import checked_momentum, checked_over, checked_positive, checked_steps
from safjax.nn.calls import layer_call
from safjax.nn.layout import Layout, enter, layout_in_synapse, rows_of_steps
from safjax.nn.numbers import checked_whole
from safjax.nn.statistics import RunningStatistic
from safjax.nn.step_index import StepIndexed
from safjax.passes import Passes, present_passes
from safjax.precision import widened
from safjax.standing_in import with_gradient_of


class BatchNorm(StepIndexed):
    """Batch normalisation of currents, over all steps (tdBN) or at each step, the same under every rule that can do it.

        y[t] = γ d (x[t] − μ) / √(σ² + ε) + β,   one γ, β, μ, σ² for each feature, the last axis

    over="time": μ and σ² are those of the whole sequence, over T, batch and space. At one step those of later ones are
    unknown, so it trains layer by layer only: exodus(), slayer(), bptt(layerwise=True). Where its input is the same at
    every step, as in the first synapse of a static image, one step's are those of all, and bptt() and sltt() train it
    too. Zheng et al., "Going deeper with directly-trained larger spiking neural networks", AAAI 2021 (tdBN), with
    d = α V_th; d = 1 is SpikingJelly's multi-step BatchNorm.

    over="step": μ[t] and σ²[t] are those of step t, over batch and space. It trains step by step, under bptt() and
    sltt(), and layer by layer, with the same result.

    In training the running statistics, for evaluation, follow (ν is the momentum)

        m ← ν m + (1 − ν) μ,   v ← ν v + (1 − ν) σ²

    once a sequence (over="time") or at every step in order of time (over="step"), whatever the rule. σ² is divided by
    the number of values n, also in v, as in Flax; what PyTorch adds to its running variance is n/(n − 1) times that.
    Its numbers taken over (scale from weight, m, v from running_mean, running_var) evaluate to the same.

    `net.eval()` puts m and v in the place of μ and σ²: an affine map, under which rules that accumulate (OTTT, SAF, SR)
    train as well, with statistics that stay as they are. `net.train()` takes it back. For one layer alone set
    norm.use_running_average = True.

    An ordinary layer: put it into a `Synapse`, behind its convolution or dense layer, [B, ..., features] to the same.
    Each place in the net has one of its own. Parameters: `scale` γ and `bias` β [features]. Not learned: `mean` m and
    `var` v, `nnx.BatchStat`s.

    Args:
      features: size of the last axis.
      over: "time" or "step".
      steps: T, for running statistics of each step, m and v [T, features], as of BNTT: step t is evaluated by those of
        step t, of a sequence that goes on beyond T by the last. Only with over="step". Rules that accumulate cannot
        have it, for such a map changes from step to step; all else of such steps is said at `StepWeights`. None
        evaluates all steps by the same.
      deviation: d, the standard deviation that currents get; α V_th of tdBN, where the paper has α = 1, or 1/√2 for
        currents that are added to those of a shortcut.
      momentum: ν in [0, 1], the part of the running statistics that stays; 0.9 is PyTorch's momentum of 0.1.
      epsilon: ε.
      use_bias, use_scale: whether β and γ are learned; else they are 0 and 1.
      use_running_average: whether it starts in evaluation, as after `net.eval()`.
      axis_name: of `jax.shard_map`, to take the statistics over the batch of all devices.
      dtype: of the result; None takes the one that input and parameters promote to. Statistics and the normalised
        values are computed in float32 or wider.
      param_dtype: of parameters and, if wider than float32, of the running statistics.

    Raises:
      TypeError, ValueError: an argument is none of these; when called, the input has another number of features or
        is not [B, ..., features] with the batch of the net; in training, a single value for each feature.
      ValueError: in training, when a rule meets the net: over="time" under a rule that goes step by step; in a synapse
        under a rule that accumulates; two calls in one time step.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, BatchNorm, LeakyReadout, Synapse
      >>> dense = nnx.Linear(4, 2, use_bias=False, rngs=nnx.Rngs(0))
      >>> normalised = Synapse(nnx.Sequential(dense, BatchNorm(2, over="step", momentum=0.9)))
      >>> net = nnx.Sequential(normalised, LIF(), LeakyReadout())
      >>> x, means = jnp.arange(60.0).reshape(5, 3, 4), []
      >>> for rule in (safjax.rules.bptt(), safjax.rules.exodus()):
      ...     trained = nnx.clone(net)
      ...     _ = safjax.value_and_grad(jnp.mean, rule)(trained, x)
      ...     means.append(trained.layers[0].layer.layers[1].mean[...])
      >>> bool(jnp.allclose(*means)) and bool(jnp.all(means[0] != 0))
      True
    """

    def __init__(
        self,
        features: int,
        *,
        over: str,
        steps: int | None = None,
        deviation: float = 1.0,
        momentum: float = 0.99,
        epsilon: float = 1e-5,
        use_bias: bool = True,
        use_scale: bool = True,
        use_running_average: bool = False,
        axis_name: str | None = None,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
    ):
        self.features = checked_whole(self, "features", features, "the size of the input's last axis")
        self.over = checked_over(over)
        self.steps = checked_steps(self, over, steps)
        self.deviation = checked_positive(self, "deviation", deviation, "the standard deviation of what comes out")
        self.momentum = checked_momentum(self, momentum)
        self.epsilon = checked_positive(self, "epsilon", epsilon, "which is added to the variance")
        self.use_running_average = use_running_average
        self.axis_name = axis_name
        self.dtype = dtype
        self.scale = nnx.Param(jnp.ones((features,), param_dtype)) if use_scale else None
        self.bias = nnx.Param(jnp.zeros((features,), param_dtype)) if use_bias else None
        wide = jnp.promote_types(param_dtype, jnp.float32)
        shape = (features,) if steps is None else (steps, features)
        self.mean = RunningStatistic(jnp.zeros(shape, wide))
        self.var = RunningStatistic(jnp.ones(shape, wide))

    @layer_call
    def __call__(self, x: jax.Array, /) -> jax.Array:
        """x[B, ..., features] ↦ the same shape."""
        self.refuse_shape(x)
        if self.use_running_average:
            return self._evaluated(x)
        binding = self.bound()
        if layout_in_synapse() is not None and binding.propagation.accumulates:
            binding.refuse(
                f"{self._name()} is in training, where it normalises by the batch's own statistics. The rule "
                f"'{binding.rule}' sends sums over time through a synapse, which must be one affine map for all steps. "
                "Call net.eval() before to train with its running statistics as they are, or use weight "
                "standardisation (safjax.nn.WSConv) in its place."
            )
            return self._evaluated(x)
        passes = present_passes()
        if passes is not None and (self.over == "step" or passes.of_mean):
            return self._of_the_mean(x, passes)
        layout = self._layout(x)
        # Of two calls, layer by layer all steps of the first would come before those of the second.
        self.once()
        rows = x.reshape(layout.held if self.over == "step" else 1, -1, *x.shape[1:])
        mean, var = self._statistics(rows)
        index = None if self.steps is None else self._of_all_members(self.rows_and_steps(x)[1])
        self.follow(mean.reshape(-1, self.features), var.reshape(-1, self.features), layout, index)
        if passes is not None:
            passes.statistics[binding.path] = mean[0], var[0]
        result = self._normalised(rows, mean, var).reshape(x.shape)
        # That steps lie in the batch it knows; whoever looks for layers that do not is told so.
        return result if self.bound().discovering is None else apart(result)

    def refuse_shape(self, x: jax.Array) -> None:
        """Refuses what is not [B, ..., features]."""
        if x.ndim < 2 or x.shape[-1] != self.features:
            raise ValueError(
                f"{self._name()} was given an array of shape {list(x.shape)}, but expected is "
                f"[B, ..., {self.features}]: the batch first, the features last."
            )

    def _of_the_mean(self, x: jax.Array, passes: Passes) -> jax.Array:
        """The mean over time, by the statistics of all steps, through which the gradient goes as through its own."""
        if self.over == "step":
            self.bound().refuse(
                f"{self._name()} normalises each step by its own statistics, but the rule '{self.bound().rule}' "
                "differentiates the mean over all steps, which must be normalised as they are. Write over='time', or "
                "call net.eval() before to train with the running statistics as they are."
            )
            return self._evaluated(x)
        mean, var = passes.statistics[self.bound().path]
        wide, axes = widened(x), range(x.ndim - 1)
        own = self._over_devices(jnp.mean(wide, axes, keepdims=True))
        mean = with_gradient_of(mean, own)
        spread = self._over_devices(jnp.mean(jnp.square(wide - mean), axes, keepdims=True))
        return self._normalised(x, mean, with_gradient_of(var, spread))

    def _evaluated(self, x: jax.Array) -> jax.Array:
        """By the running statistics."""
        if self.steps is None:
            return self._normalised(x, self.mean[...], self.var[...])
        rows, index = self.rows_and_steps(x)
        mean, var = (self.at(statistic[...], index, rows) for statistic in (self.mean, self.var))
        return self._normalised(rows, mean, var).reshape(x.shape)

    def _of_all_members(self, index: jax.Array) -> jax.Array:
        """The steps [held], if all members are at the same; refuses to train where they are not."""
        if index.shape[1] > 1:
            self.bound().refuse(
                f"{self._name()} is in training and keeps statistics of each step, but after safjax.reset members of "
                "the batch are at different steps. Let all of them begin together, or leave steps out."
            )
        return index[:, 0]

    def _layout(self, x: jax.Array) -> Layout:
        """The steps of x; refuses to train where they do not tell the statistics."""
        binding, layout = self.bound(), layout_in_synapse()
        if layout is None:
            layout = self._layout_outside(x.shape[0])
        rows_of_steps(binding, layout, x, self._kind())
        if self.over == "time" and binding.course.part_of is not None:
            binding.refuse(
                f"{self._name()} is in training, where it takes statistics over all time steps, but the rule "
                f"'{binding.rule}' was told to go in segments. Leave segments out, write over='step', or call "
                "net.eval() before to train with the running statistics as they are."
            )
        if self.over == "time" and layout.meant < binding.course.steps:
            # Right where x is the same at every step, which binding finds out from the whole step.
            enter(binding, x)
        return layout

    def _layout_outside(self, length: int) -> Layout:
        """Of plain code: an image in front of the net is one step, what a readout returns are all of them."""
        binding = self.bound()
        if not binding.propagation.whole_sequence:
            return Layout(1, 1)
        course, discovering = binding.course, binding.discovering
        before_readouts = discovering is not None and not discovering.read_out
        still = length == course.batch or (course.static and before_readouts)
        return Layout(1 if still else course.steps, course.steps)

    def _statistics(self, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and variance over all axes but the first and the last."""
        count = rows[0, ..., 0].size * (1 if self.axis_name is None else jax.lax.axis_size(self.axis_name))
        if count == 1:
            raise ValueError(
                f"{self._name()} is in training and has a single value of each feature to take statistics of, which "
                "has no variance. Give it a larger batch, or call net.eval() before to keep the running statistics as "
                "they are."
            )
        rows, axes = widened(rows), range(1, rows.ndim - 1)
        mean = self._over_devices(jnp.mean(rows, axes, keepdims=True))
        # Not E[x²] − E[x]², which loses what is small against the mean.
        return mean, self._over_devices(jnp.mean(jnp.square(rows - mean), axes, keepdims=True))

    def _over_devices(self, mean: jax.Array) -> jax.Array:
        return mean if self.axis_name is None else jax.lax.pmean(mean, self.axis_name)

    def follow(self, mean: jax.Array, var: jax.Array, layout: Layout, index: jax.Array | None = None) -> None:
        """Moves the running statistics by those of one row after the other, [rows, features].

        Args:
          index: of which steps the rows are, where each step has statistics of its own; else None.
        """
        # An input that stands for several steps moves them as often; of T calls with one sequence's statistics, each
        # makes its part of one move.
        times = layout.meant / (layout.held if self.over == "step" else self.bound().course.steps)
        kept, rows = self.momentum**times, len(mean)
        weights = jnp.asarray([[(1 - kept) * kept ** (rows - 1 - i)] for i in range(rows)], mean.dtype)
        for variable, new in ((self.mean, mean), (self.var, var)):
            value, new = variable[...], jax.lax.stop_gradient(new)
            if index is None:
                # No matrix product, which accelerators round to fewer digits.
                moved = kept**rows * value + jnp.sum(weights * new, 0)
            else:
                moved = _moved_in_order(value, index, new, kept)
            variable.set_value(moved.astype(value.dtype))

    def _normalised(self, x: jax.Array, mean: jax.Array, var: jax.Array) -> jax.Array:
        scale, bias = (None if p is None else p[...] for p in (self.scale, self.bias))
        dtype = self.dtype
        if dtype is None:
            narrow = x if jnp.issubdtype(x.dtype, jnp.inexact) else widened(x)
            dtype = jnp.result_type(*(a for a in (narrow, scale, bias) if a is not None))
        factor = self.deviation * jax.lax.rsqrt(widened(var) + self.epsilon)
        factor = factor if scale is None else widened(scale) * factor
        y = (widened(x) - mean) * factor
        return (y if bias is None else y + widened(bias)).astype(dtype)

    def _name(self) -> str:
        where = "" if self.binding is None else f" at '{self.binding.path}'"
        return f"{self._kind()}{where}"

    def _kind(self) -> str:
        return f"BatchNorm(over='{self.over}')"


def _moved_in_order(value: jax.Array, index: jax.Array, new: jax.Array, kept: float) -> jax.Array:
    """The running statistics of each step [T, features], moved by new[rows, features] of the steps index[rows]."""

    def one(value: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        at, of_row = row
        return value.at[at].set((kept * value[at] + (1 - kept) * of_row).astype(value.dtype)), None

    return jax.lax.scan(one, value, (index, new))[0]


def needs_all_steps(module: nnx.Module) -> bool:
    """Whether a module's result at one step needs its input at all steps."""
    return isinstance(module, BatchNorm) and module.over == "time" and not module.use_running_average
