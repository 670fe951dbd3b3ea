"""The quick-start notebook runs from top to bottom, shows what its text says, and is stored clean."""

import json
from pathlib import Path

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

PATH = Path(__file__).parent.parent / "notebooks" / "quickstart.ipynb"
SECONDS_A_CELL = 300

# Runs as the last cell of the executed copy and hands over what the notebook found.
REPORT = """
import json
print(json.dumps({
    "accuracy": accuracy, "memory": memory, "cosines": cosines, "rates": rates,
    "start": [curve[0].tolist() for curve in curves.values()],
}, default=float))
"""


def stored():
    return nbformat.read(PATH, as_version=4)


def run(folder, patch):
    """The notebook after its run in a kernel of this interpreter, away from the checkout and the user's settings."""
    patch.setenv("IPYTHONDIR", str(folder / "ipython"))
    patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
    # The kernel's own inline backend is what puts figures into the notebook.
    patch.delenv("MPLBACKEND", raising=False)
    # With no folder to look into, "python3" can only be the kernel of the running interpreter.
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    notebook = stored()
    notebook.cells.append(nbformat.v4.new_code_cell(REPORT))
    work = {"metadata": {"path": str(folder)}}
    plain = ["--InteractiveShell.colors=nocolor"]
    client = NotebookClient(notebook, km=manager, timeout=SECONDS_A_CELL, resources=work, extra_arguments=plain)
    client.execute(cleanup_kc=True)
    return notebook


def test_it_is_stored_without_results():
    notebook = stored()
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.metadata == {}, f"cell '{cell.id}' carries the metadata {cell.metadata}"
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None, f"cell '{cell.id}' is stored with results"


# One test, because the run is what takes the time, and parallel workers would each repeat it for tests of their own.
@pytest.mark.slow
def test_it_runs_and_shows_what_its_text_says(tmp_path, monkeypatch):
    executed = run(tmp_path, monkeypatch)
    check_cells(executed)
    found = json.loads(executed.cells[-1].outputs[-1].text)
    check_learning(found["accuracy"], found["start"])
    check_rates(found["rates"])
    check_gradients(found["cosines"])
    check_memory(found["memory"])


def check_cells(executed):
    """No Python warning, and every figure drawn."""
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    # Not all that libraries log there is a warning: "building the font cache", "a GPU may be present".
    errors = [o.text for cell in code for o in cell.outputs if o.get("name") == "stderr"]
    assert not any("Warning: " in text for text in errors), errors
    pictures = [o for cell in code for o in cell.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == sum("plt.show()" in cell.source for cell in code) == 4


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
    for by_rule in cosines.values():
        assert by_rule["bptt"]["whole net"] == pytest.approx(1, abs=1e-5)
        assert by_rule["ottt_a"]["dense"] == pytest.approx(1, abs=1e-5)
        assert by_rule["saf_f"]["dense"] < 0.999
        for rule in ("ottt_a", "saf_f"):
            below, top = [by_rule[rule][name] for name in ("conv1", "conv2")], by_rule[rule]["dense"]
            assert min(below) > 0.8 and max(below) < top, (rule, by_rule[rule])


def check_memory(memory):
    """More steps need more memory under BPTT, and none under SAF-F."""
    growth = {rule: by_steps["32"] / by_steps["4"] for rule, by_steps in memory.items()}
    assert growth["bptt"] > 3 and growth["saf_f"] < 1.1, growth
