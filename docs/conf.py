"""The documentation site: ``python -m sphinx -W -c docs . build/docs``.

The sources are the Markdown files of the repository where they lie, so that a link works in the site and on a code
host. Docstrings and the help texts of commands become the reference pages.
"""

import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring

project = html_title = "stochgrad-bench"
author = copyright = "The stochgrad-bench authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click"]
root_doc = "docs/index"
include_patterns = ["README.md", "docs/*.md", "results/**/*.md", "bench/**/README.md", "CONTRIBUTING.md"]
include_patterns += ["CHANGELOG.md"]
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!bench|estimators).*"),  # other packages, whose sites are not at hand
    ("py:.*", r"bench\.(?!objectives\.|conformance\.|stats\.summary\.)\w+\..*"),  # what is public under no such name
    ("py:.*", r"estimators\._.*|bench\.conformance\.trial\..*"),
]

default_role = "code"  # what single backticks mean in docstrings and help texts
myst_heading_anchors = 3
myst_enable_extensions = ["html_image"]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"

html_theme = "furo"
html_extra_path = ["site"]
html_copy_source = False


def read_docstring(_app: Sphinx, what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Read a docstring: sections such as ``Args:``, formulas as blocks of lines, and the prose without any markup."""
    text = re.sub(r"``.+?``|\||(?<=\w)_(?!\w)", escaped, "\n".join(lines), flags=re.DOTALL)
    text = "\n\n".join(map(line_block, text.split("\n\n")))
    is_sentence = what in ("attribute", "property")  # its colon does not end a type
    lines[:] = text.split("\n") if is_sentence else GoogleDocstring(text, Config(), what=what).lines()


def escaped(found: re.Match[str]) -> str:
    """Return a span of code as one span for each line, and any other character behind a backslash."""
    return re.sub(r"\n( +)", r"``\n\1``", found[0]) if found[0].startswith("``") else f"\\{found[0]}"


def line_block(paragraph: str) -> str:
    """Return a paragraph as a block of lines if each of its lines begins with code or goes on with the line before."""
    is_block = paragraph.startswith("``") and all(re.match(r"``| ", line) for line in paragraph.split("\n"))
    return re.sub("(?m)^( *)``", r"| \1``", paragraph) if is_block else paragraph


def setup(app: Sphinx) -> None:
    """Register the reader of docstrings."""
    app.connect("autodoc-process-docstring", read_docstring)
