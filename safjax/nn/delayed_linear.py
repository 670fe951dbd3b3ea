"""Synaptic delays: a dense layer with a delay for each of its weights."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.delays import between_two, convolved, gaussian, nearest
from safjax.messages import Message, Silence, is_message
from safjax.nn.calls import layer_call
from safjax.nn.numbers import THRESHOLDS, Number, checked_rngs, checked_whole, value_of
from safjax.nn.past_steps import Delaying, checked_width


class DelayedLinear(Delaying):
    """A dense layer in which each weight has its own learned delay, in the place of Synapse(nnx.Linear(...)).

        y_j[t] = Σ_i W_ij x_i[t − d_ij] + b_j,   x zero before the start

    Real-valued delays are spread over the whole ones 0 ... K as of `AxonalDelay`: between two neighbours, or by a
    Gaussian of width σ; after `net.eval()` they are the nearest whole numbers. With all delays of an input equal it is
    an `AxonalDelay` followed by a dense layer. Hammouamri, Khalfaoui-Hassani & Masquelier, "Learning delays in spiking
    neural networks using dilated convolutions with learnable spacings", ICLR 2024.

    It costs K + 1 dense layers. Rules, state and memory are those of `AxonalDelay`. Parameters: `kernel` W and `delays`
    d [in, out], `bias` b [out].

    Args:
      in_features, out_features: sizes of the last axis.
      max_delay: K ≥ 1.
      width: σ > 0, a number or a variable, which layers may share; None interpolates between two neighbours.
      learn_delays: else delays stay as drawn.
      use_bias: whether a bias is added.
      kernel_init, delay_init: initialisers; by default those of `nnx.Linear`, and d uniform in [0, K].
      param_dtype: dtype of the parameters.
      rngs: its stream "params" initialises the parameters.

    Attributes:
      width: an `nnx.Variable`; training shrinks it by layer.width.set_value(0.95 * layer.width[...]).

    Raises:
      ValueError: sizes or max_delay no whole numbers ≥ 1, width not positive; when called, another number of features.
      ValueError (when a rule meets the net): the rule's gradient is one of single steps.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, DelayedLinear, LeakyReadout
      >>> layer = DelayedLinear(20, 5, max_delay=10, width=5.0, rngs=nnx.Rngs(0))
      >>> safjax.predict(nnx.Sequential(layer, LIF(), LeakyReadout()), jnp.ones((30, 2, 20))).shape
      (30, 2, 5)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        max_delay: int,
        *,
        width: Number | None = None,
        learn_delays: bool = True,
        use_bias: bool = True,
        kernel_init: Callable[..., Any] = nnx.initializers.lecun_normal(),  # noqa: B008
        delay_init: Callable[..., Any] | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        checked_whole(self, "in_features", in_features, "the size of the input's last axis")
        checked_whole(self, "out_features", out_features, "the size of the output's last axis")
        self.max_delay = checked_whole(self, "max_delay", max_delay, "the longest delay, in steps")
        self.width = checked_width(self, width)
        shape, streams = (in_features, out_features), checked_rngs(self, rngs)
        self.kernel = nnx.Param(kernel_init(streams.params(), shape, param_dtype))
        drawn = (delay_init or nnx.initializers.uniform(max_delay))(streams.params(), shape, param_dtype)
        self.delays = nnx.Param(drawn) if learn_delays else nnx.Variable(drawn)
        self.bias = nnx.Param(jnp.zeros((out_features,), param_dtype)) if use_bias else None
        self.deterministic = False

    @layer_call
    def __call__(self, x: Any, /) -> Any:
        message = self.message(x)
        if isinstance(message, Silence):
            return message
        self.once()
        self._refuse_shape(message.step_shape if is_message(message) else message.shape)
        if self.bound().propagation.accumulates:
            # After a refusal: something of the right shape.
            return message.map_linear(lambda x: x @ self.kernel[...]) if isinstance(message, Message) else message
        kernel = self.kernel[...] * self._spread()
        return self.over_past(message, lambda x: self._biased(convolved(x, kernel)))

    def _biased(self, y: jax.Array) -> jax.Array:
        return y if self.bias is None else y + self.bias[...]

    def _spread(self) -> jax.Array:
        """w[K + 1, in, out]."""
        delays = value_of(self.delays, (0, self.max_delay))
        if self.deterministic:
            return nearest(delays, self.max_delay)
        if self.width is None:
            return between_two(delays, self.max_delay)
        return gaussian(delays, value_of(self.width, THRESHOLDS), self.max_delay)

    def _refuse_shape(self, given: tuple[int, ...]) -> None:
        features = self.kernel.shape[0]
        if len(given) < 2 or given[-1] != features:
            raise ValueError(
                f"DelayedLinear at '{self.bound().path}' was given an array of shape {list(given)}, but expected is "
                f"[B, ..., {features}]: the batch first, the features last."
            )
