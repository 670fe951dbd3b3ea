"""Axonal delays: each neuron's spikes arrive some steps later, fixed or learned."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.delays import gaussian, interpolated, shifted, weighed
from safjax.messages import Silence, is_message
from safjax.nn.calls import layer_call
from safjax.nn.numbers import THRESHOLDS, Number, value_of
from safjax.nn.past_steps import Delaying, checked_width


class AxonalDelay(Delaying):
    """Delays what each neuron sends by its own number of steps, y[t] = s[t − d], zeros before the start.

    An axon behind a neuron, or in front of a synapse; a dendrite where it stands before a neuron and delays currents.
    Delays of whole numbers are fixed. Real-valued ones are learned if an `nnx.Param` holds them; in training a delay d
    is spread over the whole delays k = 0 ... K,

        y[t] = Σ_k w[k] s[t − k],   K = max_delay

    without `width` over the two neighbours of d, w = (1 − f, f) at ⌊d⌋ and ⌊d⌋ + 1, f = d − ⌊d⌋; with a width σ as a
    Gaussian, w[k] ∝ exp(−(k − d)² / 2σ²) of sum 1, which feels what lies further away. Hammouamri, Khalfaoui-Hassani &
    Masquelier, "Learning delays in spiking neural networks using dilated convolutions with learnable spacings", ICLR
    2024. In its code σ shrinks exponentially during the first half of training, from K/3 to 0.23, and delays learn at
    150 times the rate of weights. Learned delays are kept in [0, K].

    After `net.eval()`, so in `safjax.predict` too, delays are the nearest whole numbers, of which nothing is learned.

    For rules that go back in time: bptt(), exodus(), slayer(), with the same outputs and gradients of delays step by
    step and layer by layer. Under a rule whose gradient is one of single steps what stands before a delay would learn
    nothing of it. Step by step the last K steps are state, and for a learned delay with a width each step keeps K + 1
    times its input until the backward pass; layer by layer the sequence is kept once.

    Args:
      delays: d ≥ 0: a whole number, an array of whole numbers, or an `nnx.Variable` or `nnx.Param` of real ones, whose
        shape broadcasts to that of a sample: [n] for n neurons, [C] for C channels.
      max_delay: K; needed for real-valued delays, else the largest of them.
      width: σ > 0, a number or a variable, which layers may share; None interpolates between two neighbours.

    Attributes:
      width: an `nnx.Variable`; training shrinks it by layer.width.set_value(0.95 * layer.width[...]).

    Raises:
      TypeError: delays are none of these.
      ValueError: a delay lies outside [0, K], or K is missing; when called, delays do not broadcast to a sample.
      ValueError (when a rule meets the net): the rule's gradient is one of single steps.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import AxonalDelay, InstantReadout
      >>> net = nnx.Sequential(AxonalDelay(jnp.array([0, 1, 3])), InstantReadout())
      >>> pulse = jnp.zeros((5, 1, 3)).at[0].set(1.0)
      >>> safjax.predict(net, pulse)[:, 0].argmax(0).tolist()
      [0, 1, 3]

      Learned, for 128 neurons:
      >>> start = nnx.initializers.uniform(25.0)(nnx.Rngs(0).params(), (128,))
      >>> delay = AxonalDelay(nnx.Param(start), max_delay=25, width=12.0)
    """

    def __init__(self, delays: Any, max_delay: int | None = None, *, width: Number | None = None):
        self.delays = _checked_delays(delays)
        real = isinstance(self.delays, nnx.Variable) and jnp.issubdtype(self.delays.dtype, jnp.inexact)
        self.max_delay = _checked_max(self.delays, max_delay, real)
        if width is not None and not real:
            raise ValueError(
                f"AxonalDelay(width={width!r}): whole delays are exact and have no width. Real-valued ones stand in an "
                "nnx.Param, or in an nnx.Variable if they are not learned."
            )
        self.width = checked_width(self, width)
        self.deterministic = False

    @layer_call
    def __call__(self, x: Any, /) -> Any:
        message = self.message(x)
        if isinstance(message, Silence):
            return message
        self.once()
        self._refuse_shape(message.step_shape if is_message(message) else message.shape)
        # Of what accumulates only after a refusal.
        if self.bound().propagation.accumulates or self.max_delay == 0:
            return message
        return self.over_past(message, self._delayed)

    def _delayed(self, x: jax.Array) -> jax.Array:
        """y[T, B, ...] of x[K + T, B, ...]."""
        longest = self.max_delay
        if not isinstance(self.delays, nnx.Variable):
            return shifted(x, self.delays, longest)
        delays = value_of(self.delays, (0, longest))
        if not jnp.issubdtype(delays.dtype, jnp.inexact):
            return shifted(x, delays, longest)
        if self.deterministic:
            return shifted(x, jnp.round(jax.lax.stop_gradient(delays)).astype(jnp.int32), longest)
        if self.width is None:
            y = interpolated(x, delays, longest)
        else:
            y = weighed(x, gaussian(delays, value_of(self.width, THRESHOLDS), longest))
        return y.astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.inexact) else y

    def _refuse_shape(self, given: tuple[int, ...]) -> None:
        delays, sample = getattr(self.delays, "shape", ()), tuple(given[1:])
        fits = len(delays) <= len(sample) and all(a in (1, b) for a, b in zip(delays[::-1], sample[::-1], strict=False))
        if not fits:
            raise ValueError(
                f"AxonalDelay at '{self.bound().path}' has delays of shape {list(delays)}, but is given "
                f"{['B', *sample]}: they must broadcast to one sample, {list(sample)}. Give one number for all, or "
                "one for each entry of the last axis."
            )


def _checked_delays(delays: Any) -> Any:
    """Delays as they were given; an array of whole numbers in a variable."""
    if isinstance(delays, int) and not isinstance(delays, bool):
        return delays
    if not isinstance(delays, nnx.Variable):
        # Of lists and NumPy arrays too; known also where the net is made inside a compiled function.
        with jax.ensure_compile_time_eval():
            array = jnp.asarray(delays) if isinstance(delays, list | tuple) or hasattr(delays, "dtype") else None
        if array is None or not jnp.issubdtype(array.dtype, jnp.integer):
            raise TypeError(
                f"AxonalDelay({delays!r}): expected a whole number of steps, an array of such, or real-valued delays "
                "in an nnx.Param, or in an nnx.Variable if they are not learned: "
                "AxonalDelay(nnx.Param(jnp.full(128, 3.5)), max_delay=25)."
            )
        return nnx.Variable(array)
    integer = jnp.issubdtype(delays.dtype, jnp.integer)
    if not (integer or jnp.issubdtype(delays.dtype, jnp.floating)) or (integer and isinstance(delays, nnx.Param)):
        raise TypeError(
            f"AxonalDelay({type(delays).__name__}(...)): its values are of dtype {delays.dtype}, but delays that are "
            "learned are real numbers, float32 for instance, and fixed ones real or whole numbers."
        )
    return delays


def _checked_max(delays: Any, max_delay: Any, real: bool) -> int:
    """K, if all delays lie in [0, K]."""
    values = delays.get_value() if isinstance(delays, nnx.Variable) else delays
    known = not isinstance(values, jax.core.Tracer | jax.ShapeDtypeStruct)
    if max_delay is None and (real or not known):
        raise ValueError(
            "AxonalDelay(delays): real-valued delays need to be told the largest that they may become, for instance "
            "AxonalDelay(delays, max_delay=25); so do whole ones that are made inside a compiled function."
        )
    if max_delay is not None and (not isinstance(max_delay, int) or isinstance(max_delay, bool) or max_delay < real):
        raise ValueError(
            f"AxonalDelay(max_delay={max_delay!r}): expected a whole number of steps, the longest delay, at least "
            f"{int(real)}."
        )
    if max_delay is not None and not known:
        return max_delay
    with jax.ensure_compile_time_eval():
        low, high = float(jnp.min(values)), float(jnp.max(values))
    most = int(high) if max_delay is None else max_delay
    if not 0 <= low <= high <= most:
        raise ValueError(
            f"AxonalDelay(...): delays must lie between 0 and max_delay = {most}, but range from {low:g} to {high:g}."
        )
    return most
