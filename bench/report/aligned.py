"""Tables as text in aligned columns: in Markdown, in LaTeX and plain.

For the thousands of tables of a large study, the package tabulate takes several times as long.
"""

import re
from collections.abc import Collection, Sequence
from itertools import zip_longest

from bench.report.layout import Rows

MARGIN = 2
"""Characters by which a column is at least wider than its name."""
SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
SPECIAL |= {"|": r"\textbar{}"}
SPECIAL |= {"<": r"\ensuremath{<}", ">": r"\ensuremath{>}"} | {sign: f"\\{sign}" for sign in "&%$#_{}"}
"""What LaTeX needs in place of the characters that it would obey."""
OBEYED = re.compile(f"[{re.escape(''.join(SPECIAL))}]")
SMALL = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu"
SMALL += " nu xi pi rho sigma tau upsilon phi chi psi omega"
LARGE = "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
LATEX_SIGNS = {"≥": r"$\geq$", "≤": r"$\leq$", "×": r"$\times$", "–": "--", "∞": r"$\infty$", "∇": r"$\nabla$"}
LATEX_SIGNS |= {"µ": r"$\mu$", "‖": r"$\Vert$", "∂": r"$\partial$", "≈": r"$\approx$", "→": r"$\to$", "−": "$-$"}
LATEX_SIGNS |= {sign: f"$^{digit}$" for digit, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
LATEX_SIGNS |= {sign: f"$_{digit}$" for digit, sign in enumerate("₀₁₂₃₄₅₆₇₈₉")}
LATEX_SIGNS |= {sign: f"$\\{name}$" for sign, name in zip("αβγδεζηθικλμνξπρστυφχψω", SMALL.split(), strict=True)}
LATEX_SIGNS |= {sign: f"$\\{name}$" for sign, name in zip("ΓΔΘΛΞΠΣΥΦΨΩ", LARGE.split(), strict=True)}


def markdown_table(header: Sequence[str], body: Rows, left: Collection[str]) -> str:
    """Return a table of Markdown, in GitHub's form. The caller must have escaped every ``|`` in the texts.

    Args:
        header: the names of the columns.
        body: the texts of each row.
        left: names of the columns that are aligned left; all others are aligned right.
    """
    (head,), rows = _aligned([header], body, [name in left for name in header])
    rule = "|".join("-" * (len(cell) + 2) for cell in head)
    return "\n".join([f"| {' | '.join(head)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)])


def latex_table(header: Sequence[str], body: Rows, left: Collection[str]) -> str:
    """Return a table of LaTeX for a document that loads the package booktabs. The texts are escaped for LaTeX.

    Args:
        header: the names of the columns.
        body: the texts of each row.
        left: names of the columns that are aligned left; all others are aligned right.
    """
    sides = [name in left for name in header]
    (head,), rows = _aligned([header], body, sides)
    return _tabular([[*map(escaped, row)] for row in (head, *rows)], sides)


def latex_lines(header: Sequence[str], body: Rows, left: Sequence[bool]) -> str:
    """Return a table of LaTeX for a document that loads the package booktabs. The texts must be LaTeX already.

    Args:
        header: the names of the columns.
        body: the texts of each row.
        left: a bool for each column: True to align it left, False to align it right.
    """
    (head,), rows = _aligned([header], body, left)
    return _tabular([head, *rows], left)


def _tabular(lines: Rows, left: Sequence[bool]) -> str:
    first, *rest = (f" {' & '.join(row)} \\\\" for row in lines)
    sides = "".join("l" if is_left else "r" for is_left in left)
    begin = [rf"\begin{{tabular}}{{{sides}}}", r"\toprule", first, r"\midrule"]
    return "\n".join([*begin, *rest, r"\bottomrule", r"\end{tabular}"])


def plain_table(header: Sequence[str], body: Rows) -> str:
    """Return a table in plain text, with two spaces between columns. All columns are aligned left.

    There is a line of dashes below the header. A cell may have several lines.
    """
    head, *parts = ([*zip_longest(*map(str.splitlines, row), fillvalue="")] for row in (header, *body))
    names, rows = _aligned(head, [line for part in parts for line in part], [True] * len(header))
    rule = ["-" * len(cell) for cell in names[0]]
    return "\n".join("  ".join(row).rstrip() for row in (*names, rule, *rows))


def escaped(text: str) -> str:
    """Return a text with its special characters escaped, so that LaTeX prints it as it is.

    A bracket or a star at the start is escaped too, because at the start of a row it would be a command.
    """
    return ("{}" if text.lstrip().startswith(("[", "*")) else "") + OBEYED.sub(lambda sign: SPECIAL[sign[0]], text)


def shown_in_latex(text: str) -> str:
    """Return LaTeX that prints ``text`` as it is, with mathematical signs and Greek letters in math mode."""
    return signed(escaped(text))


def signed(text: str) -> str:
    """Return a LaTeX text with its mathematical signs and Greek letters replaced by commands in math mode.

    ``text`` is LaTeX already: its other special characters are escaped.
    """
    return re.sub("|".join(LATEX_SIGNS), lambda sign: LATEX_SIGNS[sign[0]], text)


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
