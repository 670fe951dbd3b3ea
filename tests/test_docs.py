"""What README.md and the pages in docs say of the library is there: rules, names, links, commands."""

import importlib
import importlib.util
import re
import sys
from pathlib import Path

import pytest

import safjax
from safjax.rules import RULES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, ROOT / "experiments" / "README.md", *sorted(DOCS.rglob("*.md"))]
LANGUAGES = {"python", "bash", "text"}


def fences(text):
    """What stands behind every opening fence."""
    return re.findall(r"^```(\S*)[^\n]*\n.*?^```$", text, re.MULTILINE | re.DOTALL)


def prose(text):
    """A page without its blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(path):
    """The anchors of a page's headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.*)$", prose(path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_is_read_in_ten_minutes():
    assert len(README.read_text().split()) < 1500


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", prose(page.read_text())):
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.is_file(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(path), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_block_is_marked(page):
    for language in fences(page.read_text()):
        assert language in LANGUAGES or language.startswith("{"), f"{page.name}: a block of '{language}'"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_are_there(page):
    text = re.sub(r"\\?\n\s*", " ", page.read_text())
    for module in re.findall(r"python -m ((?:experiments|tests)(?:\.\w+)+)", text):
        assert importlib.util.find_spec(module) or module == "experiments.NAME", f"{page.name}: python -m {module}"
    for tests in re.findall(r"pytest ((?:tests/[\w/.]+ ?)+)", text):
        for path in tests.split():
            assert (ROOT / path).exists(), f"{page.name}: pytest {path}"
    for methods in re.findall(r"--method=([\w,]+)", text):
        assert set(methods.split(",")) <= {*RULES, "all"}, f"{page.name}: --method={methods}"


def rows(title):
    """The first cells of the tables under a heading of the page of rules."""
    section = (DOCS / "which_rule.md").read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]


def test_every_rule_has_its_rows():
    """What travels and what it costs; what it needs and cannot learn."""
    published = set(safjax.rules.__all__) - {"RULES", "Course", "Fired", "Propagation", "Rule"}
    named = [name for cell in rows("All rules") for name in re.findall(r"`(\w+)\(\)`", cell)]
    assert set(named) == published > set(RULES)
    assert all(named.count(name) == 2 for name in published), "a rule stands in both tables"


def test_the_readme_counts_the_rules():
    words = {14: "fourteen", 15: "fifteen", 16: "sixteen", 17: "seventeen", 18: "eighteen", 19: "nineteen"}
    words |= {11: "eleven", 12: "twelve", 13: "thirteen"}
    online = [name for name, make in RULES.items() if not make().schedule.sees_all_steps]
    text = " ".join(README.read_text().split())
    assert f"**{words[len(RULES)].capitalize()} rules, one net.**" in text
    assert f"under {words[len(online)]} of them (`pytest tests/test_memory.py`)" in text


def test_every_rule_has_its_cell_among_the_parts():
    section = (DOCS / "which_rule.md").read_text().partition("\n## A rule is two choices\n")[2]
    assert {name for name in safjax.rules.__all__ if name.islower()} <= set(re.findall(r"`(\w+)", section))


DOCUMENTED = (
    "safjax.nn safjax.linen safjax.losses safjax.models safjax.surrogate safjax.ops safjax.data safjax.nir "
    "safjax.plots safjax.rules"
)


def public(module):
    """Names of a module that a reference must have: modules, and helpers without a capital of their own, aside."""
    found = importlib.import_module(module)
    names = getattr(found, "__all__", [n for n, v in vars(found).items() if getattr(v, "__module__", "") == module])
    kept = [name for name in names if name[0] != "_" and type(getattr(found, name)) is not type(sys)]
    return set(kept) - {"RULES", "is_timed", "timed_in", "records_for", "is_of_sequence"}


@pytest.mark.parametrize("module", ["safjax", *DOCUMENTED.split()])
def test_every_public_name_is_in_the_reference(module):
    text = "".join(path.read_text() for path in (DOCS / "api").glob("*.md"))
    written = set(re.findall(r"^\.\. auto\w+:: safjax\.(?:\w+\.)*(\w+)$", text, re.MULTILINE))
    assert public(module) - written - {"State"} == set()


def test_docstrings_become_restructured_text():
    """Equations and programs are literal, names are code, and signs are what they look like."""
    spec = importlib.util.spec_from_file_location("docstrings", DOCS / "docstrings.py")
    docstrings = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(docstrings)
    given = ["`a`s of |x|, 2 * y_", "", "    u = λ *u*", "", "Raises (when a rule meets the net):", "  ValueError: `b`"]
    lines = list(given)
    docstrings.process(None, "function", "f", None, None, lines)
    assert lines == [
        r"``a``\ s of \|x\|, 2 \* y\_",
        "",
        "::",
        "",
        "    u = λ *u*",
        "",
        "Raises:",
        "  ValueError: when a rule meets the net: ``b``",
    ]
