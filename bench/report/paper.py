"""Tables for a paper: estimators against objectives, a number for each pair, the best group of an objective in bold."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from bench.records.lines import Outcome
from bench.records.text import in_markdown
from bench.report import words
from bench.report.aligned import latex_lines, markdown_table, shown_in_latex
from bench.report.cost import UNITS
from bench.report.frame import UNBIASED, each
from bench.report.ranks import ranked
from bench.stats.printing import NONE, format_number

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["variance", "bias", "mse", "cost"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FORMATS = ("md", "tex")
"""The formats of a table for a paper."""
FAILED = "failed"
INTERVAL = {"variance": "variance", "mse": "mse", "cost": "price"}
"""Columns of the frame with the number of each kind of table; their limits end in ``_low`` and ``_high``."""
EXPONENT = re.compile(r"e(-?\d+)")
THOUSANDS = re.compile(r"(?<=\d),(?=\d)")
UNIT = re.compile(r" ([mnµ]?)s$")
BEFORE = re.compile(r"([a-z, ]*)(.*)", re.DOTALL)
"""The words before the numbers of a cell, and its numbers."""
SIGNS = {"±": r"\pm", "≥": r"\geq", "≤": r"\leq", "∞": r"\infty", "%": r"\,\%", "~": r"{\sim}"}


@dataclass(frozen=True)
class Names:
    """The names of estimators and objectives in a table, by label, in the order of the table.

    Estimators and objectives that have no name here come last, under their labels.
    """

    estimators: Mapping[str, str] = field(default_factory=dict)
    objectives: Mapping[str, str] = field(default_factory=dict)


class Cell(NamedTuple):
    """One cell of a table: its text, and whether it is printed bold.

    A cell of a table of variances, mean squared errors or costs is bold if its run may be the best on the objective: no
    other run is certainly better. In a table of variances, only runs that may be unbiased compete. In a table of
    biases, a cell is bold if the run was found to be unbiased.
    """

    text: str
    is_best: bool = False


class Grid(NamedTuple):
    """A table for a paper: its caption, the names of its columns and of its rows, and its cells, row by row."""

    caption: str
    columns: list[str]
    rows: list[str]
    cells: list[list[Cell]]


def grid(
    table: pd.DataFrame,
    records: Sequence[Mapping[str, Any]],
    kind: Kind,
    names: Names,
    *,
    rows: Literal["estimators", "objectives"] = "estimators",
) -> Grid:
    """Return a table of estimators against objectives.

    An estimator or objective has no row or column if all of its cells were skipped.

    Args:
        table: the frame that ``bench.report.prepared.prepared`` makes of the records.
        records: the records of the study.
        kind: the number in the cells, such as "variance".
        names: the names of estimators and objectives, and their order.
        rows: "estimators" if a row is an estimator and a column an objective, "objectives" if a row is an objective.
    """
    run = table[table["outcome"] != Outcome.SKIPPED]
    best = _best(run, records, kind)
    found = {(row.estimator, row.problem): Cell(_text(row, kind), row.Index in best) for row in each(run)}
    objectives = dict(zip(run["problem"], run["objective"], strict=True))
    methods = _ordered(dict.fromkeys(run["estimator"]), names.estimators)
    problems = _ordered(objectives, names.objectives, objectives.get)
    called = {label: names.estimators.get(label, label) for label in methods}
    called_problem = {p: names.objectives.get(o, o) + p.removeprefix(o) for p, o in objectives.items()}
    cells = [[found.get((method, problem), Cell(NONE)) for problem in problems] for method in methods]
    down, across = [called[m] for m in methods], [called_problem[p] for p in problems]
    if rows == "objectives":
        down, across, cells = across, down, [list(column) for column in zip(*cells, strict=True)]
    return Grid(_caption(run, kind), across, down, cells)


def texts(
    table: pd.DataFrame,
    records: Sequence[Mapping[str, Any]],
    kinds: Sequence[Kind],
    names: Names,
    *,
    rows: Literal["estimators", "objectives"] = "estimators",
    formats: Sequence[str] = FORMATS,
) -> dict[str, str]:
    """Return the contents of the files of tables for a paper, by name, such as ``tables/variance.tex``.

    Args:
        table: the frame that ``bench.report.prepared.prepared`` makes of the records.
        records: the records of the study.
        kinds: the numbers, such as "variance", for each of which there is a table.
        names: the names of estimators and objectives, and their order.
        rows: "estimators" if a row is an estimator and a column an objective, "objectives" if a row is an objective.
        formats: "md" for Markdown and "tex" for LaTeX.
    """
    grids = {kind: grid(table, records, kind, names, rows=rows) for kind in kinds}
    write = {"md": markdown, "tex": latex}
    return {f"tables/{kind}.{form}": write[form](found) for kind, found in grids.items() for form in formats}


def _ordered(
    labels: Mapping[str, Any], names: Mapping[str, str], of: Callable[[str], str | None] = lambda label: label
) -> list[str]:
    places = {label: place for place, label in enumerate(names)}
    return sorted(labels, key=lambda label: places.get(of(label) or "", len(places)))


def _best(run: pd.DataFrame, records: Sequence[Mapping[str, Any]], kind: Kind) -> set[Any]:
    """Return the index of each run that is bold."""
    measured = run[run["outcome"] == Outcome.MEASURED]
    if kind == "bias":
        return set(measured.index[measured["verdict"].isin(UNBIASED)])
    if kind == "variance":
        rivals = ranked(measured[measured["fair"] & ~measured["exact"]], records)
        return set(rivals.index[rivals["rank_low"] == 1])
    rivals = measured if kind == "cost" else measured[~measured["exact"] & (measured["variance"] != 0)]
    name = INTERVAL[kind]
    least = rivals.sort_values(name).groupby("problem")[f"{name}_high"].first().fillna(math.inf)
    return set(rivals.index[rivals[f"{name}_low"] <= rivals["problem"].map(least)])


def _text(row: Any, kind: Kind) -> str:
    if row.outcome == Outcome.FAILED:
        return FAILED
    if kind == "bias":
        return _bias(row)
    if kind == "cost":
        by_time = row.unit == "seconds"
        return (
            words.duration(row.price, noisy=row.noisy == 1)
            if by_time
            else words.evaluations(row.f_evals, row.grad_evals)
        )
    return "0" if row.exact else words.estimate(*(getattr(row, f"{kind}{end}") for end in ("", "_low", "_high")))


def _bias(row: Any) -> str:
    if row.biased and row.bias_low > 0 and row.exact_norm > 0:
        return f"{words.span(100 * row.bias_low / row.exact_norm, 100 * row.relative_bias_bound)} %"
    return re.sub("^(unbiased|biased|slight bias) ", "", words.bias(row))


def _caption(run: pd.DataFrame, kind: Kind) -> str:
    match kind:
        case "variance":
            said = (
                "Total variance of one gradient estimate, with its 95 % interval.",
                "Bold: unbiased estimators with noise whose variance may be the lowest of them on the objective, at a "
                "joint level of 95 %.",
            )
        case "bias":
            tolerance = format_number(100 * run["tolerance"].max(), 2)
            said = (
                "Norm of the bias over the norm of the exact gradient: the range at 95 % if a bias was found, else "
                "the largest bias that is possible.",
                f"Bold: no bias was found, and none above {tolerance} % is possible.",
            )
        case "mse":
            said = (
                "Mean squared error of one gradient estimate, with its 95 % interval.",
                "Bold: estimators with noise whose interval overlaps that of the lowest error on the objective.",
            )
        case "cost":
            units = dict.fromkeys(UNITS[unit] for unit in run["unit"])
            what = "; f + ∇f where both are needed" if "seconds" not in set(run["unit"]) else ""
            said = (
                f"Cost of one gradient estimate in {' or '.join(units)}{what}.",
                "Bold: what may be the lowest on the objective.",
            )
    return " ".join(said)


def markdown(found: Grid) -> str:
    """Return a table as Markdown, with its caption below."""
    body = [
        [in_markdown(name), *(f"**{_barred(cell.text)}**" if cell.is_best else _barred(cell.text) for cell in row)]
        for name, row in zip(found.rows, found.cells, strict=True)
    ]
    return f"{markdown_table(['', *map(in_markdown, found.columns)], body, [''])}\n\n{in_markdown(found.caption)}\n"


def _barred(text: str) -> str:
    return text.replace("|", "\\|").replace("~", "\\~")


def latex(found: Grid) -> str:
    """Return a table as LaTeX, for a document that loads the package booktabs."""
    head = ["", *map(shown_in_latex, found.columns)]
    body = [
        [shown_in_latex(name), *map(_cell_in_latex, row)] for name, row in zip(found.rows, found.cells, strict=True)
    ]
    lines = latex_lines(head, body, [True, *[False] * len(found.columns)])
    begin = [r"% Needs \usepackage{booktabs}.", r"\begin{table}", r"\centering"]
    return "\n".join([*begin, rf"\caption{{{shown_in_latex(found.caption)}}}", lines, r"\end{table}", ""])


def _cell_in_latex(cell: Cell) -> str:
    """Return the text of a cell in LaTeX, its numbers in math mode."""
    if not any(letter.isdigit() for letter in cell.text):
        text = shown_in_latex(cell.text)
        return rf"\textbf{{{text}}}" if cell.is_best else text
    words_before, numbers = BEFORE.fullmatch(cell.text).groups()  # type: ignore[union-attr]
    text = shown_in_latex(words_before) + "--".join(f"${_in_math(part)}$" for part in numbers.split(NONE))
    return rf"{{\boldmath\bfseries {text}}}" if cell.is_best else text


def _in_math(text: str) -> str:
    """Return numbers as LaTeX in math mode."""
    text = UNIT.sub(lambda found: r"\,\mu\mathrm{s}" if found[1] == "µ" else rf"\,\mathrm{{{found[1]}s}}", text)
    text = EXPONENT.sub(lambda found: rf" \times 10^{{{found[1]}}}", THOUSANDS.sub("{,}", text))
    return "".join(SIGNS.get(letter, letter) for letter in text)
