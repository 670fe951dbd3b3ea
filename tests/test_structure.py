"""How the source files hang together: who may import whom, and how long a file may be."""

import ast
import graphlib
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LONGEST_FILE = 300

FLAX_FACE = ("safjax.linen", "safjax.models", "safjax.nir", "safjax.nn")
"""The packages made of Flax modules. All other modules but the data's are the core, which also serves people with plain
functions."""

DATA = "safjax.data"
"""Files, frames and encoders: NumPy, and libraries of formats where a file needs them. It and the rest stand apart."""
OF_FORMATS = {"aedat", "h5py"}

NIR = "safjax.nir"
"""Nets as graphs of NIR, and graphs as nets, on top of everything else of the library."""
NIR_WRITING = {
    f"{NIR}.{name}" for name in ("cells", "delays", "drawing", "drawn", "functions", "scales", "synapses", "writing")
}

PLOTS = "safjax.plots"
"""Pictures of plain arrays, which know nothing else of the library; matplotlib is imported where something is drawn."""

EXPERIMENTS_ONLY = {"orbax", "rich", "sklearn", "tensorflow", "tensorflow_datasets", "tyro"}


def dotted(path):
    """safjax/nn/synapse.py ↦ safjax.nn.synapse; a package goes by the name of its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {dotted(path): path for package in ("safjax", "experiments") for path in sorted((ROOT / package).rglob("*.py"))}
TESTS = {dotted(path): path for path in sorted((ROOT / "tests").rglob("*.py"))}


def imported(name, node):
    """The full names that one import statement in the module `name` reads."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    package = name if FILES[name].name == "__init__.py" else name.rpartition(".")[0]
    above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    base = ".".join([*above, *([node.module] if node.module else [])])
    return [f"{base}.{alias.name}" for alias in node.names]


def imports(name):
    """Everything the module `name` imports, at its top or inside functions."""
    return {target for node in ast.walk(ast.parse(FILES[name].read_text())) for target in imported(name, node)}


def modules(name):
    """The project's own modules that the module `name` imports: `from a.b import c` reads a.b.c, or else a.b."""
    found = set()
    for target in imports(name):
        while target and target not in FILES:
            target = target.rpartition(".")[0]
        found.add(target)
    return found - {""}


def libraries(name):
    """The installed libraries that the module `name` imports."""
    tops = {target.partition(".")[0] for target in imports(name)}
    return tops - sys.stdlib_module_names - {"safjax", "experiments"}


def is_flax_face(name):
    return f"{name}.".startswith(tuple(f"{package}." for package in FLAX_FACE))


def is_data(name):
    return f"{name}.".startswith(f"{DATA}.")


def is_nir(name):
    return f"{name}.".startswith(f"{NIR}.")


def is_plots(name):
    return f"{name}.".startswith(f"{PLOTS}.")


def is_core(name):
    return name.startswith("safjax.") and not is_flax_face(name) and not is_data(name) and not is_plots(name)


def test_the_files_are_found():
    """An empty list would pass everything below."""
    assert {"tests.nets", "tests.test_structure", "tests.nn.test_binding"} <= set(TESTS)
    assert {"safjax", "safjax.nn.training", "safjax.rules", "experiments", "experiments.data.images.digits"} <= set(
        FILES
    )
    assert "safjax.surrogate" in modules("safjax.models.vgg")
    assert is_core("safjax.neurons") and not is_core("safjax.nn.neurons") and not is_core("safjax.nn")
    assert is_plots("safjax.plots.layers") and not is_core("safjax.plots")
    assert is_data("safjax.data") and is_data("safjax.data.formats.evt3") and not is_core("safjax.data.events")


def test_imports_have_no_circle():
    try:
        graphlib.TopologicalSorter({name: modules(name) for name in FILES}).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" ← ".join(error.args[1]))


@pytest.mark.parametrize("name", [name for name in FILES if name.partition(".")[0] == "safjax"])
def test_the_library_knows_nothing_of_experiments(name):
    assert not [other for other in modules(name) if other.partition(".")[0] == "experiments"]
    assert libraries(name) & EXPERIMENTS_ONLY == set()
    assert is_flax_face(name) or "flax" not in libraries(name)


@pytest.mark.parametrize("name", [name for name in FILES if is_core(name)])
def test_the_core_needs_jax_only(name):
    """In particular no Flax, neither by itself nor through the modules that are made of it."""
    assert libraries(name) <= {"jax"}
    assert [other for other in modules(name) if not is_core(other)] == []


