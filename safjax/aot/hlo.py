"""Compiled programs in the text that XLA has for them: their operations, and how often each runs."""

import re
from collections.abc import Iterator
from math import prod
from typing import NamedTuple

_BYTES = {"pred": 1, "bf16": 2, "c64": 8, "c128": 16, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\](\{[^}]*\})?")
_OPERATION = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = (.*)$")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_ON_CHIP = re.compile(r"S\([1-9]\d*\)")
"""Of a layout: in a memory that is not the device's main one, as TPUs have."""


_COUNTING = {"parameter", "get-tuple-element", "constant", "compare", "bitcast", "copy", "fusion"}


class Array(NamedTuple):
    """An array's type in the text.

    Attributes:
      kind: "f32", "bf16", "s32", "pred" and so on.
      shape: its sizes.
      on_chip: whether it lies in a small memory beside the units that compute.
    """

    kind: str
    shape: tuple[int, ...]
    on_chip: bool

    @property
    def bytes(self) -> int:
        """Its size."""
        width = _BYTES.get(self.kind)
        bits = int(re.sub(r"\D*(\d+).*", r"\1", self.kind) or 8) if width is None else 8 * width
        return -(-prod(self.shape) * bits // 8)


class Operation(NamedTuple):
    """One line of a program.

    Attributes:
      name: without its %.
      kind: such as "fusion" or "custom-call".
      type: of the result.
      operands: names.
      rest: what follows them; of a constant, its value.
      root: whether it is the result of its computation.
    """

    name: str
    kind: str
    type: str
    operands: tuple[str, ...]
    rest: str
    root: bool

    @property
    def arrays(self) -> list[Array]:
        """Of the result; those of a tuple in their order."""
        return arrays(self.type)

    def called(self, *roles: str) -> list[str]:
        """The computations that it calls in these roles, such as "calls", "body", "branch_computations"."""
        found = []
        for role in roles:
            if match := re.search(rf"\b{role}=(?:%?([\w.\-]+)|\{{([^}}]*)\}})", self.rest):
                found += [name.strip().lstrip("%") for name in (match.group(1) or match.group(2)).split(",")]
        return found

    @property
    def target(self) -> str:
        """Of a custom call whose, "" of other operations."""
        match = re.search(r'custom_call_target="([^"]+)"', self.rest)
        return match.group(1) if match else ""


class Module(NamedTuple):
    """A program: the operations of each of its computations."""

    computations: dict[str, list[Operation]]
    entry: str

    def within(self, operation: Operation) -> list[Operation]:
        """The operations of what a fusion was made of, and of fusions within it."""
        inner = [op for name in operation.called("calls") for op in self.computations.get(name, [])]
        return inner + [op for one in inner if one.kind == "fusion" for op in self.within(one)]


class Body(NamedTuple):
    """Operations that run one after the other.

    Attributes:
      operations: in their order.
      times: how often they run in one run of the program.
      in_loop: whether they stand in one.
      at_most: whether `times` is only the most that is possible, of a loop that ends by a condition.
    """

    operations: list[Operation]
    times: int
    in_loop: bool
    at_most: bool


def parse(text: str) -> Module:
    """A program from its text."""
    computations: dict[str, list[Operation]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if current is None:
            if match := _COMPUTATION.match(line):
                current = match.group(2)
                computations[current] = []
                entry = current if match.group(1) else entry
        elif line.startswith("}"):
            current = None
        elif match := _OPERATION.match(line):
            computations[current].append(_operation(match.group(2), match.group(3), bool(match.group(1))))
    return Module(computations, entry)


def arrays(type_: str) -> list[Array]:
    """The arrays of a type, in their order."""
    return [
        Array(kind, tuple(int(size) for size in sizes.split(",") if size), bool(_ON_CHIP.search(layout)))
        for kind, sizes, layout in _ARRAY.findall(type_)
    ]


def bodies(module: Module) -> Iterator[Body]:
    """What runs: the entry, and the bodies of its loops and branches, each with how often it does."""
    yield from _bodies(module, module.entry, 1, False, False)


def _bodies(module: Module, name: str, times: int, in_loop: bool, at_most: bool) -> Iterator[Body]:
    operations = module.computations.get(name, [])
    yield Body(operations, times, in_loop, at_most)
    for op in operations:
        if op.kind == "while":
            count, known = _trips(module, op)
            for body in op.called("body"):
                yield from _bodies(module, body, times * count, True, at_most or not known)
        elif op.kind in ("conditional", "call", "async-start"):
            roles = "branch_computations", "true_computation", "false_computation", "to_apply", "calls"
            for branch in op.called(*roles):
                yield from _bodies(module, branch, times, in_loop, at_most or op.kind == "conditional")


def _trips(module: Module, loop: Operation) -> tuple[int, bool]:
    """(how often a loop runs, whether that is known): else the largest number that its condition compares with."""
    if match := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.rest):
        return int(match.group(1)), True
    conditions = [op for name in loop.called("condition") for op in module.computations.get(name, [])]
    conditions += [op for condition in conditions if condition.kind == "fusion" for op in module.within(condition)]
    numbers = [int(op.rest) for op in conditions if op.kind == "constant" and op.rest.isdecimal()]
    # A condition that compares the number of the turn, and nothing else.
    return max(numbers, default=1), bool(numbers) and {op.kind for op in conditions} <= _COUNTING


def _operation(name: str, text: str, root: bool) -> Operation:
    type_, text = _cut(text) if text.startswith("(") else tuple(text.split(" ", 1))
    kind, _, behind = text.strip().partition("(")
    inside, rest = _cut(f"({behind}")
    if kind == "constant":
        return Operation(name, kind, type_, (), inside[1:-1], root)
    return Operation(name, kind, type_, tuple(re.findall(r"%([\w.\-]+)", inside)), rest, root)


def _cut(text: str) -> tuple[str, str]:
    """A text that begins with a bracket, cut where that closes."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[: place + 1], text[place + 1 :]
    return text, ""
