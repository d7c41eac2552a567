"""What a page says, as texts and numbers: who leads on each objective, what was checked, and every number measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.records.lines import LineKind, Outcome
from bench.report import curves, tables, training, words
from bench.report.advice import candidates, sentence
from bench.report.exponents import Exponent, exponents
from bench.report.overview import OVERVIEW
from bench.report.style import Style, styles
from bench.stats.decision import Cost, Decision, decide
from bench.stats.printing import NONE
from bench.stats.summary import BiasVerdict, Status

if TYPE_CHECKING:
    import pandas as pd

LABELS = ("sweep", "objective", "estimator", "best unbiased", "runner-up", "remarks", "biased", "exact")
"""Columns of words, whose cells may take several lines."""
UNITS: tuple[Cost, ...] = ("evaluations", "seconds")
SHOWN = 3
"""Most names in a condition of trust."""
CELLS = 2_500
"""Most cells on a page, unless one objective has more: so a page stays below 5 MB."""
LEADERS = 8
"""Most names of a leading group on the first screen."""
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
        order: the text by which the column is sorted; empty to sort it by ``text``.
    """

    text: str
    order: str = ""


class Check(NamedTuple):
    """One condition under which the numbers of a study can be trusted.

    Args:
        about: what the condition is about, in a word.
        holds: whether the condition holds; None if it is only a remark.
        text: what was found, in a few words.
    """

    about: str
    holds: bool | None
    text: str


def contents(
    table: pd.DataFrame | None, records: Sequence[Mapping[str, Any]], title: str, standing: str
) -> dict[str, Any]:
    """Return everything that the template prints, by name.

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
        "trained": [section._asdict() for section in training.sections(problems)],
        "problems": problems,
        "training_notes": training.NOTES if trained else (),
    }
    if table is None:
        return found | {"objectives": [], "provenance": "", "header": [], "rows": [], "failed": [], "skipped": []}
    failed, skipped = tables.absences(table)
    sections = tables.sections(table)
    header, rows = _rows(sections)
    overview = tables.overview(table)
    return found | {
        "provenance": tables.provenance(table),
        "objectives": _objectives(table, sections),
        "checks": _summed([_checks(section.runs) for section in sections]),
        "overview": tables.filled(OVERVIEW, overview) if len(overview) > 1 else None,
        "header": header,
        "rows": rows,
        "exponents": [_fitted(each) for each in exponents(table)],
        "failed": failed,
        "skipped": skipped,
        "notes": [note.partition(": ")[::2] for note in tables.NOTES],
    }


def fitting(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return the rows of the first objectives, as many as fit on a page, and a sentence on what is left out.

    The sentence is empty if nothing is. ``table`` is the frame that ``bench.report.prepared.prepared`` returns.
    """
    sizes = table.groupby("problem", sort=False).size()
    kept = sizes.index[: max(1, int((sizes.cumsum() <= CELLS).sum()))]
    if len(kept) == len(sizes):
        return table, ""
    words = f"This page shows the first {len(kept):,} of {len(sizes):,} objectives; table.csv has all."
    return table[table["problem"].isin(kept)], words


def _objectives(table: pd.DataFrame, sections: Sequence[tables.Section]) -> list[dict[str, Any]]:
    """Return what the first screen says of each objective."""
    look = styles(list(table["estimator_name"]))
    return [
        {
            "name": section.problem,
            "facts": section.facts,
            "leads": _leads([row for row in section.runs if row.outcome == Outcome.MEASURED], look),
            "checks": _checks(section.runs),
        }
        for section in sections
    ]


def _leads(measured: Sequence[Any], look: Mapping[str, Style]) -> dict[str, dict[str, Any]]:
    """Return who leads, for each unit of cost in which all measured estimators have a price."""
    timed = bool(measured) and not any(math.isnan(row.seconds) for row in measured)
    units = UNITS if timed else UNITS[:1]
    return {unit: _lead(decide(candidates(measured), unit), measured, look) for unit in units if measured}


def _lead(decision: Decision, rows: Sequence[Any], look: Mapping[str, Style]) -> dict[str, Any]:
    """Return who leads at equal cost: a sentence, the leading group, and its cheapest member."""
    names = {row.estimator: row.estimator_name for row in rows}
    group = decision.best or ((decision.exact,) if decision.exact else ())
    cheapest = ""
    if len(decision.best) > 1:
        least = min(decision.best, key=lambda c: c.evaluations)
        cheapest = f"cheapest of them: {least.label}, {words.count(least.evaluations)} evaluations an estimate"
    return {
        "sentence": sentence(decision),
        "group": [{"label": c.label, "colour": look[names[c.label]].colour} for c in group[:LEADERS]],
        "more": max(0, len(group) - LEADERS),
        "cheapest": cheapest,
    }


def _checks(rows: Sequence[Any]) -> list[Check]:
    """Return the conditions under which the numbers of an objective can be trusted, and whether they hold."""
    measured = [row for row in rows if row.outcome == Outcome.MEASURED]
    failed = len(rows) - len(measured)
    checks = [Check("cells", not failed, f"{failed} failed" if failed else "none failed")]
    if not measured:
        return checks
    judged = not any(row.verdict == BiasVerdict.NO_REFERENCE for row in measured)
    checks.append(
        Check(
            "biases",
            judged,
            "judged by an exact gradient or a reference" if judged else "not judged: no exact gradient",
        )
    )
    wrong = [row.estimator for row in measured if row.unbiased == 1 and row.biased]
    found = f"found where none is declared: {', '.join(wrong[:SHOWN])}" if wrong else "found only where one is declared"
    checks.append(Check("declarations", not wrong, f"a bias was {found}"))
    heavy = sum(row.heavy for row in measured)
    checks.append(
        Check(
            "tails", not heavy, f"{heavy} too heavy: only a lower limit of the variance" if heavy else "none too heavy"
        )
    )
    if rare := sum(row.status == Status.RARE_LARGE_VALUES for row in measured):
        checks.append(Check("replicates", False, f"too few for {rare} with rare large values"))
    if any(row.noisy == 1 for row in measured):
        checks.append(Check("times", False, "rough: the machine was noisy"))
    if learned := sum(row.learned for row in measured):
        checks.append(Check("states", None, f"{learned} learned and frozen at this point"))
    return checks


def _summed(found: Sequence[Sequence[Check]]) -> list[Check]:
    """Return the conditions over all objectives: each with the number of objectives on which it does not hold."""
    by: dict[str, list[Check]] = {}
    for check in (check for checks in found for check in checks):
        by.setdefault(check.about, []).append(check)
    summed = []
    for about, checks in by.items():
        broken = [check for check in checks if check.holds is False]
        kept = broken or checks
        where = f"on {len(kept)} of {len(found)} objectives: " if broken or kept[0].holds is None else ""
        summed.append(Check(about, kept[0].holds, where + kept[0].text))
    return summed


def _rows(sections: Sequence[tables.Section]) -> tuple[list[str], list[list[Cell]]]:
    """Return the header and the rows of the table of all cells, without columns that are empty everywhere."""
    several = len(sections) > 1
    header = [*["objective"] * several, *tables.HEADER]
    body = [
        [
            *[Cell(section.problem)] * several,
            *(Cell(t, _order(row, c)) for c, t in zip(tables.HEADER, texts, strict=True)),
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


def _order(row: Any, column: str) -> str:
    if column not in ORDER:
        return ""
    value = getattr(row, ORDER[column])
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
