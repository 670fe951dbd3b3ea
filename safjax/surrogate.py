"""Surrogate gradients of the spike function.

A neuron fires when its potential reaches the threshold, s = H(x) with x = u − θ and H(0) = 1. The derivative of H is
zero almost everywhere, so learning replaces it by a bump around the threshold (Neftci, Mostafa & Zenke, "Surrogate
gradient learning in spiking neural networks", 2019). A surrogate here is a small frozen value: called, it spikes; its
`slope` is the derivative that every gradient uses, and the slope's derivative is the second one. Any other smooth
callable x ↦ s may stand in its place.
"""

import abc
import dataclasses
import functools
import math
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from safjax.long_rows import in_long_rows
from safjax.narrow import format_of_slopes, scaled
from safjax.portable import is_portable


def _step(x: jax.Array, *, surrogate: "Surrogate", kept: jnp.dtype | None = None) -> jax.Array:
    del surrogate, kept
    # A neuron whose potential is not a number would fall silent, and the net's output look like any other.
    return jnp.where(jnp.isnan(x), x, (x >= 0).astype(x.dtype))


def _tangent(dx: jax.Array, x: jax.Array, *, surrogate: "Surrogate", kept: jnp.dtype | None) -> jax.Array:
    slope = surrogate.slope(x)
    if jnp.broadcast_shapes(jnp.shape(slope), x.shape) != x.shape:
        raise TypeError(
            f"{type(surrogate).__name__}.slope returned the shape {list(jnp.shape(slope))} for x of shape "
            f"{list(x.shape)}: expected is the pseudo-derivative at every entry of x, of the same shape."
        )
    rows = in_long_rows(x)
    # The slope is what a time loop keeps for the way back, in the shape that it has here.
    slope = jnp.broadcast_to(slope, x.shape).reshape(rows)
    ds = slope * dx.reshape(rows) if kept is None else scaled(dx.reshape(rows), slope.astype(kept))
    return ds.reshape(x.shape).astype(x.dtype)


# A primitive with a derivative of its own, and not a `jax.custom_jvp`: of that the partial evaluation which
# differentiates a scan (jax 0.10, `_scan_known_hoisting`) forgets the rule, so that in a time loop every derivative of
# a derivative would miss the slope's part, without any sign of it.
_spike = Primitive("spike")
_spike.def_impl(_step)
_spike.def_abstract_eval(lambda x, *, surrogate, kept: x.update(weak_type=False))
ad.defjvp(_spike, _tangent)
batching.defvectorized(_spike)
mlir.register_lowering(_spike, mlir.lower_fun(_step, multiple_results=False))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _portable_step(x: jax.Array, surrogate: "Surrogate") -> jax.Array:
    return _step(x, surrogate=surrogate)


@_portable_step.defjvp
def _no_tangent(surrogate: "Surrogate", primals: Any, tangents: Any) -> NoReturn:
    raise TypeError("Inside safjax.ops.portable() a net is run, not trained: spikes have no surrogate gradient there.")


class Surrogate(abc.ABC):
    """Heaviside step forward, `slope` backward: ds/dx := slope(x), d²s/dx² := dslope(x)/dx, in every mode.

    A step of one's own is a subclass, not a `jax.custom_jvp`, whose second derivative jax 0.10 loses inside a scan.
    """

    @abc.abstractmethod
    def slope(self, x: jax.Array) -> jax.Array:
        """The pseudo-derivative at x = u − θ, same shape as x."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """s = 1 where x ≥ 0, NaN where x is NaN, else 0; same shape and dtype as x.

        Raises:
          TypeError: the surrogate holds what JAX is to differentiate or to trace.
        """
        _require_constants(self)
        x = jnp.asarray(x)
        return _portable_step(x, self) if is_portable() else _spike.bind(x, surrogate=self, kept=format_of_slopes())


def _require_constants(surrogate: Surrogate) -> None:
    for name, value in getattr(surrogate, "__dict__", {}).items():
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
            raise TypeError(
                f"{type(surrogate).__name__}({name}={value}): the value of a step does not depend on how wide its "
                "pseudo-derivative is, so there is no gradient by which to learn that, and it must be a number. What "
                "is learned stands in a smooth function in place of the step, for instance an nnx.Module whose "
                "__call__(x) returns jax.nn.sigmoid(x / self.width[...])."
            )


def _require_positive(surrogate: Surrogate, **values: float) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ValueError(
                f"{type(surrogate).__name__}({name}={value!r}): {name} must be a positive number, "
                "since it sets how wide or how steep the pseudo-derivative is."
            )


@dataclasses.dataclass(frozen=True)
class Sigmoid(Surrogate):
    """ds/dx = α σ(αx) (1 − σ(αx)), the slope of a logistic function; peak α/4.

    Used with α = 4 by OTTT (Xiao et al., "Online training through time for spiking neural networks", 2022).

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> spike, x = safjax.surrogate.Sigmoid(alpha=4.0), jnp.array([-0.5, 0.0, 0.5])
      >>> spike(x).tolist()
      [0.0, 1.0, 1.0]
      >>> [round(float(slope), 2) for slope in jax.vmap(jax.grad(spike))(x)]
      [0.42, 1.0, 0.42]
    """

    alpha: float = 4.0

    def __post_init__(self) -> None:
        _require_positive(self, alpha=self.alpha)

    def slope(self, x: jax.Array) -> jax.Array:
        s = jax.nn.sigmoid(self.alpha * x)
        return self.alpha * s * (1 - s)


@dataclasses.dataclass(frozen=True)
class Triangle(Surrogate):
    """ds/dx = max(0, 1 − |x|/w) / w; peak 1/w, zero beyond ±w.

    Bellec et al., "Long short-term memory and learning-to-learn in networks of spiking neurons", 2018; with w = 1 the
    default of SLTT (Meng et al., "Towards memory- and time-efficient backpropagation for training SNNs", 2023).
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        _require_positive(self, width=self.width)

    def slope(self, x: jax.Array) -> jax.Array:
        return jnp.maximum(0.0, 1 - jnp.abs(x) / self.width) / self.width


