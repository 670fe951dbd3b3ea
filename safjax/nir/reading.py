"""From a NIR graph to a net."""

import graphlib
from typing import Any

from flax import nnx

from safjax.nir.arrays import Shape, last, listed, shape_of
from safjax.nir.conventions import Convention, convention_of, of_metadata, time_step
from safjax.nir.graphs import Plan, planned
from safjax.nir.layers import LINEAR, biased, delay
from safjax.nir.net import Node, Wired
from safjax.nir.neurons import MEMBRANES, SPIKING, neurons_of, readout_of
from safjax.nir.numbers import Reading
from safjax.nn import AxonalDelay, Synapse
from safjax.surrogate import Sigmoid, Surrogate


def from_nir(
    graph: Any,
    dt: float | None = None,
    *,
    reset: str | None = None,
    like: str | Convention | None = None,
    start: str | None = None,
    surrogate: Surrogate = Sigmoid(),  # noqa: B008 (a frozen value)
) -> nnx.Module:
    """A net that computes what a NIR graph says, in steps of dt; it is run and trained as any other net.

        net = safjax.nir.from_nir(nir.read("net.nir"), dt=1e-4)
        spikes = safjax.predict(net, x)                  # x[T, B, ...], channels last
        net = safjax.nir.from_nir(nir.read("theirs.nir"), dt=1e-4, like="snntorch", reset="late")

    A file holds equations in continuous time; the equations of their steps, the pairing of each neuron and where they
    come from are those of `safjax.nir.neurons`. A node becomes a layer under its own name, `net.layers["lif1"]`. NIR's
    examples have channels first, [C, H, W], those of the net have them last, [H, W, C]; `Flatten` keeps NIR's order.
    Edges into one node add up, and a loop takes one step: what comes back is the result of the step before, zeros at
    the first. Sub-graphs are inlined. Weights are learned; decays, thresholds and gains are constants.

    Online rules take what comes back from the step before as a constant, so that they learn recurrent weights where
    these stand behind the delay. They do, unless the weights have a bias which at the first step does not act yet:
    `Convention(bias_at_start=True)` lets it.

    Args:
      graph: a `nir.NIRGraph`. Files with non-square or grouped convolutions pass NIR's own check of shapes by
        `nir.read(path, type_check=False)` only.
      dt: the time step, in the unit of the file's time constants; None takes the one that the graph's metadata say.
      reset: what a spike does to the membrane, as of `Convention`; None that of the node's metadata, or else of the
        convention, by which NIR's own equation sets it to v_reset.
      like: the convention: "snntorch", "norse", "spikingjelly", "sinabs", "spyx", the library whose own net the file
        was written from and is to compute alike; "nir" or None, the equations as they stand; or a `Convention`.
      start: "leak" or "zero", where membranes of a v_leak other than 0 start; see `Convention`.
      surrogate: the spike function of all neurons.

    Returns:
      A net of one input and one output, channels last.

    Raises:
      TypeError: graph is none; like is neither a name nor a `Convention`.
      ValueError: no dt, or one that contradicts the metadata; a node that has no counterpart, by its name, with what to
        write instead; shapes that do not go together; nodes that nothing leads to; a loop of two entries.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> import safjax
      >>> import safjax.nir
      >>> nir = safjax.nir.library()
      >>> ones = np.ones(2)
      >>> lif = nir.LIF(tau=2e-3 * ones, r=2 * ones, v_leak=0 * ones, v_threshold=ones, v_reset=0 * ones)
      >>> graph = nir.NIRGraph.from_list(nir.Linear(np.array([[0.6], [0.3]])), lif)
      >>> net = safjax.nir.from_nir(graph, dt=1e-3)
      >>> safjax.predict(net, jnp.ones((6, 1, 1)))[:, 0].astype(int).T.tolist()
      [[0, 0, 1, 0, 0, 1], [0, 0, 0, 0, 0, 0]]
    """
    convention = convention_of(like, reset, start)
    convention = of_metadata("the graph", getattr(graph, "metadata", None), convention, reset)
    plan = planned(graph, convention.direct)
    step = time_step(graph, dt, like)
    if not isinstance(surrogate, Surrogate):
        raise TypeError(f"from_nir(surrogate={surrogate!r}): expected a safjax.surrogate.Surrogate, such as Sigmoid().")
    return _Builder(plan, Reading(step, convention, surrogate), reset).net()


