"""What a file leaves open: how its equations become steps, and what the library that wrote it made of them.

NIR's nodes are equations in continuous time. What a step of dt makes of them is a convention, and libraries differ in
it; a file says nothing of it unless its metadata do. `Convention` holds each choice by a name, `LIKE` those of the
libraries that write files, as their own nets compute.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

RESETS = ("zero", "subtract", "late", "none")
GAINS = ("file", "one", "dt/tau")
CHOICES = {
    "gain": GAINS,
    "decay": ("euler", "exp"),
    "fires": (">", ">="),
    "flatten": ("CHW", "HWC"),
    "start": ("leak", "zero", "reset", None),
}


@dataclasses.dataclass(frozen=True)
class Convention:
    """How the steps of a NIR graph are computed; the defaults are the explicit Euler steps of NIR's own equations.

    With u the membrane before the reset, v after it, z the spikes, λ the decay and g the gain of the input I:

        u[t] = λ v[t−1] + (1 − λ) v_leak + g I[t],   z[t] = [u[t] > v_threshold]

    Args:
      reset: "zero", v[t] = v_reset where a spike falls, which is 0 in nearly all files; "subtract",
        v[t] = u[t] − v_threshold z[t]; "late", u[t + 1] = λ u[t] − v_threshold z[t] + g I[t + 1]; "none". None says
        that the file does not tell, and has to be replaced.
      cuba_reset: that of `CubaLIF` where it is another one.
      gain: "file", g = r dt/τ (`IF`: r dt; `CubaLIF`: w_in dt/τ_syn into the filter, r dt/τ_mem out of it); "one",
        g = 1; "dt/tau", g = dt/τ in `LIF` and `LI` and 1 in `IF`, whatever r says, and that of the file in `CubaLIF`.
      decay: "euler", λ = 1 − dt/τ; "exp", λ = exp(−dt/τ).
      fires: ">" or ">=", what u is to the threshold where a neuron fires.
      several: ⌊u / v_threshold⌋ spikes a step.
      floor: the membrane of an `IF` is kept from falling below −v_threshold.
      answers_late: neurons hand on z[t−1] at step t, but to their own recurrent weights.
      bias_at_start: the biases of recurrent weights act at the first step already.
      direct: the input of a sub-graph goes to its neurons, where it is wired to their recurrent weights.
      flatten: "CHW", channels, rows, columns, as the shapes say; "HWC", rows, columns, channels, whatever they say.
      start: where v_leak is not 0, the membrane starts from it, "leak", or from 0, "zero"; None says that nothing
        tells. "reset" starts from v_reset, which is to be v_leak, as SpikingJelly has it.

    Raises:
      ValueError: a choice that there is not.
    """

    reset: str | None = "zero"
    cuba_reset: str | None = None
    gain: str = "file"
    decay: str = "euler"
    fires: str = ">"
    several: bool = False
    floor: bool = False
    answers_late: bool = False
    bias_at_start: bool = False
    direct: bool = False
    flatten: str = "CHW"
    start: str | None = None

    def __post_init__(self) -> None:
        resets = (*RESETS, None)
        for name, choices in {"reset": resets, "cuba_reset": resets, **CHOICES}.items():
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"Convention({name}={value!r}): expected one of {', '.join(map(repr, choices))}.")

    def reset_of(self, kind: str) -> str | None:
        """The reset of nodes of this kind."""
        return self.cuba_reset if kind == "CubaLIF" and self.cuba_reset is not None else self.reset


LIKE: Mapping[str, Convention] = {
    "nir": Convention(),
    "snntorch": Convention(reset=None, bias_at_start=True),
    "norse": Convention(gain="dt/tau"),
    "spikingjelly": Convention(fires=">=", start="reset"),
    "sinabs": Convention(reset="subtract", gain="one", decay="exp", fires=">=", several=True, floor=True),
    "spyx": Convention(reset="late", cuba_reset="subtract", gain="one", answers_late=True, direct=True, flatten="HWC"),
}
"""How the nets compute that these libraries write, found by running them. snnTorch writes v_reset = 0 whatever its
neurons do, so that the reset has to be given; sinabs counts time in steps, dt = 1."""


def convention_of(like: str | Convention | None, reset: str | None, start: str | None) -> Convention:
    """The convention that a reader asked for.

    Raises:
      TypeError: like is neither a name nor a `Convention`.
      ValueError: a name or choice that there is not.
    """
    if isinstance(like, str) and like not in LIKE:
        raise ValueError(
            f"from_nir(like={like!r}): expected one of {', '.join(map(repr, LIKE))}, the library whose net the file "
            "was written from, or a safjax.nir.Convention."
        )
    if like is not None and not isinstance(like, str | Convention):
        raise TypeError(
            f"from_nir(like=...): expected the name of a library, such as 'norse', or a safjax.nir.Convention, but was "
            f"given a {type(like).__name__}."
        )
    found = LIKE["nir" if like is None else like] if not isinstance(like, Convention) else like
    if reset is not None:
        found = dataclasses.replace(found, reset=reset, cuba_reset=None)
    return found if start is None else dataclasses.replace(found, start=start)


def told(metadata: Any, key: str) -> Any:
    """What metadata say under this name, as plain Python; None for nothing."""
    value: Any = metadata.get(key) if isinstance(metadata, Mapping) else None
    value = value.decode() if isinstance(value, bytes) else value
    return value.item() if hasattr(value, "item") else value


def of_metadata(name: str, metadata: Any, convention: Convention, given: str | None) -> Convention:
    """The convention of one node, or of a graph: what its metadata say comes first.

    Args:
      name: of the node, for messages.
      metadata: its own.
      convention: that of all others.
      given: the reset that the reader asked for.

    Raises:
      ValueError: metadata that say what nobody knows, or another reset than was asked for.
    """
    reset, fires, start = (told(metadata, key) for key in ("reset", "fires", "start"))
    if reset is not None:
        if reset not in RESETS:
            raise ValueError(
                f"from_nir: the metadata of {name} say reset = {reset!r}, which is none of "
                f"{', '.join(map(repr, RESETS))}. Correct them, or take them out: metadata.pop('reset')."
            )
        if given is not None and given != reset:
            raise ValueError(
                f"from_nir(reset={given!r}): the metadata of {name} say reset = {reset!r}. Leave reset out; to read "
                "the file otherwise, take what they say out: metadata.pop('reset')."
            )
        convention = dataclasses.replace(convention, reset=reset, cuba_reset=None)
    for key, value in (("fires", fires), ("start", start)):
        if value is not None and value not in CHOICES[key]:
            raise ValueError(f"from_nir: the metadata of {name} say {key} = {value!r}; expected one of {CHOICES[key]}.")
    convention = convention if fires is None else dataclasses.replace(convention, fires=fires)
    return convention if start is None else dataclasses.replace(convention, start=start)


def time_step(graph: Any, dt: Any, like: str | Convention | None) -> float:
    """dt: that of the metadata, or else what was given.

    Raises:
      ValueError: there is none, it is not positive, metadata and argument differ, or the writer counts steps.
    """
    written = told(getattr(graph, "metadata", None), "dt")
    if dt is None and written is None:
        raise ValueError(
            "from_nir(graph): a NIR file holds equations in continuous time and no time step. Give the dt, in the unit "
            "of its time constants, that the net is to take: snnTorch and SpikingJelly write files for dt=1e-4, norse "
            "for dt=1e-3, sinabs in steps, dt=1."
        )
    for value, where in ((dt, "from_nir(dt=...)"), (written, "the metadata of the graph")):
        if value is not None and (isinstance(value, bool | str) or not 0 < float(value) < float("inf")):
            raise ValueError(f"{where}: expected a time step above 0, but was given {value!r}.")
    if dt is not None and written is not None and abs(float(dt) / float(written) - 1) > 1e-6:
        raise ValueError(
            f"from_nir(dt={dt}): the metadata of the graph say dt = {written}. Leave dt out; to read the file with "
            "another one all the same, take theirs out: graph.metadata.pop('dt')."
        )
    step = float(dt if dt is not None else written)
    if like == "sinabs" and step != 1:
        raise ValueError(f"from_nir(dt={step}, like='sinabs'): sinabs counts time in steps. Write dt=1.")
    return step
