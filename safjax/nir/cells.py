"""The neurons of safjax as those of NIR: the pairings of `safjax.nir.neurons` the other way round.

With τ = dt / (1 − λ) and v_leak = 0,

    LIFCell       `LIF`, without leak `IF`; reset to a value v_reset, no reset `LI` and `Threshold`
    CurrentCell   `CubaLIF`, τ_syn = dt / (1 − α), w_in = τ_syn / dt
    readout       `LI` of r = 1, whose v[t] = (1 − λᵗ) o[t] has the largest entry where o[t] has it

and r = τ/dt where currents enter the membrane as they are (gain "membrane"), or r = 1 where they enter it times 1 − λ
("current"); a cell that is not of that kind has its weights multiplied. NIR has no field for a reset that subtracts:
metadata hold it.
"""

import dataclasses
from typing import Any

import numpy as np

from safjax.neurons import AfterDecay, CurrentCell, LIFCell, ResetTo
from safjax.nir.drawing import Drawing, Wire, refused
from safjax.nir.membranes import IntegratorCell, Strict

MISSING = {
    "AdaptiveCell": "has a threshold that rises with its spikes",
    "RefractoryCell": "has a refractory period",
    "NormalisedCell": "normalises its potential",
    "PSNCell": "looks at all steps at once",
    "SPSNCell": "fires at random",
    "SlidingPSNCell": "weighs its last currents",
}


def draw_neurons(drawing: Drawing, path: str, cell: Any, wire: Wire) -> Wire:
    """The nodes of neurons.

    Raises:
      ValueError: NIR has none for them.
    """
    if type(cell) is IntegratorCell:
        return _integrator(drawing, path, cell, wire)
    lif = cell.lif if type(cell) is CurrentCell else cell
    if type(lif) is not LIFCell:
        why = MISSING.get(type(cell).__name__, f"computes by a {type(cell).__name__}")
        raise refused(path, f"{why}, for which NIR has no node. Train the net with LIF, IF, PLIF or CurrentLIF there.")
    if lif.floor is not None:
        raise refused(path, f"keeps its membrane above {lif.floor}, of which NIR knows nothing. Write floor=None.")
    if lif.max_spikes != 1:
        raise refused(path, "may fire several spikes in a step, of which NIR knows nothing. Write max_spikes=1.")
    drawn = _Neurons(drawing, path, lif, wire, cell.synaptic_decay if type(cell) is CurrentCell else None).drawn()
    return drawing.scaled(path, drawn, lif.drop) if lif.scaled else drawn


