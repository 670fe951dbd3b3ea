"""One step of delay: what makes feedback and recurrence possible."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from safjax.messages import Silence, is_message
from safjax.nn.calls import layer_call
from safjax.nn.module import NeuronState, SpikingModule, owned
from safjax.nn.neurons import Neuron
from safjax.nn.numbers import checked_shape
from safjax.nn.synapse import Synapse


class Delay(SpikingModule):
    """Hands a message to the next time step: the way back in a net with feedback.

        back = self.delay.recall()          # of the step before; zero at the first
        spikes = self.lif(self.conv(x) + self.feedback(back))
        self.delay.keep(spikes)

    BPTT differentiates through it; rules that take their gradient step by step treat what comes back as a constant,
    with its trace or accumulation: OTTT hands over (s[t−1], a[t−1]), SAF a[t−1] / Λ[t]. Rules that go layer by layer
    cannot have it. Delays of several steps on the way forward are those of `safjax.nn.AxonalDelay`.

    Args:
      shape: of what is kept of one example, without the batch, (64,) or (8, 8, 16). It is found out by itself where the
        way back is added to something else, as above; not where all that is kept has passed a Synapse of several inputs
        or a concatenation together with it: lif(dense(concatenate(x, delay.recall()))) needs it.

    Raises:
      ValueError: shape is none.

    Raises (when a rule meets the net):
      ValueError: the rule goes layer by layer; a step recalls and keeps nothing, or what only comes from itself; a step
        keeps twice, or something of another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, Delay, LeakyReadout, Synapse
      >>> class Net(nnx.Module):
      ...     def __init__(self, rngs):
      ...         self.first, self.back = (Synapse(nnx.Linear(3, 3, rngs=rngs)) for _ in range(2))
      ...         self.lif, self.delay, self.readout = LIF(), Delay(), LeakyReadout()
      ...     def __call__(self, x):
      ...         spikes = self.lif(self.first(x) + self.back(self.delay.recall()))
      ...         self.delay.keep(spikes)
      ...         return self.readout(spikes)
      >>> safjax.predict(Net(nnx.Rngs(0)), jnp.ones((2, 3)), steps=5).shape
      (5, 2, 3)
    """

    blank: bool = False
    """Whether what is kept is not known yet, but for a shape that was given."""

    def __init__(self, *, shape: Sequence[int] | None = None):
        self.shape = None if shape is None else checked_shape(self, shape)

    @layer_call(prepare=lambda delay: delay.begin_discovery())
    def recall(self) -> Any:
        """The message kept in the step before."""
        binding = self.bound()
        if binding.propagation.whole_sequence:
            binding.refuse(
                f"The rule '{binding.rule}' computes each layer over all time steps before the next layer, but the "
                f"Delay at '{binding.path}' feeds a later layer's spikes of one step back into the next. A net with "
                "feedback or recurrence is trained by rules that go step by step."
            )
            return self._nothing()
        if not binding.propagation.recalls:
            binding.refuse(
                f"The rule '{binding.rule}' differentiates means over all time steps, but the Delay at "
                f"'{binding.path}' feeds spikes of one step back into the next, of which a mean knows nothing. A net "
                "with feedback or recurrence is trained by rules that follow its steps, such as bptt(), sltt() or "
                "ottt_a()."
            )
            return self._nothing()
        variable = getattr(self, "state", None)
        if variable is None:
            if self.blank:
                return self._nothing()
            binding.refuse(
                f"The Delay at '{binding.path}' is recalled, but nothing is kept in it in the same time step, or "
                "nothing but what comes from itself. Call delay.keep(spikes) once in every step, with what depends on "
                "the net's input. Where that depends on what comes back through a Synapse of several inputs or a "
                "concatenation, say the shape that it has without the batch: Delay(shape=(64,))."
            )
            return self._nothing()
        return binding.propagation.recall(variable.get_value(), binding.decay)

    def _nothing(self) -> Any:
        """What is handed back at the first step, as far as it is known before."""
        if self.shape is None:
            return Silence()
        binding = self.bound()
        zeros = jnp.zeros((binding.course.batch, *self.shape), jnp.float32)
        return binding.propagation.encode(None, zeros, binding.course_of(0)._replace(static=True))[1]

    @layer_call
    def keep(self, message: Any, /) -> None:
        """Stores a message for the next step."""
        binding = self.bound()
        self.once("kept")
        variable = getattr(self, "state", None)
        if isinstance(message, Silence) or not binding.propagation.recalls:
            return
        state, message = variable.get_value() if variable is not None else None, self.message(message)
        if binding.discovering is not None:
            self._refuse_shape(message)
        state = binding.propagation.keep(state, message, binding.decay)
        if variable is None:
            self.state = NeuronState(state, own=owned(state))
        elif binding.discovering is None:
            variable.set_value(state)

    def _refuse_shape(self, message: Any) -> None:
        _, *kept = message.step_shape if is_message(message) else message.shape
        if self.shape is not None and tuple(kept) != self.shape:
            raise ValueError(
                f"Delay(shape={self.shape}) at '{self.bound().path}' is to keep what has the shape "
                f"{list(message.step_shape if is_message(message) else message.shape)}; without the batch that is "
                f"shape={tuple(kept)}."
            )

    def begin_discovery(self) -> None:
        """The next run of the net finds out the shape of what is kept."""
        self.blank = True

    def end_discovery(self, found: Any) -> None:
        """Starts from zeros of the shapes found; None found nothing."""
        self.blank = False
        if found is not None:
            zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), found)
            self.state = NeuronState(zeros, own=owned(zeros))


def _from_rest(layer: "Recurrent", current: Any) -> None:
    """Spikes have the shape of their currents: in a table they are known before the first step."""
    if not isinstance(current, Silence):
        layer.delay.state = NeuronState(jnp.zeros_like(current))


class Recurrent(SpikingModule):
    """Neurons that also receive their own spikes of the step before.

        s[t] = neuron(I[t] + f(s[t−1]))

    Args:
      neuron: the neurons, for instance `LIF()`.
      synapse: f, a `Synapse` around a dense layer or a convolution that keeps the shape.

    Raises:
      TypeError: neuron is no `Neuron`, or synapse no `Synapse`.

    Example:
      >>> from flax import nnx
      >>> from safjax.nn import LIF, Recurrent, Synapse
      >>> layer = Recurrent(LIF(decay=0.9), Synapse(nnx.Linear(64, 64, rngs=nnx.Rngs(0))))
    """

    def __init__(self, neuron: Neuron, synapse: Synapse):
        for name, module, kind in (("neuron", neuron, Neuron), ("synapse", synapse, Synapse)):
            if not isinstance(module, kind):
                given = (
                    f"the class {module.__name__}"
                    if isinstance(module, type)
                    else f"one of type {type(module).__name__}"
                )
                raise TypeError(
                    f"Recurrent({name}=...): expected a {kind.__name__}, for instance Recurrent(LIF(), "
                    f"Synapse(nnx.Linear(64, 64, rngs=rngs))), but was given {given}."
                )
        self.neuron, self.synapse, self.delay = neuron, synapse, Delay()

    @layer_call(prepare=_from_rest)
    def __call__(self, current: Any, /) -> Any:
        spikes = self.neuron(self.message(current) + self.synapse(self.delay.recall()))
        self.delay.keep(spikes)
        return spikes
