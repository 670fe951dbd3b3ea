"""A number that says to the compiler when a computation may begin."""

import jax
import jax.numpy as jnp


def zero_known_with(x: jax.Array) -> jax.Array:
    """0, but for the compiler a number that is known once x is: what is computed with it is not computed before.

    On CPU the compiler drops optimisation barriers before it merges equal computations, so they do not serve for this.
    """
    return jax.lax.stop_gradient(jnp.minimum(jnp.abs(x[(0,) * x.ndim]), 0))
