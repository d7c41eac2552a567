"""The papers of the estimators in a study, as BibTeX."""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("methods.bib")
"""All papers. The field ``methods`` of an entry names its estimators; BibTeX ignores the field."""
METHODS = re.compile(r"^  methods = \{(.*)\}$", re.MULTILINE)


@cache
def entries() -> dict[str, tuple[str, ...]]:
    """Return a dictionary from the text of each BibTeX entry to the command-line names of its estimators."""
    _, *found = re.split(r"(?m)^(?=@)", FILE.read_text(encoding="utf-8"))
    return {entry.strip(): tuple(METHODS.findall(entry)[0].split(", ")) for entry in found}


def bibtex(names: Iterable[str]) -> str:
    """Return the papers of estimators as a file of BibTeX, in alphabetical order, with a comment on its first line.

    ``names`` are the command-line names of the estimators. An estimator of the user's own has no entry.
    """
    wanted = set(names)
    found = [entry for entry, methods in entries().items() if wanted & {*methods}]
    return "\n\n".join(["% The papers of the estimators of a study.", *found]) + "\n"
