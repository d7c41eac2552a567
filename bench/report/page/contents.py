"""What a page says, as texts and numbers: who leads on each objective, what was checked, and every number measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.records.lines import LineKind
from bench.report import by_objective, curves, training
from bench.report.aligned import LATEX_SIGNS, SPECIAL
from bench.report.cost import UNITS
from bench.report.lines import Exponent, exponents
from bench.report.page import leaders
from bench.report.page.coordinates import ROWS, parameters
from bench.stats.printing import NONE

if TYPE_CHECKING:
    import pandas as pd

LABELS = ("sweep", "objective", "estimator", "best unbiased", "runner-up", "remarks", "biased", "exact")
"""Columns of words, whose cells may take several lines."""
CELLS = 2_500
"""Most cells on a page, unless one objective has more: so a page stays below 5 MB."""
ORDER = {
    "rank": "rank_low",
    "bias": "relative_bias_bound",
    "direction": "angle",
    "variance (95 %)": "variance",
    "eff.": "efficiency",
    "cos": "cosine",
    "f + ∇f": "evals",
    "time": "seconds",
}
"""The number by which a column of texts is sorted: a column of the frame."""
FACTS = {
    "python": "Python",
    "torch": "torch",
    "numpy": "numpy",
    "stochgrad_bench": "stochgrad-bench",
    "platform": "system",
    "cpu": "processor",
    "cpu_capability": "instructions",
    "cores": "cores",
    "gpu": "GPU",
    "commit": "commit",
}


class Cell(NamedTuple):
    """One cell of a table.

    Args:
        text: what is shown.
        order: the number by which the column is sorted, as text; empty if the cell has no number; None to sort the
            column by ``text``.
    """

    text: str
    order: str | None = None


def contents(
    table: pd.DataFrame | None, records: Sequence[Mapping[str, Any]], title: str, standing: str
) -> dict[str, Any]:
    """Return everything that the template of the page prints, by the name that it has in the template.

    Args:
        table: the frame that ``bench.report.prepared.prepared`` returns; None if all records are of training.
        records: the records of the study.
        title: the heading.
        standing: how much of the study is done, in a sentence; empty if it is complete or nobody knows.
    """
    trained = [record for record in records if record["kind"] == LineKind.TRAINING]
    problems = curves.problems(trained)
    found: dict[str, Any] = {
        "title": title,
        "labels": LABELS,
        "standing": standing,
        "environments": _environments(records),
        "trained": [
            section._asdict() | {"lead": leaders.trained(problem)}
            for section, problem in zip(training.sections(problems), problems, strict=True)
        ],
        "problems": problems,
        "training_notes": training.NOTES if trained else (),
    }
    if table is None:
        return found | {"objectives": [], "provenance": "", "header": [], "rows": [], "failed": [], "skipped": []}
    failed, skipped = by_objective.absences(table)
    sections = by_objective.sections(table)
    header, rows = _rows(sections)
    objectives = leaders.objectives(sections)
    units = leaders.units(objectives)
    notes = [note.partition(": ")[::2] for note in by_objective.NOTES]
    several = len(sections) > 1
    return found | {
        "provenance": by_objective.provenance(table),
        "unit": "seconds" if (table["unit"] == "seconds").any() and units["seconds"]["used"] else "evaluations",
        "units": units,
        "objectives": objectives,
        "checks": leaders.summed([each["checks"] for each in objectives]) if several else [],
        "overviews": leaders.overviews(sections) if several else {},
        "header": header,
        "rows": rows,
        "cost": " or ".join(dict.fromkeys(UNITS[unit] for unit in table["unit"])),
        "meanings": {name: meaning for name in header for key, meaning in notes if name.partition(" (")[0] == key},
        "parameters": parameters(table, records),
        "most_parameters": ROWS,
        "latex": SPECIAL | LATEX_SIGNS,
        "exponents": [_fitted(each) for each in exponents(table)],
        "failed": failed,
        "skipped": skipped,
        "notes": notes,
    }


def fitting(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return the rows of the first objectives, at most 2,500 rows, and a sentence on what is left out.

    The rows of an objective are kept together. Those of the first objective are always kept, even if there are more.

    If nothing is left out, the sentence is empty. ``table`` is the frame that ``bench.report.prepared.prepared``
    returns.
    """
    sizes = table.groupby("problem", sort=False).size()
    kept = sizes.index[: max(1, int((sizes.cumsum() <= CELLS).sum()))]
    if len(kept) == len(sizes):
        return table, ""
    words = f"This page shows the first {len(kept):,} of {len(sizes):,} objectives; table.csv has all."
    return table[table["problem"].isin(kept)], words


def _rows(sections: Sequence[by_objective.Section]) -> tuple[list[str], list[list[Cell]]]:
    """Return the header and the rows of the table of all cells, without columns that are empty everywhere."""
    several = len(sections) > 1
    header = [*["objective"] * several, *by_objective.HEADER]
    body = [
        [
            *[Cell(section.problem)] * several,
            *(Cell(t, _order(row, c)) for c, t in zip(by_objective.HEADER, texts, strict=True)),
        ]
        for section in sections
        for row, texts in zip(section.runs, section.body, strict=True)
    ]
    kept = [i for i in range(len(header)) if any(row[i].text not in ("", NONE) for row in body)]
    return [header[i] for i in kept], [[row[i] for i in kept] for row in body]


def _fitted(each: Exponent) -> tuple[str, ...]:
    """Return a fitted exponent as texts: what was swept, the parameter, its values, and the exponent."""
    half = max(each.high - each.exponent, 0.01)
    return each.what, each.parameter, str(each.values), f"{each.exponent:.2f} ± {half:.2f}".replace("-", "−")


def _order(row: Any, column: str) -> str | None:
    if column not in ORDER:
        return None
    value = row.variance_low if row.heavy and column == "variance (95 %)" else getattr(row, ORDER[column])
    return "" if math.isnan(value) else repr(float(value))


def _environments(records: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the environments in which the records were made, most records first: facts by name."""
    counts: dict[tuple[tuple[str, str], ...], int] = {}
    for record in records:
        held = record.get("environment") or {}
        facts = tuple((name, str(held[key])) for key, name in FACTS.items() if held.get(key))
        counts[facts] = counts.get(facts, 0) + bool(facts)
    most = sorted((facts for facts in counts if facts), key=lambda facts: -counts[facts])
    return [dict(facts) | {"records": f"{counts[facts]:,}"} for facts in most]
