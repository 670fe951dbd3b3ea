"""How Sphinx builds this documentation: `make docs`."""

import importlib.metadata
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
# Sphinx reads what lies in its own folder only.
shutil.copytree(HERE.parent / "notebooks", HERE / "notebooks", ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)

project = "safjax"
author = "The safjax developers"
release = importlib.metadata.version("safjax")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "docstrings"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the notebooks are stored as they were run, and run again by the tests

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures of pytrees are long; the arguments' sections say what is meant
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = "safjax"
