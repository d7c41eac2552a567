"""The tables of a study on a terminal, in its width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from bench.records.lines import Outcome
from bench.report.by_objective import HEADER, absences, filled, has_several, overview, sections, tried
from bench.report.layout import Rows, broken, fitting
from bench.report.overview import OVERVIEW
from bench.report.tables import LEFT

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

DROPPED_FIRST = ("cos", "direction", "f + ∇f", "rank", "time", "eff.")
BROKEN_UP = {"estimator": 26, "bias": 11, "direction": 11, "remarks": 12}
"""Columns whose cells take several lines on a narrow terminal, each with its least width. If this is not enough,
columns are dropped."""
INDENT = 2
"""Spaces before each line of a table on a terminal."""
SKIPS_SHOWN, FAILURES_SHOWN = 8, 50
TABLES_SHOWN, ROWS_SHOWN = 20, 60
"""Most objectives of which the tables are printed, and most rows of the table with a row for each objective. Further
objectives are counted; ``table.md`` has them all."""
OVERVIEW_DROPPED = ("exact", "f + ∇f", "eff.", "runner-up")
OVERVIEW_BROKEN_UP = {"objective": 20, "best unbiased": 20, "runner-up": 20}


def show(
    table: pd.DataFrame, console: Console, *, named: bool = False, brief: bool = False, whole: str = "table.md"
) -> None:
    """Print the study in the width of the console. If it is narrow, the least important columns are left out.

    There is a table for each objective. If there are three objectives or more, a table with a row for each objective
    comes last.

    Args:
        table: the frame that ``bench.report.prepared.prepared`` returns.
        console: where to print.
        named: whether to print which estimators and objectives do not fit together, with the reason, in up to 8 lines.
            If not, only their number is printed.
        brief: whether to print only the last table if there are three objectives or more.
        whole: the name of a file with all columns and rows, for notes such as ``table.md has all columns``; empty if
            there is none.
    """
    several = has_several(table)
    if not (brief and several):
        _show_sections(table, console, whole)
    _show_absences(table, console, whole, named=named)
    if several:
        if not brief:
            console.print()
        _show_overview(table, console, whole)


def _show_sections(table: pd.DataFrame, console: Console, whole: str) -> None:
    texts = sections(table, terse=True, most=TABLES_SHOWN)
    rows = [row for section in texts for row in section.body]
    kept = fitting(*filled(HEADER, rows), console.width - INDENT, DROPPED_FIRST, BROKEN_UP)
    for section in texts:
        show_section(console, section.problem, section.facts, HEADER, section.body, kept, f"→ {section.advice}")
    _show_dropped(HEADER, rows, kept, console, whole)
    more = f"objectives{_where(whole, 'has them all')}"
    _show_rest(tried(table)["problem"].nunique() - len(texts), more, console)


def _show_overview(table: pd.DataFrame, console: Console, whole: str) -> None:
    """Print a row for each problem."""
    from rich.text import Text

    problems = list(dict.fromkeys(table.loc[table["outcome"] == Outcome.MEASURED, "problem"]))
    table = table[table["problem"].isin(problems[:ROWS_SHOWN])]
    body = overview(table)
    kept = fitting(*filled(OVERVIEW, body), console.width - INDENT, OVERVIEW_DROPPED, OVERVIEW_BROKEN_UP)
    learned = "; * learned and frozen at this point" if any("*" in cell for row in body for cell in row) else ""
    show_section(console, "In short", f"unbiased methods by variance × evaluations{learned}", OVERVIEW, body, kept)
    for problem, shared in dict(zip(table["problem"], table["shared"], strict=True)).items():
        if shared:
            console.print(Text(f"{problem}: {shared}", style="dim"))
    _show_dropped(OVERVIEW, body, kept, console, whole)
    _show_rest(len(problems) - len(body), f"objectives{_where(whole, 'has them all')}", console)


def _where(whole: str, says: str) -> str:
    """Return where more can be read, as the end of a sentence; empty if there is no such file."""
    return f"; {whole} {says}" if whole else ""


def _show_rest(count: int, what: str, console: Console) -> None:
    """Say how many of something are not printed, and where they are; print nothing if there are none."""
    from rich.text import Text

    if count > 0:
        console.print(Text(f"and {count:,} more {what}", style="dim"))


def _show_dropped(header: Sequence[str], rows: Rows, kept: Mapping[str, int], console: Console, whole: str) -> None:
    """Name the columns that have content and are not kept."""
    from rich.text import Text

    if dropped := [name for name in filled(header, rows)[0] if name not in kept]:
        where = _where(whole, "has all columns")
        console.print(Text(f"too narrow for {', '.join(dropped)}{where}", style="dim"))


def _show_absences(table: pd.DataFrame, console: Console, whole: str, *, named: bool) -> None:
    """Print what failed and what was skipped."""
    from rich.text import Text

    failed, skipped = absences(table)
    for line in failed[:FAILURES_SHOWN]:
        console.print(Text(f"failed: {line}", style="red"))
    _show_rest(len(failed) - FAILURES_SHOWN, f"failures{_where(whole, 'has them all')}", console)
    for line in skipped[:SKIPS_SHOWN] if named else ():
        console.print(Text(f"not applicable: {line}", style="dim"))
    if not named and skipped:
        pairs = int((table["outcome"] == Outcome.SKIPPED).sum())
        does = "pair does" if pairs == 1 else "pairs do"
        where = _where(whole, "has the reasons")
        console.print(Text(f"not applicable: {pairs} {does} not fit{where}", style="dim"))
    elif len(skipped) > SKIPS_SHOWN:
        where = _where(whole, "has them all")
        console.print(Text(f"not applicable: {len(skipped) - SKIPS_SHOWN} more{where}", style="dim"))


def show_section(
    console: Console,
    title: str,
    facts: str,
    header: Sequence[str],
    body: Rows,
    widths: Mapping[str, int],
    advice: str = "",
) -> None:
    """Print the results on one objective: title, facts, table and advice.

    Args:
        console: where to print.
        title: the objective's label.
        facts: what was measured, in one line.
        header: the names of the table's columns.
        body: the texts of each row.
        widths: the columns to print, each with its width in characters.
        advice: a sentence below the table.
    """
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    fits = sum(widths.values()) + len(widths) <= console.width - INDENT
    for name, width in widths.items():
        side: Literal["left", "right"] = "left" if name in LEFT else "right"
        exact = width if fits else None  # rich then need not measure the cells
        grid.add_column(broken(name, width), justify=side, width=exact, min_width=width, overflow="fold")
    for row in body:
        cells = dict(zip(header, row, strict=True))
        grid.add_row(*(Text(broken(cells[name], width)) for name, width in widths.items()))
    parts: list[Text | Table] = [Text(facts, style="dim"), grid]
    parts += [Text(advice, style="green")] if advice else []
    console.print(Text(title, style="bold"))
    for part in parts:
        console.print(Padding(part, (0, 0, 0, 2), expand=False))
    console.print()