@dataclasses.dataclass(frozen=True)
class Rectangle(Surrogate):
    """ds/dx = 1[|x| < w/2] / w.

    Wu et al., "Spatio-temporal backpropagation for training high-performance spiking neural networks", 2018, Eq. (24).
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        _require_positive(self, width=self.width)

    def slope(self, x: jax.Array) -> jax.Array:
        return (jnp.abs(x) < self.width / 2).astype(x.dtype) / self.width


@dataclasses.dataclass(frozen=True)
class Arctan(Surrogate):
    """ds/dx = (α/2) / (1 + (π α x / 2)²); peak α/2.

    Fang et al., "Incorporating learnable membrane time constant to enhance learning of SNNs", 2021.
    """

    alpha: float = 2.0

    def __post_init__(self) -> None:
        _require_positive(self, alpha=self.alpha)

    def slope(self, x: jax.Array) -> jax.Array:
        return (self.alpha / 2) / (1 + (jnp.pi / 2 * self.alpha * x) ** 2)


@dataclasses.dataclass(frozen=True)
class Exponential(Surrogate):
    """ds/dx = (c/w) exp(−|x|/w); peak c/w.

    Shrestha & Orchard, "SLAYER: spike layer error reassignment in time", 2018.
    """

    width: float = 0.5
    scale: float = 1.0

    def __post_init__(self) -> None:
        _require_positive(self, width=self.width, scale=self.scale)

    def slope(self, x: jax.Array) -> jax.Array:
        return self.scale / self.width * jnp.exp(-jnp.abs(x) / self.width)


@dataclasses.dataclass(frozen=True)
class Gaussian(Surrogate):
    """ds/dx = exp(−x²/2σ²) / (σ √(2π)).

    Yin, Corradi & Bohté, "Accurate and efficient time-domain classification with adaptive SNNs", 2021.
    """

    sigma: float = 0.5

    def __post_init__(self) -> None:
        _require_positive(self, sigma=self.sigma)

    def slope(self, x: jax.Array) -> jax.Array:
        return jnp.exp(-0.5 * (x / self.sigma) ** 2) / (self.sigma * jnp.sqrt(2 * jnp.pi).astype(x.dtype))


@dataclasses.dataclass(frozen=True)
class Reciprocal(Surrogate):
    """ds/dx = H(x) / (x + a): only neurons that fire pass an error back, the less the higher their potential is.

    With a = θ, the neurons' own threshold, this is s/u, the spatial adjustment of BP-STA (Shen, Zhao & Zeng,
    "Backpropagation with biologically plausible spatio-temporal adjustment for training deep spiking neural networks",
    2022, arXiv 2110.08858); the temporal one is `through` of `safjax.nn.ResetTo`. A layer that is silent learns nothing
    by it; the authors' code trains the first epochs without spikes.

    Example:
      >>> import safjax
      >>> from safjax.nn import LIF, ResetTo
      >>> neurons = LIF(1.0, 0.5, safjax.surrogate.Reciprocal(0.5), reset=ResetTo(0.0, through=0.2))
    """

    offset: float = 1.0

    def __post_init__(self) -> None:
        _require_positive(self, offset=self.offset)

    def slope(self, x: jax.Array) -> jax.Array:
        fires = x >= 0
        return jnp.where(fires, 1 / jnp.where(fires, x + self.offset, 1), 0).astype(x.dtype)
