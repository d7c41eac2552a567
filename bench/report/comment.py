"""Comments on pull requests, in Markdown: tables, folded where nothing has happened, of a limited length."""

from collections.abc import Sequence
from typing import NamedTuple

LONGEST = 65_000
"""Most characters of a comment; GitHub refuses one of more than 65,536."""


class Table(NamedTuple):
    """A table of a comment.

    Args:
        header: the titles of the columns.
        rows: the cells of each row, in Markdown without line breaks.
        fold: the line that the reader clicks to open the table; empty if the table is open from the start.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    fold: str = ""


def comment(title: str, tables: Sequence[Table], end: Sequence[str] = ()) -> str:
    """Return a comment of at most 65,000 characters. Rows for which there is no room are left out, and counted.

    Args:
        title: what is above the tables, in Markdown.
        tables: the tables, the most important first; tables without rows are left out.
        end: lines below the tables, in Markdown.
    """
    tail = "\n".join(end)
    room = LONGEST - len(title) - len(tail) - 100
    parts = [title]
    for table in tables:
        if not table.rows:
            continue
        text, left = _text(table, room)
        if left < len(table.rows):
            parts.append(f"<details><summary>{table.fold}</summary>\n\n{text}\n\n</details>" if table.fold else text)
            room -= len(parts[-1]) + 2
        if left:
            of = f"“{table.fold}”" if table.fold else "this table"
            parts.append(f"A comment has no room for {left:,} of the {len(table.rows):,} rows of {of}.")
    return "\n\n".join([*parts, tail] if tail else parts) + "\n"


def _text(table: Table, room: int) -> tuple[str, int]:
    """Return a table of at most ``room`` characters, with its fold, and the number of rows that it lacks."""
    lines = [_row(table.header), "|---" * len(table.header) + "|"]
    room -= sum(map(len, lines)) + len(table.fold) + 150
    for number, row in enumerate(table.rows):
        lines.append(_row(row))
        room -= len(lines[-1]) + 1
        if room < 0:
            return "\n".join(lines[:-1]), len(table.rows) - number
    return "\n".join(lines), 0


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