@pytest.mark.parametrize("name", [name for name in FILES if is_data(name)])
def test_the_data_need_numpy_only(name):
    """Neither JAX nor anything else of safjax; libraries of single formats are imported when a file is of theirs."""
    assert libraries(name) <= {"numpy"} | OF_FORMATS
    assert [other for other in modules(name) if not is_data(other)] == []
    top = {
        target.partition(".")[0] for node in ast.parse(FILES[name].read_text()).body for target in imported(name, node)
    }
    assert top & OF_FORMATS == set()


@pytest.mark.parametrize("name", [name for name in FILES if name.partition(".")[0] == "safjax" and not is_data(name)])
def test_nothing_else_of_the_library_knows_the_data(name):
    """`import safjax` does not load it."""
    assert [other for other in modules(name) if is_data(other)] == []


@pytest.mark.parametrize("name", [name for name in FILES if name.partition(".")[0] == "safjax"])
def test_nothing_else_of_the_library_knows_nir(name):
    """`import safjax` does not load it; and the package that reads files is named in one place."""
    assert is_nir(name) or [other for other in modules(name) if is_nir(other)] == []
    assert "nir" not in libraries(name) or name == f"{NIR}.library"


@pytest.mark.parametrize("name", [name for name in FILES if is_plots(name)])
def test_plots_know_plain_arrays_only(name):
    """Types aside, matplotlib is imported in two functions: `from safjax import plots` is free of it."""
    assert libraries(name) <= {"jax", "matplotlib", "numpy"}
    assert [other for other in modules(name) if not is_plots(other)] == []
    inside = [node for node in ast.walk(ast.parse(FILES[name].read_text())) if isinstance(node, ast.FunctionDef)]
    drawing = {f.name for f in inside for n in ast.walk(f) if any("matplotlib" in t for t in imported(name, n))}
    assert drawing == ({"axes_of", "whole_numbers"} if name == f"{PLOTS}.library" else set())
    at_import = [t for node in ast.parse(FILES[name].read_text()).body for t in imported(name, node)]
    assert not any("matplotlib" in target for target in at_import)


@pytest.mark.parametrize("name", [name for name in FILES if name.partition(".")[0] == "safjax" and not is_plots(name)])
def test_nothing_else_of_the_library_draws(name):
    assert [other for other in modules(name) if is_plots(other)] == [] and "matplotlib" not in libraries(name)


def test_reading_nir_knows_nothing_of_writing_it():
    """Writing compares a layer with what is read of its node, so the arrow runs the other way."""
    reading = [name for name in FILES if is_nir(name) and name not in NIR_WRITING | {NIR}]
    assert set(FILES) >= NIR_WRITING and f"{NIR}.reading" in reading
    assert {name: modules(name) & NIR_WRITING for name in reading} == {name: set() for name in reading}


ROOMS = [
    "console",
    "energy",
    "config",
    "data",
    "storage",
    "distribution",
    "training",
    "events",
    "sweep",
    "report",
    "benchmark",
    "fits",
]
"""The folders of the experiments: each knows only those before it."""


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_of_the_experiments_know_those_before_them(room):
    below = {f"experiments.{other}" for other in ROOMS[: ROOMS.index(room) + 1]}
    own = [name for name in FILES if f"{name}.".startswith(f"experiments.{room}.")]
    read = {".".join(other.split(".")[:2]) for name in own for other in modules(name)}
    assert own and {other for other in read if other.startswith("experiments")} <= below


def test_at_the_top_lie_only_what_is_run():
    """Recipes, and experiments that stand alone: nothing imports them but a recipe that is another with a change."""
    top = [name for name in FILES if name.count(".") == 1 and FILES[name].name != "__init__.py"]
    top = [name for name in top if name.startswith("experiments.")]
    assert {"experiments.cifar10", "experiments.control"} <= set(top)
    assert all('if __name__ == "__main__":' in FILES[name].read_text() for name in top)
    readers = {name for name in FILES for other in modules(name) if other in top}
    assert readers <= set(top)


@pytest.mark.parametrize("path", [*FILES.values(), *TESTS.values()], ids=[*FILES, *TESTS])
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


def declared(requirements):
    """The names of distributions in a list of requirements, in their normal form."""
    return {normal(re.match(r"[\w.-]+", requirement).group()) for requirement in requirements}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("package", ["safjax", "experiments"])
def test_every_library_in_use_is_declared(package):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    allowed = declared(project["dependencies"] + extras["events"] + extras["export"] + extras["nir"] + extras["plots"])
    if package == "experiments":
        allowed |= declared(extras["experiments"] + extras["peers"])
    providers = importlib.metadata.packages_distributions()
    used = {library for name in FILES if name.partition(".")[0] == package for library in libraries(name)}
    undeclared = [u for u in sorted(used) if not allowed & {normal(d) for d in providers.get(u, [u])}]
    assert undeclared == []
