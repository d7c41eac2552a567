"""The table of a study as Markdown and LaTeX, including what could not be measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bench.records.text import in_markdown, printable
from bench.report.aligned import escaped, latex_table, markdown_table, signed
from bench.report.by_objective import HEADER, NOTES, Section, absences, filled, provenance
from bench.report.layout import Rows

if TYPE_CHECKING:
    import pandas as pd

LEFT = (
    "estimator",
    "bias",
    "direction",
    "variance (95 %)",
    "remarks",
    "objective",
    "best unbiased",
    "runner-up",
    "biased",
    "exact",
)  # columns; all others are aligned right
FOREIGN = ("estimator",)
"""Columns with text that others have chosen."""


def markdown(table: pd.DataFrame, title: str, found: Sequence[Section]) -> str:
    """Return the study as Markdown.

    For each objective there are a table and advice. After them, the text says what failed, what was skipped and what
    the columns mean. ``table`` is the frame that ``bench.report.prepared.prepared`` returns, ``title`` the heading of
    the page, and ``found`` what ``bench.report.by_objective.sections`` makes of the frame.
    """
    parts = [heading(title), in_markdown(provenance(table))]
    for section in found:
        text = tabulated(*filled(HEADER, section.body))
        facts, advice = map(in_markdown, (section.facts, section.advice))
        parts += [f"#{heading(section.problem)}", f"{facts}.", text, f"**{advice}.**"]
    failed, skipped = (list(map(in_markdown, lines)) for lines in absences(table))
    lists = {"Failed": failed, "Not applicable": skipped, "Columns": NOTES}
    return page(parts, lists)


def heading(title: str) -> str:
    """Return the heading of a Markdown page. Any text is allowed as the ``title``, such as the name of a folder."""
    return f"# {in_markdown(printable(title))}"


def page(parts: Sequence[str], lists: Mapping[str, Sequence[str]]) -> str:
    """Return a Markdown page: the parts one after the other, then a section with bullets for each entry of ``lists``.

    The keys of ``lists`` are the headings of the sections. Empty lists are left out.
    """
    bullets = ["\n".join([f"## {name}\n", *(f"- {line}" for line in lines)]) for name, lines in lists.items() if lines]
    return "\n\n".join([*parts, *bullets]) + "\n"


def tabulated(header: Sequence[str], body: Rows) -> str:
    """Return a table of Markdown. The texts of the cells are escaped."""
    written = [in_markdown if name in FOREIGN else _barred for name in header]
    cells = [[write(cell) for write, cell in zip(written, row, strict=True)] for row in body]
    return markdown_table(header, cells, LEFT)


def _barred(cell: str) -> str:
    return cell.replace("|", "\\|")


def latex(found: Sequence[Section]) -> str:
    """Return one LaTeX table for each of the objectives in ``found``, for a document that loads the package booktabs.

    ``found`` is what ``bench.report.by_objective.sections`` returns.
    """
    parts = ["% Needs \\usepackage{booktabs}."]
    for section in found:
        rows = latex_table(*filled(HEADER, section.body), LEFT)
        caption = escaped(f"{section.problem}: {section.facts}; {section.advice}.")
        parts.append("\n".join([r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", rows, r"\end{table}"]))
    return signed("\n\n".join(parts) + "\n")
