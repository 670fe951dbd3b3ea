"""What stands in several places of a release says the same in all of them."""

import re
import tomllib
from pathlib import Path

import safjax

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("experiments/*.md"), *ROOT.glob("safjax/**/*.py")]


def test_the_version_has_one_place():
    assert PROJECT["project"]["dynamic"] == ["version"] and "version" not in PROJECT["project"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "safjax/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+", safjax.__version__)


def test_citation_and_changelog_are_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [safjax.__version__]
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == safjax.__version__


def test_extras_that_are_named_are_there():
    extras = set(PROJECT["project"]["optional-dependencies"])
    groups = [group for page in PAGES for group in re.findall(r"safjax\[([\w,-]+)\]", page.read_text())]
    assert {"events", "nir", "aot-cuda"} <= {extra for group in groups for extra in group.split(",")} <= extras


def test_types_are_for_users_too():
    assert (ROOT / "safjax" / "py.typed").exists() and "Typing :: Typed" in PROJECT["project"]["classifiers"]


def test_the_pythons_that_are_named_are_allowed():
    lowest = PROJECT["project"]["requires-python"].removeprefix(">=")
    named = [c.rpartition(" ")[2] for c in PROJECT["project"]["classifiers"] if re.search(r"Python :: 3\.\d+$", c)]
    assert named and min(named, key=lambda text: int(text.partition(".")[2])) == lowest
