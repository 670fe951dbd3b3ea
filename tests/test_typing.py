"""Type hints: every public name has complete ones, the whole package is strict, and users' programs see them."""

import collections.abc
import importlib
import inspect
import os
import subprocess
import sys
import tomllib
import typing
from pathlib import Path

import pytest
from matplotlib.axes import Axes

from tests.test_api import NAMES

ROOT = Path(__file__).parent.parent
PROGRAM = ROOT / "tests" / "typed_program.py"
MYPY = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]


CONTAINERS = {getattr(collections.abc, name) for name in collections.abc.__all__ if name not in ("Hashable", "Sized")}
SAYS_TOO_LITTLE = {list, dict, tuple, set, frozenset, typing.Callable, *CONTAINERS}
"""Types of what holds others, where they stand without those."""


def public():
    """Every public function and class, under its dotted name."""
    found = {f"{m}.{name}": getattr(importlib.import_module(m), name) for m, names in NAMES.items() for name in names}
    return [n for n in sorted(found.items()) if inspect.isfunction(n[1]) or inspect.isclass(n[1])]


def written_in(cls):
    """The functions, properties and class methods that the author of a class wrote, but for private ones."""
    for name, member in vars(cls).items():
        member = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        private = name.startswith("_") and not name.endswith("__")
        # Data classes and named tuples have methods made by the standard library.
        if inspect.isfunction(member) and not private and inspect.getsourcefile(member) == inspect.getsourcefile(cls):
            yield inspect.unwrap(member)


def functions_of(value):
    """A function, or all that users may call of a class, inherited from other classes of safjax as well."""
    if inspect.isfunction(value):
        return [value]
    ours = [cls for cls in value.__mro__ if cls.__module__.partition(".")[0] == "safjax"]
    return [function for cls in ours for function in written_in(cls)]


def hints_of(function):
    # matplotlib is imported where something is drawn.
    return typing.get_type_hints(function, localns={"Axes": Axes})


def parts(hint):
    """All types that a type is made of, itself among them."""
    if isinstance(hint, list):
        return [p for part in hint for p in parts(part)]
    inner = () if typing.get_origin(hint) is typing.Literal else typing.get_args(hint)
    return [hint, *parts(list(inner))]


def reached(values):
    """These, and every class of safjax that a type hint of theirs names: what users get from them, and give to them."""
    found, waiting = {}, list(values)
    while waiting:
        value = waiting.pop()
        if value in found or getattr(value, "__module__", "").partition(".")[0] != "safjax":
            continue
        found[value] = f"{value.__module__}.{value.__qualname__}"
        owners = [*functions_of(value), *([value] if inspect.isclass(value) else [])]
        hints = [hint for owner in owners for hint in hints_of(owner).values()]
        waiting += [part for part in parts(hints) if inspect.isclass(part)]
    return [pytest.param(value, id=name) for value, name in sorted(found.items(), key=lambda item: item[1])]


@pytest.mark.parametrize("value", reached(value for _, value in public()))
def test_what_users_meet_has_complete_type_hints(value):
    for function in functions_of(value):
        hints, names = hints_of(function), list(inspect.signature(function).parameters)
        method = inspect.isclass(value) and not isinstance(vars(value).get(function.__name__), staticmethod)
        missing = set(names[1:] if method else names) - set(hints)
        assert missing == set(), f"{function.__qualname__}: no type for {missing}"
        assert "return" in hints or function.__name__ == "__init__", f"{function.__qualname__}: no type of its result"
        vague = [part for part in parts(list(hints.values())) if part in SAYS_TOO_LITTLE]
        assert vague == [], f"{function.__qualname__}: a type that says too little"


def test_the_walk_meets_what_users_meet():
    names = {param.id for param in reached(value for _, value in public())}
    inside = {f"safjax.{name}" for name in ("nn.results.Gradient", "schedules.schedule.Schedule", "state.State")}
    assert inside <= names and len(names) > 200


def test_the_whole_package_is_strict():
    assert MYPY["strict"] and {"safjax", PROGRAM.relative_to(ROOT).as_posix()} <= set(MYPY["files"])
    assert {override["module"] for override in MYPY["overrides"]} == {"experiments.*"}


def checked(tmp_path, text):
    """What `mypy --strict` says of a user's program, errors inside safjax left out, as of an installed package."""
    (tmp_path / "program.py").write_text(text)
    # optax itself has no types.
    options = ["--strict", "--config-file=", "--follow-imports=silent", "--disable-error-code=import-untyped"]
    command = [sys.executable, "-m", "mypy", *options, f"--cache-dir={ROOT / '.mypy_cache' / 'users'}", "program.py"]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    return run.stdout.splitlines()


@pytest.mark.slow
def test_a_users_program_is_checked(tmp_path):
    assert checked(tmp_path, PROGRAM.read_text()) == ["Success: no issues found in 1 source file"]


MISTAKES = """
import safjax
safjax.trian_step
safjax.nn.Synaps
safjax.nn.LIF(decay="0.5")
safjax.nn.LIF()()
safjax.rules.sltt(sample=2)
safjax.predict(safjax.nn.LIF(), None, outputs="first")
safjax.value_and_grad(lambda output: output.mean(), safjax.rules.bptt(), steps=2)(safjax.nn.LIF())
"""


@pytest.mark.slow
def test_a_users_mistakes_are_found(tmp_path):
    found = checked(tmp_path, MISTAKES)
    lines = [int(line.split(":")[1]) for line in found if ": error:" in line]
    assert lines == list(range(3, 3 + len(MISTAKES.splitlines()) - 2)), found