class _Neurons:
    """The numbers of LIF neurons, as nodes hold them."""

    def __init__(self, drawing: Drawing, path: str, lif: LIFCell, wire: Wire, synaptic_decay: Any):
        self.drawing, self.path, self.lif, self.wire = drawing, path, lif, wire
        self.threshold = wire.spread(lif.threshold)
        self.decay = wire.spread(lif.decay)
        self.synaptic = None if synaptic_decay is None else wire.spread(synaptic_decay)
        self.zeros, self.ones = np.zeros_like(self.decay), np.ones_like(self.decay)
        self.leaks = not np.all(self.decay == 1)
        self._refuse()

    def _refuse(self) -> None:
        if self.leaks and np.any(self.decay == 1):
            raise refused(
                self.path,
                "has neurons with a leak and some without, λ = 1. NIR's LIF leaks, IF does not: give all a λ below 1.",
            )
        if self.synaptic is not None and (not self.leaks or np.any(self.synaptic == 1)):
            raise refused(
                self.path,
                "has a filter or a membrane without leak, but the time constants of NIR's CubaLIF are finite. Give "
                "decays below 1.",
            )

    def drawn(self) -> Wire:
        """The wire behind the neurons."""
        nir, lif = self.drawing.nir, self.lif
        fires = {"fires": ">" if isinstance(lif.surrogate, Strict) else ">="}
        if lif.reset is None:
            # What has no memory beside its threshold is a threshold; what has one, a membrane and a threshold.
            silent = self.synaptic is None and np.all(self.decay == 0)
            before = self.wire if silent else self._membrane()
            level = nir.Threshold(self.threshold, metadata=fires)
            return self.drawing.add(self.path, level, before, order=self.wire.order)
        value, metadata = self._reset()
        wire, r = self._driven()
        numbers: dict[str, Any] = {"r": r, "v_threshold": self.threshold, "v_reset": value}
        numbers["metadata"] = {**metadata, **fires}
        return self.drawing.add(self.path, self._node(numbers), wire, order=self.wire.order)

    def _node(self, numbers: dict[str, Any]) -> Any:
        nir = self.drawing.nir
        if not self.leaks:
            return nir.IF(**numbers)
        if self.synaptic is None:
            return nir.LIF(tau=self._tau(), v_leak=self.zeros, **numbers)
        tau_syn = self.drawing.dt / (1 - self.synaptic)
        return nir.CubaLIF(
            tau_mem=self._tau(), tau_syn=tau_syn, w_in=tau_syn / self.drawing.dt, v_leak=self.zeros, **numbers
        )

    def _tau(self) -> np.ndarray:
        return self.drawing.dt / (1 - self.decay)

    def _driven(self) -> tuple[Wire, np.ndarray]:
        """(what leads to the node, r): the current is multiplied as the cell multiplies it."""
        wanted = 1 - self.decay if self.lif.decay_input else self.ones
        if not self.leaks:
            return self.wire, self.ones / self.drawing.dt
        gain = self.drawing.gain or ("current" if self.lif.decay_input else "membrane")
        r, own = (self.ones / (1 - self.decay), self.ones) if gain == "membrane" else (self.ones, 1 - self.decay)
        factor = wanted / own
        if np.all(factor == 1):
            return self.wire, r
        scale = self.drawing.nir.Scale(factor)
        return self.drawing.add(f"{self.path}.gain", scale, self.wire, order=self.wire.order), r

    def _membrane(self) -> Wire:
        wire, r = self._driven()
        nir, path = self.drawing.nir, f"{self.path}.membrane"
        if not self.leaks:
            return self.drawing.add(path, nir.I(r=r), wire, order=wire.order)
        if self.synaptic is None:
            return self.drawing.add(path, nir.LI(tau=self._tau(), r=r, v_leak=self.zeros), wire, order=wire.order)
        tau_syn = self.drawing.dt / (1 - self.synaptic)
        w_in = tau_syn / self.drawing.dt
        node = nir.CubaLI(tau_mem=self._tau(), tau_syn=tau_syn, r=r, v_leak=self.zeros, w_in=w_in)
        return self.drawing.add(path, node, wire, order=wire.order)

    def _reset(self) -> tuple[np.ndarray, dict[str, Any]]:
        """(v_reset, metadata)."""
        reset = self.lif.reset
        if isinstance(reset, ResetTo):
            return self.wire.spread(reset.value), {"reset": "zero"}
        self.drawing.subtracting.append(self.path)
        late = isinstance(reset, AfterDecay)
        spread = self.wire.spread(reset.times if isinstance(reset, AfterDecay) else reset)
        if np.any(spread != spread.flat[0]):
            raise refused(
                self.path,
                "subtracts another number of thresholds from each neuron, for which neither NIR nor its metadata "
                "have a place. Train with reset=ResetTo(0.0).",
            )
        metadata: dict[str, Any] = {"reset": "late" if late else "subtract"}
        if spread.flat[0] != 1:
            metadata["times"] = float(spread.flat[0])
        return self.zeros, metadata


def _integrator(drawing: Drawing, path: str, cell: IntegratorCell, wire: Wire) -> Wire:
    """A membrane that never fires, from a net that was read."""
    decay, synaptic = wire.spread(cell.decay), wire.spread(cell.synaptic_decay)
    drift, start = wire.spread(cell.drift), wire.spread(cell.start_from)
    ones, dt, nir = np.ones_like(decay), drawing.dt, drawing.nir
    if np.all(decay == 1) and not np.any(synaptic):
        return drawing.add(path, nir.I(r=ones / dt), wire, order=wire.order)
    if np.any(decay == 1) or np.any(synaptic == 1):
        raise refused(path, "has membranes with a leak and some without. Give all a decay below 1.")
    leak = drift / (1 - decay)
    metadata = {"start": "leak" if np.any(start) else "zero"} if np.any(leak) else {}
    numbers = {"r": ones / (1 - decay), "v_leak": leak, "metadata": metadata}
    if not np.any(synaptic):
        return drawing.add(path, nir.LI(tau=dt / (1 - decay), **numbers), wire, order=wire.order)
    node = nir.CubaLI(tau_mem=dt / (1 - decay), tau_syn=dt / (1 - synaptic), w_in=1 / (1 - synaptic), **numbers)
    return drawing.add(path, node, wire, order=wire.order)


def draw_readout(drawing: Drawing, path: str, wire: Wire, decay: Any) -> Wire:
    """The node of a `LeakyReadout`."""
    decays, metadata = wire.spread(decay), {"readout": "LeakyReadout"}
    ones = np.ones_like(decays)
    if np.all(decays == 1):
        node = drawing.nir.I(r=ones / drawing.dt, metadata=metadata)
    elif np.any(decays == 1):
        raise refused(path, "has a decay of 1 for some of its entries only. Give all a decay below 1, or all 1.")
    else:
        node = drawing.nir.LI(tau=drawing.dt / (1 - decays), r=ones, v_leak=0 * ones, metadata=metadata)
    return dataclasses.replace(drawing.straight(path, drawing.add(path, node, wire, order=wire.order)), final=True)
