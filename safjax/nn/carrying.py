"""Between the state in the caller's hands and what a time loop carries."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn.bound import Bound
from safjax.nn.states import flat, join
from safjax.rules import RULES, Rule
from safjax.state import State, is_gain, is_key, of_each_member


def begun(bound: Bound, params: Any, state: State | None) -> tuple[Any, dict[Any, Any]]:
    """(carry, constants) of a run that goes on from a state; None is the start of a sequence."""
    if state is None:
        return (_members_apart(bound, bound.at_rest(params)), bound.changing), bound.constants
    layers = flat(jax.eval_shape(bound.at_rest, params))
    given = state.variables
    neurons = _members_apart(bound, nnx.from_flat_state({path: given[join(path)] for path in layers}))
    own = {path: given[join(path)] for path in bound.own}
    running = {path: state.running[join(path)] for path in bound.changing if join(path) in state.running}
    replaced = {**running, **own}
    changing = {path: replaced.get(path, value) for path, value in bound.changing.items()}
    return (neurons, changing), {path: own.get(path, value) for path, value in bound.constants.items()}


def _members_apart(bound: Bound, neurons: Any) -> Any:
    """Neuron states with a gain for each member where members may end at different times."""
    if not bound.course.padded:
        return neurons
    members = bound.course.batch
    each = {path: of_each_member(value, members, bound.axes[path]) for path, value in flat(neurons).items()}
    return nnx.from_flat_state(each)


def handed_on(
    bound: Bound, carry: tuple[Any, dict[Any, Any]], params: Any, before: State | None, running: bool = False
) -> State:
    """The state after a run that ended with this carry, and with these parameters.

    Args:
      before: the state that the run began with; None for a new sequence.
      running: whether the net's own changing variables go along.
    """
    neurons, changing = flat(carry[0]), carry[1]
    own = {path: changing.get(path, bound.constants.get(path)) for path in bound.own}
    if before is not None:
        own = {path: changing.get(path, before.variables[join(path)]) for path in bound.own}
    net = {path: {**bound.constants, **bound.changing}[path] for path in bound.own}
    begins = flat(bound.at_rest(params))
    rest = {path: _rest(begins[path], zeros) for path, zeros in bound.zeros.items()}
    rest.update({path: [0.0 if is_key(leaf) else leaf for leaf in jax.tree.leaves(net[path])] for path in bound.own})
    axes = [(path, axes) for path, axes in bound.axes.items()] + [(path, _own_axes(net[path], bound)) for path in own]
    return State(
        {join(path): value for path, value in {**neurons, **own}.items()},
        {join(path): value for path, value in rest.items()},
        {join(path): value for path, value in changing.items() if running and path not in own},
        bound.kind,
        tuple(sorted((join(path), where) for path, where in axes)),
        _longest(bound, neurons),
    )


def _rest(begin: Any, zeros: list[bool]) -> list[Any]:
    """What a member begins with, 0 for zeros; of a gain always."""
    parts, zero = jax.tree.leaves(begin, is_leaf=is_gain), iter(zeros)
    return [0.0 if next(zero) or is_gain(part) else part for part in parts]


def _own_axes(value: Any, bound: Bound) -> tuple[int | None, ...]:
    """Of keys, behind those of stacked layers; of a layer's own state in front, if it is as long as the batch."""

    def axis(leaf: Any) -> int | None:
        if is_key(leaf):
            return leaf.ndim
        return 0 if jnp.ndim(leaf) and leaf.shape[0] == bound.course.batch else None

    return tuple(axis(leaf) for leaf in jax.tree.leaves(value))


def _longest(bound: Bound, neurons: dict[Any, Any]) -> float | None:
    gains = [part for part in jax.tree.leaves(neurons, is_leaf=is_gain) if is_gain(part)]
    return bound.kind.longest(bound.course.decay, gains[0].value.dtype) if gains else None


