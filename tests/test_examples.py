"""The code that documentation shows runs and prints what it says: README.md, the pages in docs, and docstrings."""

import doctest
import importlib
import importlib.util
import pkgutil
import re
from pathlib import Path

import pytest

import safjax
from safjax.hoist import hoist
from safjax.models import SpikingVGG
from safjax.nn import LIF, Synapse
from safjax.ops.standardisation import standardise
from safjax.surrogate import Sigmoid

README = Path(__file__).parent.parent / "README.md"
DOCS = README.parent / "docs"

GOES_ON = ("go on from [the first net](start.md)", "{include} ../README.md")
"""What a page says whose blocks need the first block of the README; all others start from nothing."""

NEEDS = {"nir": ["nir"], "export": ["flatbuffers", "safetensors"], "onnx": ["jax2onnx", "onnxruntime"]}
"""The packages that a page's code needs beside those of safjax."""

SHOWN = [
    safjax.value_and_grad,
    safjax.train_step,
    safjax.predict,
    safjax.simulate,
    safjax.stream,
    Synapse,
    LIF,
    SpikingVGG,
    Sigmoid,
    standardise,
    hoist,
]
"""What a newcomer meets first: each shows itself at work."""


def python_blocks(text):
    """(line of the opening fence, source) of every ```python block."""
    fenced = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, block.start()) + 1, block[1]) for block in fenced]


def run_blocks(path, namespace=None, blocks=slice(None)):
    """Runs the blocks of a Markdown file, or some, in order in one namespace; an error names its line in the file."""
    namespace = {"__name__": "__main__", **(namespace or {})}
    for line, source in python_blocks(path.read_text())[blocks]:
        exec(compile("\n" * line + source, str(path), "exec"), namespace)
    return namespace


def pages(going_on):
    """The pages of docs with blocks of Python that go on from the README's net, or all others."""
    found = [path for path in sorted(DOCS.rglob("*.md")) if python_blocks(path.read_text())]
    return [path for path in found if going_on == any(words in path.read_text() for words in GOES_ON)]


def docstring_examples():
    """The examples of every docstring, by its name. They start from nothing: who copies one has its imports too."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    names = ["safjax", *(module.name for module in pkgutil.walk_packages(safjax.__path__, "safjax."))]
    found = [test for name in names for test in finder.find(importlib.import_module(name), globs={})]
    return {test.name: test for test in found if test.examples}


EXAMPLES = docstring_examples()


def test_blocks_are_read_as_written(tmp_path):
    """Blocks share one namespace, other languages are left alone, and an error points at its line."""
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n```python\na = 1\n```\n\n```sh\nfalse\n```\n\n```python\nb = a + 1\n```\n")
    assert [line for line, _ in python_blocks(page.read_text())] == [3, 11]
    assert run_blocks(page)["b"] == 2
    page.write_text("```python\na = 1\n```\n\n```python\n\nassert a == 2\n```\n")
    with pytest.raises(AssertionError) as error:
        run_blocks(page)
    assert error.traceback[-1].lineno + 1 == 7


def test_readme_and_the_pages_that_go_on_from_it_run(tmp_path, monkeypatch):
    """One test, so that the first net is made once."""
    assert len(python_blocks(README.read_text())) > 1 and len(pages(True)) >= 5
    monkeypatch.chdir(tmp_path)
    first = run_blocks(README, blocks=slice(1))
    run_blocks(README, first, slice(1, None))
    for page in pages(True):
        run_blocks(page, first)


@pytest.mark.parametrize("page", pages(False), ids=lambda path: path.stem)
def test_pages_that_start_from_nothing_run(page, tmp_path, monkeypatch):
    missing = [name for name in NEEDS.get(page.stem, []) if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {missing}")
    monkeypatch.chdir(tmp_path)
    run_blocks(page)


@pytest.mark.parametrize("name", EXAMPLES)
def test_docstring_examples_print_what_they_say(name):
    if name.startswith("safjax.nir.") and importlib.util.find_spec("nir") is None:
        pytest.skip("the package nir is not installed")
    report = []
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(EXAMPLES[name], out=report.append)
    assert result.failed == 0, "".join(report)


@pytest.mark.parametrize("value", SHOWN, ids=lambda value: value.__name__)
def test_entry_points_show_themselves_at_work(value):
    name = f"{value.__module__}.{value.__qualname__}"
    assert name in EXAMPLES, f"the docstring of {name} has no >>> example"
