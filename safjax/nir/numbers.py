"""The numbers of one NIR neuron, and what the steps of `safjax.nir.neurons` make of them."""

import dataclasses
from typing import Any

import numpy as np
from flax import nnx

from safjax.neurons.resets import SMALLEST_DECAY
from safjax.nir.arrays import Shape, field, number, uniform
from safjax.nir.conventions import Convention, told
from safjax.nir.membranes import Integrator, Strict
from safjax.nn import IF, LIF, AfterDecay, CurrentLIF, ResetTo
from safjax.nn.numbers import THRESHOLDS
from safjax.surrogate import Surrogate


@dataclasses.dataclass(frozen=True)
class Reading:
    """How nodes are read.

    Attributes:
      dt: the time step.
      convention: of this node.
      surrogate: the spike function of neurons.
    """

    dt: float
    convention: Convention
    surrogate: Surrogate


@dataclasses.dataclass
class Paired:
    """What becomes of a node: its neurons, and what stands before them.

    Attributes:
      neurons: a safjax neuron.
      gain, shift: the currents are multiplied by the one, and the other is added; channels first.
    """

    neurons: Any
    gain: np.ndarray
    shift: np.ndarray

    def before(self) -> "Scaled | None":
        """The layer before the neurons; None where it changes nothing."""
        if np.all(self.gain == 1) and not np.any(self.shift):
            return None
        return Scaled(number(self.gain), number(self.shift))


class Scaled(nnx.Module):
    """x ↦ factor x + shift, entry by entry.

    Args:
      factor, shift: numbers, or variables of the shape of a sample.
    """

    def __init__(self, factor: Any, shift: Any = 0.0):
        self.factor, self.shift = factor, shift

    def __call__(self, x: Any) -> Any:
        """[B, ...] ↦ the same shape."""
        factor, shift = (n[...] if isinstance(n, nnx.Variable) else n for n in (self.factor, self.shift))
        return factor * x + shift if isinstance(self.shift, nnx.Variable) or self.shift else factor * x


def surrogate_of(reading: Reading) -> Surrogate:
    """The spike function of neurons that are so read."""
    return Strict(reading.surrogate) if reading.convention.fires == ">" else reading.surrogate


