"""Tables as text in aligned columns: in Markdown, in LaTeX and plain.

For the thousands of tables of a large study, the package tabulate takes several times as long.
"""

from collections.abc import Collection, Sequence
from itertools import zip_longest

from bench.report.layout import Rows

MARGIN = 2
"""Characters by which a column is at least wider than its name."""
SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
SPECIAL |= {"<": r"\ensuremath{<}", ">": r"\ensuremath{>}"} | {sign: f"\\{sign}" for sign in "&%$#_{}"}
ESCAPES = str.maketrans(SPECIAL)
"""What LaTeX needs in place of the characters that it would obey."""


def markdown_table(header: Sequence[str], body: Rows, left: Collection[str]) -> str:
    """Return a table of Markdown, in GitHub's form. A bar in the text of a cell has to be escaped already.

    ``left`` holds the names of the columns that are aligned left; all others are aligned right.
    """
    (head,), rows = _aligned([header], body, [name in left for name in header])
    rule = "|".join("-" * (len(cell) + 2) for cell in head)
    return "\n".join([f"| {' | '.join(head)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)])


def latex_table(header: Sequence[str], body: Rows, left: Collection[str]) -> str:
    """Return a table of LaTeX for a document that loads the package booktabs. The texts of the cells are escaped here.

    ``left`` holds the names of the columns that are aligned left; all others are aligned right.
    """
    (head,), rows = _aligned([header], body, [name in left for name in header])
    first, *rest = (f" {' & '.join(map(escaped, row))} \\\\" for row in (head, *rows))
    sides = "".join("l" if name in left else "r" for name in header)
    begin = [rf"\begin{{tabular}}{{{sides}}}", r"\toprule", first, r"\midrule"]
    return "\n".join([*begin, *rest, r"\bottomrule", r"\end{tabular}"])


def plain_table(header: Sequence[str], body: Rows) -> str:
    """Return a table with two spaces between its columns, all of which are aligned left. Cells may have several lines.

    There is a line of dashes below the header.
    """
    head, *parts = ([*zip_longest(*map(str.splitlines, row), fillvalue="")] for row in (header, *body))
    names, rows = _aligned(head, [line for part in parts for line in part], [True] * len(header))
    rule = ["-" * len(cell) for cell in names[0]]
    return "\n".join("  ".join(row).rstrip() for row in (*names, rule, *rows))


def escaped(text: str) -> str:
    """Return a text with its special characters escaped, so that LaTeX prints it as it is."""
    return text.translate(ESCAPES)


def _aligned(head: Rows, body: Rows, left: Sequence[bool]) -> tuple[list[Sequence[str]], list[Sequence[str]]]:
    """Return the lines of the header and of the body, with cells of equal width in each column.

    ``left`` says which columns are aligned left.
    """
    columns = []
    for cells, is_left in zip(zip(*head, *body, strict=True), left, strict=True):
        texts = [cell.strip() for cell in cells]
        width = max(MARGIN + max(map(len, texts[: len(head)])), *map(len, texts))
        columns.append([text.ljust(width) if is_left else text.rjust(width) for text in texts])
    rows = list[Sequence[str]](zip(*columns, strict=True))
    return rows[: len(head)], rows[len(head) :]
