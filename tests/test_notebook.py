"""The notebooks run from top to bottom, show what their text says, and are stored with what a run of them shows."""

import base64
import json
import re
from pathlib import Path

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent / "notebooks"
NAMES = ["quickstart", "what_a_rule_does", "rules_differ", "streams", "events", "own_rule", "compose"]
FAST = "events"
"""The one that needs no compiled program."""
SECONDS_A_CELL = 300
PICTURE, NOTEBOOK = 100_000, 500_000
"""The most bytes of a picture, and of a notebook with all it shows."""
PLACES = re.compile(
    r"(?<![\w.:/])/(?:tmp|home|root|work|usr|opt|Users|var|mnt)/|[A-Z]:\\|\w+@\w+[:.]|localhost|127\.0\.0\.1"
)
"""What tells where a notebook was run: paths, users, hosts."""

# Runs as the last cell of the executed quick start and hands over what the notebook found.
REPORT = """
import json
print(json.dumps({
    "accuracy": accuracy, "memory": memory, "rates": rates,
    "cosines": {moment: {name: {path: like.cosine for path, like in row.layers["bptt"].items()}
                         for name, row in report.items()} for moment, report in compared.items()},
    "start": [curve[0].tolist() for curve in curves.values()],
}, default=float))
"""


def stored(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs_of(notebook):
    return [output for cell in code_of(notebook) for output in cell.outputs]


def pictures_of(notebook):
    found = [output.data["image/png"] for output in outputs_of(notebook) if "image/png" in output.get("data", {})]
    return [base64.b64decode(picture) for picture in found]


def run(name, folder, patch, *more):
    """The notebook after its run in a kernel of this interpreter, away from the checkout and the user's settings."""
    patch.setenv("IPYTHONDIR", str(folder / "ipython"))
    patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
    # The kernel's own inline backend is what puts figures into the notebook.
    patch.delenv("MPLBACKEND", raising=False)
    # With no folder to look into, "python3" can only be the kernel of the running interpreter.
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    notebook = stored(name)
    notebook.cells += [nbformat.v4.new_code_cell(source) for source in more]
    work = {"metadata": {"path": str(folder)}}
    plain = ["--InteractiveShell.colors=nocolor"]
    client = NotebookClient(notebook, km=manager, timeout=SECONDS_A_CELL, resources=work, extra_arguments=plain)
    client.execute(cleanup_kc=True)
    return notebook


def test_there_are_no_others():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_stored_with_the_results_of_one_run(name):
    notebook = stored(name)
    nbformat.validate(notebook)
    assert all(cell.metadata == {} for cell in notebook.cells)
    assert [cell.execution_count for cell in code_of(notebook)] == [*range(1, len(code_of(notebook)) + 1)]
    assert not [
        output for output in outputs_of(notebook) if output.output_type == "error" or output.get("name") == "stderr"
    ]
    shown = [cell for cell in code_of(notebook) if "plt.show()" in cell.source]
    assert len(pictures_of(notebook)) == len(shown) > 0
    assert all(any("image/png" in output.get("data", {}) for output in cell.outputs) for cell in shown)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_small_and_tells_nothing_of_where_it_was_run(name):
    assert (FOLDER / f"{name}.ipynb").stat().st_size < NOTEBOOK
    assert max(map(len, pictures_of(stored(name)))) < PICTURE
    texts = [
        output.get("text", "") + "".join(str(v) for kind, v in output.get("data", {}).items() if "text" in kind)
        for output in outputs_of(stored(name))
    ]
    assert [found[0] for text in texts if (found := PLACES.search(text))] == []
    assert PLACES.search("File /home/somebody/x.py") and PLACES.search("me@host:") and not PLACES.search("µs a / Λ 3/4")


@pytest.mark.parametrize("name", NAMES)
def test_its_first_cell_states_what_it_asserts(name):
    first, *others = stored(name).cells
    assert first.cell_type == "markdown" and re.match(r"# .+\n\n\*\*Finding\.\*\* ", first.source)
    assert re.search(r"\d", first.source) and any(re.search(r"^assert ", cell.source, re.M) for cell in others)


def check_cells(executed, more=0):
    """No Python warning, every figure drawn, and as much said as is stored."""
    # Not all that libraries log there is a warning: "building the font cache", "a GPU may be present".
    errors = [output.text for output in outputs_of(executed) if output.get("name") == "stderr"]
    assert not any("Warning: " in text for text in errors), errors
    cells = code_of(executed)[: len(code_of(executed)) - more]
    assert len(pictures_of(executed)) == sum("plt.show()" in cell.source for cell in cells)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == FAST else [pytest.mark.slow]) for n in NAMES if n != "quickstart"]
)
def test_it_runs_and_asserts_what_it_finds(name, tmp_path, monkeypatch):
    check_cells(run(name, tmp_path, monkeypatch))


# One test, because the run is what takes the time, and parallel workers would each repeat it for tests of their own.
@pytest.mark.slow
def test_the_quick_start_runs_and_shows_what_its_text_says(tmp_path, monkeypatch):
    executed = run("quickstart", tmp_path, monkeypatch, REPORT)
    check_cells(executed, more=1)
    found = json.loads(executed.cells[-1].outputs[-1].text)
    check_learning(found["accuracy"], found["start"])
    check_rates(found["rates"])
    check_gradients(found["cosines"])
    check_memory(found["memory"])


def check_learning(accuracy, start):
    """Every rule learns, as well as the others, from the same weights."""
    assert set(accuracy) == {"bptt", "ottt_a", "saf_f"}
    assert start == [start[0]] * 3 and start[0][1] < 0.5
    assert min(accuracy.values()) > 0.9
    assert max(accuracy.values()) - min(accuracy.values()) < 0.05


def check_rates(rates):
    """Every layer fires, untrained and under every rule."""
    flat = [rate for by_layer in rates.values() for rate in by_layer.values()]
    assert len(flat) == 8 and min(flat) > 0.02 and max(flat) < 0.6, rates


def check_gradients(cosines):
    """OTTT is exact next to the readout, SAF-F is not; both stay close to BPTT, and closest there."""
    kernels = ("conv1.layer.kernel", "conv2.layer.layers.1.kernel", "dense.layer.layers.2.kernel")
    for by_rule in cosines.values():
        assert all(cosine == pytest.approx(1, abs=1e-5) for cosine in by_rule["bptt"].values())
        assert by_rule["ottt_a"][kernels[-1]] == pytest.approx(1, abs=1e-5)
        assert by_rule["saf_f"][kernels[-1]] < 0.999
        for rule in ("ottt_a", "saf_f"):
            *below, top = (by_rule[rule][name] for name in kernels)
            assert min(below) > 0.8 and max(below) < top, (rule, by_rule[rule])


def check_memory(memory):
    """More steps need more memory under BPTT, and none under SAF-F."""
    growth = {rule: by_steps["32"] / by_steps["4"] for rule, by_steps in memory.items()}
    assert growth["bptt"] > 3 and growth["saf_f"] < 1.1, growth