class _Builder:
    """Makes the layers of a plan, node by node."""

    def __init__(self, plan: Plan, reading: Reading, reset: str | None):
        self.plan, self.reading, self.reset = plan, reading, reset
        self.sources = dict(plan.sources)
        self.delayed = dict(plan.delayed)
        self.layers: dict[str, Any] = {}
        self.before: dict[str, Any] = {}
        self.behind: dict[str, Any] = {}
        self.shapes: dict[str, Shape] = {}
        self.given: dict[str, Shape] = {}
        """What each node was told that leads to it."""

    def net(self) -> Wired:
        """The net."""
        self._move_delays()
        start, node = self.plan.input
        shape = shape_of(node.input_type)
        if shape is None:
            raise ValueError(f"from_nir: the Input '{start}' does not say the shape of one example.")
        self.shapes[start] = shape
        order = self._ordered()
        for name in order:
            self.given[name] = self._given(name)
            self.shapes[name] = self._build(name, self.given[name])
        end, node = self.plan.output
        self._check_output(end, node)
        kept = sorted({name for names in self.delayed.values() for name in names})
        self._check_delayed(order)
        names = _attribute_names([*order, end])
        called = {name: names[name] for name in (*order, end)}
        nodes = tuple(self._node(name, called) for name in (*order, end))
        return Wired(
            {called[k]: v for k, v in self.layers.items()},
            {called[k]: v for k, v in self.before.items()},
            {called[k]: v for k, v in self.behind.items()},
            nodes,
            {called[name]: last(self.shapes[name]) for name in kept},
            shape,
            {new: name for name, new in called.items()},
        )

    def _node(self, name: str, called: dict[str, str]) -> Node:
        start = self.plan.input[0]
        sources = tuple(None if a == start else called[a] for a in self.sources[name])
        own = tuple(called[a] for a in self.sources[name] if (a, name) in self.plan.looped)
        return Node(called[name], sources, own, tuple(called[a] for a in self.delayed[name]))

    def _move_delays(self) -> None:
        """Puts the delays of loops before recurrent weights, where zeros make nothing of zeros: W s[t−1].

        There online rules, which take what was kept for a constant, learn the weights.
        """
        start, moved = self.plan.input[0], True
        while moved:
            moved = False
            for name, node in self.plan.nodes.items():
                targets = [b for b, names in self.delayed.items() if name in names]
                onward = [b for b, names in self.sources.items() if name in names]
                free = type(node).__name__ in LINEAR and (self.reading.convention.bias_at_start or not biased(node))
                if not targets or onward or not free or self.delayed[name] or start in self.sources[name]:
                    continue
                for b in targets:
                    self.delayed[b] = tuple(a for a in self.delayed[b] if a != name)
                    self.sources[b] = (*self.sources[b], name)
                self.delayed[name], self.sources[name] = self.sources[name], ()
                moved = True

    def _ordered(self) -> list[str]:
        """The nodes' names as they are computed, after delays have been moved."""
        start, end = self.plan.input[0], self.plan.output[0]
        order = graphlib.TopologicalSorter(
            {name: self.sources[name] for name in (*self.plan.order, end)}
        ).static_order()
        return [name for name in order if name not in (start, end)]

    def _given(self, name: str) -> Shape:
        """The shape of what leads to a node."""
        shapes = {a: self.shapes[a] for a in (*self.sources[name], *self.delayed[name]) if a in self.shapes}
        if len(set(shapes.values())) > 1:
            told = ", ".join(f"'{a}' {listed(shape)}" for a, shape in shapes.items())
            raise ValueError(f"from_nir: what leads to '{name}' differs in shape and cannot add up: {told}.")
        if shapes:
            return next(iter(shapes.values()))
        # Recurrent weights, which nothing but the step before leads to: what comes out of neurons has their own shape.
        node = self.plan.nodes[self.delayed[name][0]]
        shape = shape_of(node.output_type)
        if shape is None:
            raise ValueError(f"from_nir: nothing says the shape of what '{self.delayed[name][0]}' sends to '{name}'.")
        return shape

    def _check_delayed(self, order: list[str]) -> None:
        for name in order:
            if (shape := self._given(name)) != self.given[name]:
                raise ValueError(
                    f"from_nir: '{name}' is given {listed(shape)} from the step before, but its sources were "
                    f"declared to send {listed(self.given[name])}."
                )
        self._given(self.plan.output[0])

    def _check_output(self, name: str, node: Any) -> None:
        given, declared = self._given(name), shape_of(node.output_type)
        if declared is not None and declared != given:
            raise ValueError(
                f"from_nir: the Output '{name}' has the shape {listed(declared)}, but is given what has the shape "
                f"{listed(given)}, channels first and without the batch."
            )

    def _build(self, name: str, given: Shape) -> Shape:
        """Makes the layer of a node; the shape of what comes out of it."""
        node = self.plan.nodes[name]
        kind = type(node).__name__
        convention = of_metadata(f"'{name}'", getattr(node, "metadata", None), self.reading.convention, self.reset)
        if kind in LINEAR:
            layer, made = LINEAR[kind](name, node, given, convention)
            if layer is not None:
                self.layers[name] = Synapse(layer)
            return made
        if kind == "Delay":
            return self._delay(name, node, given)
        if kind not in SPIKING + MEMBRANES:
            known = ", ".join(sorted({*LINEAR, *SPIKING, *MEMBRANES, "Delay", "Input", "Output", "NIRGraph"}))
            raise ValueError(
                f"from_nir: the node '{name}' is of the kind {kind}, which is not known. Known are {known}."
            )
        self._neurons(name, node, given, Reading(self.reading.dt, convention, self.reading.surrogate))
        return given

    def _neurons(self, name: str, node: Any, given: Shape, reading: Reading) -> None:
        only = [b for b, names in self.sources.items() if name in names] == [self.plan.output[0]]
        readout = readout_of(name, node, given, reading)
        if readout is not None:
            if not only or len(self.sources[self.plan.output[0]]) != 1:
                raise ValueError(
                    f"from_nir: the metadata of '{name}' say that it is a LeakyReadout, whose result is the net's "
                    "output, but it leads elsewhere, or something else leads to the output. Take them out: "
                    "metadata.pop('readout')."
                )
            self.layers[name] = readout
            return
        neurons = neurons_of(name, node, given, reading)
        before = neurons.before()
        if before is not None:
            self.before[name] = Synapse(before)
        self.layers[name] = neurons.neurons
        if reading.convention.answers_late and type(node).__name__ in SPIKING:
            self.behind[name] = AxonalDelay(1)

    def _delay(self, name: str, node: Any, given: Shape) -> Shape:
        if any(name in edge for edge in self.plan.looped):
            raise ValueError(
                f"from_nir: the Delay '{name}' lies in a loop. Every loop takes one step of its own, and whether the "
                "delay's are counted with it NIR does not say. Take the node out of the loop for one step in all, or "
                "wire the net by hand, with safjax.nn.Delay and AxonalDelay."
            )
        steps, made = delay(name, node, given, self.reading.dt)
        if steps.any():
            self.layers[name] = AxonalDelay(steps)
        return made


def _attribute_names(names: list[str]) -> dict[str, str]:
    """Names under which `nnx.Dict` can hold them: its own methods' names get an underscore."""
    taken: set[str] = set()
    found = {}
    for name in names:
        new = name
        while new in taken or hasattr(nnx.Dict, new) or new.startswith(("_pytree", "_nnx", "_object")):
            new = f"{new}_" if hasattr(nnx.Dict, new) or new in taken else f"node{new}"
        taken.add(new)
        found[name] = new
    return found
