"""The docstrings of safjax as reStructuredText: names in `backticks` are code, indented equations and programs too."""

import re

INLINE = re.compile(r"(``.+?``|`[^`\n]+`)")
SECTION = re.compile(r"^(Args|Arguments|Attributes|Returns|Raises|Yields|Example|Examples|Note):\s*$")
ENTRY = re.compile(r"^(  \w[\w, ]*: )(?=\S)")
LATER = "when a rule meets the net"
WIDTH = 4
"""By how much an equation is indented; the sections of arguments are by two."""


def setup(app):
    # Before Napoleon, which reads the sections.
    app.connect("autodoc-process-docstring", process, priority=400)
    return {"parallel_read_safe": True}


def process(app, what, name, obj, options, lines):
    """Rewrites a docstring in place."""
    del app, what, name, obj, options
    lines[:] = literal_blocks(one_kind_of_errors(lines))


def one_kind_of_errors(lines):
    """The same lines, with `LATER` in the entries of its section, which Napoleon knows by the name of Raises only."""
    later = False
    for line in lines:
        if line and not line[0].isspace():
            later = line == f"Raises ({LATER}):"
        yield "Raises:" if line == f"Raises ({LATER}):" else ENTRY.sub(rf"\1{LATER}: ", line) if later else line


def literal_blocks(lines):
    """The same lines, with every indented block outside of sections literal and every word in backticks code."""
    result, section, block = [], False, False
    for line in lines:
        if line and not line[0].isspace():
            section, block = bool(SECTION.match(line)), False
        elif not section and not block and indented(line):
            block = True
            result += ["::", ""]
        result.append(line if block or line.lstrip().startswith(">>>") else prose(line))
    return result


def indented(line):
    """Whether a line belongs to an equation or a program."""
    return line.startswith(" " * WIDTH) and bool(line.strip())


def prose(line):
    """A line of text, in which `*`, `|` and `_` are what they look like."""
    parts = INLINE.split(line)
    following = [*parts[1:], ""]
    return "".join(
        code(part, after) if part.startswith("`") else escaped(part)
        for part, after in zip(parts, following, strict=True)
    )


def code(part, after):
    """Code as it is marked here; reStructuredText wants a sign between it and a letter, as of a plural."""
    marked = part if part.startswith("``") else f"`{part}`"
    return marked + "\\ " if after[:1].isalnum() else marked


def escaped(part):
    return re.sub(r"(\*|\||_(?=\W|$))", r"\\\1", part)