def check_state(state: Any, rule: Rule, steps: int) -> None:
    """Refuses what is no state, one of another kind than the rule's, and one that has summed for too long.

    Raises:
      TypeError, ValueError: it is; the message says where a state comes from.
    """
    if state is None:
        return
    if not isinstance(state, State):
        raise TypeError(
            f"state must be a state as safjax.start(net, x, rule) makes it and every call that is given one hands on, "
            f"in aux.state, but was a {type(state).__name__}. Without state a sequence starts from rest."
        )
    if rule.schedule.counts:
        raise ValueError(
            f"The rule '{rule.name}' learns from a certain step of a sequence on, but a state does not tell how many "
            "steps there were before. Give it whole sequences, without state, or let it learn from the first step on."
        )
    if state.kind != rule.propagation.inference:
        raise ValueError(
            f"The state is one of {_KINDS.get(type(state.kind).__name__, 'another rule')}, but the rule '{rule.name}' "
            f"goes on from one of {_KINDS.get(type(rule.propagation.inference).__name__, 'its own')}. Begin with "
            f"state = safjax.start(net, x, rule) for this rule; a stream goes on from either."
        )
    _check_length(state, rule, steps)


_KINDS = {
    "SpikePropagation": "spikes (BPTT, SLTT, EXODUS, SLAYER, a stream)",
    "EligibilityPropagation": "spikes and their eligibilities (OSTL)",
    "EstimatingPropagation": "spikes and their eligibilities (OTPE)",
    "BroadcastPropagation": "spikes and their eligibilities (e-prop)",
    "TracePropagation": "spikes and their traces (OTTT)",
    "ApproxOTPEPropagation": "spikes, their traces and mean slopes (Approx-OTPE)",
    "STLLRPropagation": "spikes with traces of spikes and slopes (S-TLLR)",
    "RatePropagation": "accumulated spikes (SAF, SR, IDE)",
}


def _who(rule: Rule) -> str:
    return f"the rule '{rule.name}'" if rule.name in RULES else "inference from such a state"


def _check_length(state: State, rule: Rule, steps: int) -> None:
    gains = [part.value for part in jax.tree.leaves(state.variables, is_leaf=is_gain) if is_gain(part)]
    if state.longest is None or not gains or any(isinstance(g, jax.core.Tracer) for g in gains):
        return
    gone = max(float(jnp.max(g)) for g in gains)
    if gone + steps > state.longest:
        raise ValueError(
            f"The sequence is {gone:.0f} steps long, and {steps} more are to come. Without leak (decay 1) "
            f"{_who(rule)} sums spikes over all of them, which in {gains[0].dtype} is exact up to "
            f"{int(state.longest)} steps. Begin anew from time to time, state = safjax.reset(state, jnp.ones(B, "
            "bool)), give the neurons a decay below 1, or train with sltt() or bptt(), which follow the membrane alone."
        )


def check_form(state: State, expected: State, x: Any) -> None:
    """Refuses a state of another net, or of inputs of another shape.

    Raises:
      ValueError: it is; the message names the layer.
    """
    batch = [leaf.shape for leaf in jax.tree.leaves(x)]
    for path in sorted({*state.variables, *expected.variables}):
        now, wanted = (_form(s.variables.get(path)) for s in (state, expected))
        if now == wanted or (path in state.variables and path in expected.variables and _apart(now, wanted)):
            continue
        where, _, name = path.rpartition(".")
        if name.startswith("encoder") and path not in state.variables:
            raise ValueError(
                f"The state has no sum of the input that enters at '{where}': it is of another net. Begin with state = "
                "safjax.start(net, x, rule)."
            )
        raise ValueError(
            f"The state does not fit inputs of the shapes {batch}: at '{path}' it has {_words(now)}, but expected is "
            f"{_words(wanted)}. It is that of another net, or of inputs of another batch size or shape. Begin with "
            "state = safjax.start(net, x, rule) and hand on the state that each call returns."
        )


def _form(value: Any) -> list[Any]:
    parts = jax.tree.leaves(value, is_leaf=is_gain)
    return [("gain" if is_gain(p) else "array", jnp.shape(p.value if is_gain(p) else p), _dtype(p)) for p in parts]


def _dtype(part: Any) -> Any:
    return (part.value if is_gain(part) else part).dtype


def _apart(now: list[Any], wanted: list[Any]) -> bool:
    """Whether two forms differ by the members' own gains and keys alone."""
    return len(now) == len(wanted) and all(
        a == b or (a[2] == b[2] and a[0] == b[0] and (a[0] == "gain" or jnp.issubdtype(a[2], jax.dtypes.prng_key)))
        for a, b in zip(now, wanted, strict=True)
    )


def _words(form: list[Any]) -> str:
    return ", ".join(f"{dtype}{list(shape)}" for _, shape, dtype in form) or "nothing"