class Numbers:
    """The numbers of a node, float64 and channels first."""

    def __init__(self, name: str, node: Any, shape: Shape, reading: Reading):
        self.name, self.node, self.shape, self.reading = name, node, shape, reading
        self.kind = type(node).__name__
        self.cuba = self.kind.startswith("Cuba")
        self.leaks = self.kind not in ("IF", "I")
        self.tau = "tau_mem" if self.cuba else "tau"
        self.decay = self._decay(self.tau) if self.leaks else np.ones(shape)
        self.synaptic = self._decay("tau_syn") if self.cuba else np.zeros(shape)
        self.leak = self._of("v_leak") if self.leaks else np.zeros(shape)

    def _of(self, key: str) -> np.ndarray:
        return field(self.name, self.node, key, self.shape)

    def _value(self) -> np.ndarray:
        """v_reset; 0 in graphs of the package nir before 1.0.6, which has no such field."""
        return np.zeros(self.shape) if getattr(self.node, "v_reset", None) is None else self._of("v_reset")

    def _where(self) -> str:
        return f"from_nir: the {self.kind} '{self.name}'"

    def _decay(self, key: str) -> np.ndarray:
        """λ of a time constant."""
        tau, dt = self._of(key), self.reading.dt
        if self.reading.convention.decay == "exp":
            if np.any(tau <= 0):
                raise ValueError(f"{self._where()} has a {key} of {tau.min():g}; expected is one above 0.")
            return np.exp(-dt / tau)
        # Of float32, as many files are, dt itself may come back a little smaller.
        short = tau < dt * (1 - 1e-6)
        if np.any(short):
            raise ValueError(
                f"{self._where()} has a {key} of {tau.min():g}, shorter than the time step dt = {dt:g}: a step of the "
                f"explicit Euler method would overshoot. Give the dt that the file was written for, at most "
                f"{tau.min():g}; {key} of a file that counts time in steps goes with dt=1."
            )
        return np.clip(1 - dt / tau, 0, 1)

    def _gain(self) -> np.ndarray:
        """c: what the current is multiplied by, of a filter together with its membrane."""
        r, dt, gain = self._of("r"), self.reading.dt, self.reading.convention.gain
        if gain == "one":
            return np.ones(self.shape)
        if gain == "dt/tau" and not self.cuba:
            return dt / self._of(self.tau) if self.leaks else np.ones(self.shape)
        membrane = r * dt / self._of(self.tau) if self.leaks else r * dt
        return membrane * self._of("w_in") * dt / self._of("tau_syn") if self.cuba else membrane

    def _rounded(self, gain: np.ndarray) -> np.ndarray:
        """A gain of 1 that the number format of the file has missed: r = τ/dt of float32 gives 1 ± 1e-7."""
        formats = [np.asarray(getattr(self.node, key)).dtype for key in ("r", self.tau) if hasattr(self.node, key)]
        floating = [f for f in formats if f.kind == "f"]
        eps = max((float(np.finfo(f).eps) for f in floating), default=2.0**-52)
        return np.where(np.abs(gain - 1) <= 8 * eps, 1.0, gain)

    def membranes(self) -> Paired:
        """Those that never fire."""
        start = self._start() if np.any(self.leak) else "zero"
        drift = (1 - self.decay) * self.leak
        layer = Integrator(
            number(self.decay),
            number(self.synaptic),
            drift=number(drift),
            start_from=number(np.zeros(self.shape) if start == "zero" else self.leak),
        )
        return Paired(layer, self._rounded(self._gain()), np.zeros(self.shape))

    def spiking(self) -> Paired:
        """Those that fire."""
        threshold, value = self._of("v_threshold"), self._value()
        if self.reading.convention.start == "reset" and np.any(value != self.leak):
            raise ValueError(
                f"{self._where()} starts from its v_reset, which is another potential than it leaks to: that has no "
                "counterpart. Write like='nir', which starts from 0, if that is meant."
            )
        gain, shift = self._rounded(self._gain()), np.zeros(self.shape)
        # Where r = 1 the current decays as the membrane does, also where the decay is learned later.
        tau = self.leaks and not self.cuba and bool(np.all(self._of("r") == 1))
        decayed = tau and self.reading.convention.gain != "one" and self.reading.convention.decay == "euler"
        decayed = decayed and bool(np.all(self.decay < 1))
        gain = np.ones(self.shape) if decayed else gain
        if np.any(self.leak):
            if self._start() in ("leak", "reset"):
                threshold, value = threshold - self.leak, value - self.leak
            elif self.cuba:
                raise ValueError(
                    f"{self._where()} has a v_leak, and is to start from a membrane of 0: behind a filter that has no "
                    "counterpart. Write start='leak', or shift v_leak, v_threshold and v_reset to v_leak = 0."
                )
            else:
                shift = self.leak if decayed else (1 - self.decay) * self.leak
        return Paired(self._layer(threshold, value, decayed), gain, shift)

    def _start(self) -> str:
        start = self.reading.convention.start
        if start is None:
            raise ValueError(
                f"{self._where()} has a v_leak of up to {np.abs(self.leak).max():g}, and no file says whether its "
                "membrane starts there or at 0: libraries differ. Write from_nir(..., start='leak') or start='zero'."
            )
        return start

    def _layer(self, threshold: np.ndarray, value: np.ndarray, decayed: bool) -> Any:
        self._refuse_threshold(threshold)
        convention = self.reading.convention
        options: dict[str, Any] = {
            "reset": self._reset(threshold, value),
            "max_spikes": None if convention.several else 1,
            "floor": self._floor(threshold),
        }
        arguments: tuple[Any, ...] = (number(threshold), surrogate_of(self.reading))
        if not self.leaks:
            return IF(*arguments, **options)
        if self.cuba:
            return CurrentLIF(number(self.synaptic), number(self.decay), *arguments, **options)
        return LIF(number(self.decay), *arguments, decay_input=decayed, **options)

    def _refuse_threshold(self, threshold: np.ndarray) -> None:
        lowest = float(threshold.min())
        if lowest <= 0:
            raise ValueError(
                f"{self._where()} has a threshold of {lowest:g} above its membrane at rest: it would fire without any "
                "input, at every step. Expected is v_threshold above v_leak."
            )
        if uniform(threshold) is None and lowest < THRESHOLDS[0]:
            raise ValueError(
                f"{self._where()} has thresholds of its own for each neuron, down to {lowest:g}; those of single "
                f"neurons are kept above {THRESHOLDS[0]:g}. Count potentials in a smaller unit: multiply "
                "v_threshold, v_reset, v_leak and r by one and the same number."
            )

    def _reset(self, threshold: np.ndarray, value: np.ndarray) -> Any:
        reset = self.reading.convention.reset_of(self.kind)
        if reset is None:
            raise ValueError(
                f"{self._where()}: snnTorch writes v_reset = 0 whatever its neurons do when they fire. Say what these "
                'did: from_nir(..., reset="late") for reset_mechanism="subtract", its default, reset="subtract" with '
                'reset_delay=False, reset="zero" for reset_mechanism="zero" with reset_delay=False, reset="none" for '
                '"none".'
            )
        if reset == "none":
            return None
        if reset == "zero":
            if np.any(value >= threshold):
                raise ValueError(
                    f"{self._where()} is reset to a v_reset that is not below its threshold, so that a neuron which "
                    "has fired once would fire for ever."
                )
            return ResetTo(number(value))
        if np.any(self._value()) or np.any(self.leak):
            raise ValueError(
                f"{self._where()} has a v_reset or v_leak other than 0, of which reset={reset!r} says nothing. A "
                "reset to "
                'v_reset is reset="zero".'
            )
        if reset == "subtract":
            return self._times()
        if np.any(self.decay < SMALLEST_DECAY):
            raise ValueError(
                f"{self._where()} keeps {self.decay.min():g} of its membrane in a step, of which what a spike "
                "subtracts "
                'after the decay says nothing. Write reset="subtract" or reset="none".'
            )
        return AfterDecay(self._times())

    def _times(self) -> float:
        """How many thresholds a spike subtracts: 1, unless the metadata say otherwise."""
        times = told(getattr(self.node, "metadata", None), "times")
        return 1.0 if times is None else float(times)

    def _floor(self, threshold: np.ndarray) -> float | None:
        if self.kind != "IF" or not self.reading.convention.floor:
            return None
        same = uniform(threshold)
        if same is None:
            raise ValueError(
                f"{self._where()} is kept from falling below −v_threshold, which differs from neuron to neuron. Read "
                "it with a Convention of floor=False, or with one threshold for all."
            )
        return -same
