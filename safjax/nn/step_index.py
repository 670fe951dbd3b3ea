"""Layers in a synapse for which one time step is not like another: they know at which they are."""

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.gains import Gain
from safjax.nn.layout import Layout, layout_in_synapse, rows_of_steps
from safjax.nn.module import Bindable, NeuronState, owned
from safjax.nn.states import modules


class StepIndexed(Bindable):
    """Base of layers that have numbers of their own for each of T steps.

    Step by step the steps are counted in the state of the sequence, each member's by itself where members begin or end
    at different times; layer by layer the layer sees them all. In a sequence that goes on from call to call, the last
    numbers hold for all later steps.
    """

    steps: int | None = None
    """T; None where all steps are alike."""

    def rows_and_steps(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """x[held · B, ...] as [held, B, ...], and which steps these are: [held, 1], or each member's, [held, B].

        Raises:
          ValueError: the rule needs the same map at every step; the layer stands outside of synapses, is called twice
            in a step, or is made for shorter sequences.
        """
        layout = self._placed()
        if layout is None:
            return x[None], jnp.zeros((1, 1), jnp.int32)
        rows = rows_of_steps(self.bound(), layout, x, type(self).__name__)
        self.once("count")
        assert self.steps is not None
        return rows, jnp.minimum(self._counted(x, layout.held), self.steps - 1)

    def at(self, numbers: jax.Array, index: jax.Array, rows: jax.Array) -> jax.Array:
        """numbers[T] or [T, features] of these steps, in a shape that goes with rows[held, B, ..., features]."""
        chosen = numbers[index]
        return chosen.reshape(*index.shape, *(1,) * (rows.ndim - chosen.ndim), *chosen.shape[2:])

    def _placed(self) -> Layout | None:
        """The layout of its input; None where it has none, which is refused."""
        binding, layout = self.bound(), layout_in_synapse()
        name = f"{type(self).__name__}(steps={self.steps}) at '{binding.path}'"
        if layout is None:
            binding.refuse(f"{name} stands outside of a Synapse, where no step is told from another. Put it into one.")
            return None
        if binding.propagation.accumulates:
            binding.refuse(
                f"{name} changes from step to step. The rule '{binding.rule}' sends sums over time through a synapse, "
                "which must be one affine map for all steps. Leave it out, or train under a rule that exchanges "
                "spikes, such as bptt(), sltt() or exodus()."
            )
            return None
        if binding.course.all_steps > (self.steps or 0):
            binding.refuse(
                f"{name} is made for sequences of {self.steps} steps at most, but this one has T = "
                f"{binding.course.all_steps}. Make it with steps={binding.course.all_steps}, or give it shorter "
                "sequences."
            )
        return layout

    def _counted(self, x: jax.Array, held: int) -> jax.Array:
        """The numbers of the next steps, as many as are held, from 0; they are counted as gone."""
        binding, variable = self.bound(), getattr(self, "count", None)
        count = Gain.start(x) if variable is None else variable.get_value()
        if variable is not None:
            variable.set_value(Gain(count.value + held, count.apart))
        elif binding.course.open or not binding.propagation.whole_sequence:
            self.count = NeuronState(count, own=owned(count))
        return jnp.arange(held)[:, None] + count.value.astype(jnp.int32).reshape(1, -1)


def tells_steps(layer: nnx.Module) -> bool:
    """Whether a layer gives other results at other steps of the same input."""
    return any(isinstance(m, StepIndexed) and m.steps is not None for _, m in modules(layer))
