"""Training steps of every rule as XLA compiles them for an H100: what must not be there, and what each costs.

Skipped where the compiler is not installed (`pip install 'safjax[aot-cuda]'`, or SAFJAX_COMPILERS); neither a driver
nor a GPU is needed.
"""

import pytest

from safjax import rules
from safjax.aot import cost_of
from safjax.aot.hlo import parse
from safjax.rules.ports import PortPropagation
from safjax.schedules import MeanOutput
from tests.aot import steps
from tests.tables import BROAD, DEEP

T, LONGER = 6, 24
STATES, WEIGHTS = 16_384, 65_536
"""Bytes that are copied with a neuron's state, and with weights, of the smallest layers."""
TAPS = (steps.SIDE * 3 - 2) ** 2, (steps.SIDE // 2 * 3 - 2) ** 2
"""Of 3×3 kernels over a map, those that do not meet padding."""


def faults(program, least):
    """What must not be in a program for an accelerator, in words; in loops, arrays of so many bytes moved."""
    module, found = parse(program.text), []
    every = steps.everything(module)
    found += [f"float64: {op.name}" for op in every if any(array.kind in ("f64", "c128") for array in op.arrays)]
    found += [f"callback: {op.name}" for op in every if "callback" in op.target or op.kind in ("infeed", "outfeed")]
    return found + [f"moved in a loop: {name} {kind}" for name, kind, _ in steps.moved_in_loops(module, least)]


def products(rule):
    """Multiplications and additions of the convolutional net's step: nothing is computed twice, and all as it stands.

    Minimal filtering (Winograd) would have fewer, convolutions as matrix products (im2col) more.
    The first convolution is that of a still image: its result leaves the loop where its weights do not change there.
    """
    one, two = steps.CHANNELS
    first, second = (2 * steps.BATCH * taps * n * m for taps, (n, m) in zip(TAPS, ((3, one), (one, two)), strict=True))
    last = 2 * steps.BATCH * two * steps.CLASSES
    turns = T if rule.schedule.updates(T) > 1 else 1
    backward = 1 if rule.schedule.last_step_only or isinstance(rule.schedule, MeanOutput) else T
    return 2 * turns * first + (T + 2 * backward) * (second + last)


def test_of_a_convolutional_net():
    programs = steps.compiled("h100", {name: steps.call(steps.vgg, make(), T) for name, make in BROAD.items()})
    assert {name: found for name, program in programs.items() if (found := faults(program, STATES))} == {}
    for name, program in programs.items():
        cost, rule = cost_of(program), rules.RULES[name]()
        if isinstance(rule.propagation, PortPropagation):  # which differentiate what they carry beside the values too
            assert cost.operations >= products(rule), name
        else:
            assert cost.operations == pytest.approx(products(rule), rel=2e-3), name
        # Weights and momentum are replaced where they lie.
        assert cost.memory.outputs - cost.memory.shared < 0.02 * cost.memory.arguments, name
        calls = [op.target for op in steps.everything(parse(program.text)) if op.target]
        assert calls and all("cudnn$conv" in target for target in calls), name


def test_of_a_dense_net():
    online = [name for name, make in DEEP.items() if not grows(make())]
    assert {"saf_f", "ottt_a", "sltt"} <= set(online)
    calls = {name: steps.call(steps.dense, make(), T) for name, make in DEEP.items()}
    longer = {f"{name}, longer": steps.call(steps.dense, rules.RULES[name](), LONGER) for name in online}
    programs = steps.compiled("h100", calls | longer)
    assert {name: found for name, program in programs.items() if (found := faults(program, WEIGHTS))} == {}
    for name in online:
        few, many = (programs[which].memory.temporary for which in (name, f"{name}, longer"))
        assert abs(many - few) < 0.02 * few, name


def grows(rule):
    """Whether the memory of a rule grows with T."""
    return rule.schedule.sees_all_steps


@pytest.mark.parametrize(("rule", "most"), [("ottt_a", 2), ("saf_e", T + 1)])
def test_devices_exchange_once_an_update(rule, most, tmp_path):
    """Gradients in one exchange, whatever the net's number of layers; the rates in another."""
    steps.compiled("h100", {})
    found = steps.exchanges(rule, T, tmp_path)
    assert 1 <= found <= most
