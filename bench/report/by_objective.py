"""The texts of a study: a section for each objective, what could not be measured, and a row for each objective."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.records.lines import Outcome
from bench.report import words
from bench.report.advice import candidates, sentence
from bench.report.cost import UNITS
from bench.report.frame import each
from bench.report.layout import Rows
from bench.report.overview import row_of
from bench.stats.decision import decide
from bench.stats.printing import NONE, format_number, format_rank

if TYPE_CHECKING:
    import pandas as pd

NOTES = (
    "rank: place by variance among the estimators of the objective, 1 the lowest, as a simultaneous 95 % interval.",
    "bias: norm of the bias over the norm of the exact gradient, bounded at 95 %. A bound without a word: no bias was "
    "found, but one up to the bound is possible.",
    "direction: a bias in two parts. scaled 0.75: the mean gradient is 0.75 times the exact one, and its direction is "
    "right. turned 4–9°: the angle between the two, at 95 %. scale 0.75, ≤ 7°: a turn of up to 7° is possible, but not "
    "shown. points away: the mean gradient has a negative component along the exact one.",
    "variance: total variance of one estimate (trace of its covariance) at 95 %. If the tail is too heavy for an "
    "estimate, the lower limit (≥) stands alone and the remarks give the tail index: if it is surely at least 0.7, no "
    "interval holds; if it is surely at least 1, there is no variance. [L, ∞): more replicates are needed for an "
    "upper limit.",
    "eff.: variance × cost of the best unbiased estimator, divided by variance × cost of this one. The cost is named "
    "above the table. A dash: meaningless because of a bias or a heavy tail. exact: only rounding varies.",
    "cos: mean cosine between one estimate and the exact gradient.",
    "learned and frozen at this point: the state of the estimator learned at this theta, with the given steps and "
    "evaluations of f, and was then fixed; still learning: at the limit of --adapt-steps, learning still paid. In "
    "training the state learns along the way, and can be worse.",
    "Unbiased, in the advice: as declared, unless the data contradict it.",
    "f + ∇f: evaluations of f and of its gradient per estimate. time: per estimate, in batch; ~ where "
    "the machine was noisy.",
)
HEADER = ("estimator", "rank", "bias", "direction", "variance (95 %)", "eff.", "cos", "f + ∇f", "time", "remarks")
SEVERAL = 3
"""Fewest problems of a study that are shown as one table, a row for each."""


class Section(NamedTuple):
    """The results on one objective of a study, as text.

    Args:
        problem: the objective's label. If a study measured the objective with several settings, such as dtypes or
            seeds, the settings that differ follow in brackets.
        facts: family, dimension, replicates, norm of the exact gradient and unit of cost, in one line.
        body: one row of texts per run (measurement of an estimator), in the order of ``HEADER``.
        advice: a sentence that recommends an estimator.
        runs: the rows of the frame from which ``body`` was made, in its order.
    """

    problem: str
    facts: str
    body: list[tuple[str, ...]]
    advice: str
    runs: Sequence[Any]


def ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Return ``table`` with its runs sorted: unbiased, biased, heavy-tailed, failed.

    In each of these four groups, the run with the smallest variance times cost is first. A run is one measurement of an
    estimator; ``table`` has a row for each run.
    """
    place = (~table["fair"]).astype(int) + 2 * table["heavy"] + 4 * (table["outcome"] != Outcome.MEASURED)
    keyed = table.assign(_place=place, _cost=table["variance_times_cost"].fillna(math.inf))
    ranked = keyed.sort_values(["_place", "_cost", "variance_low", "estimator"], kind="stable")
    return ranked.drop(columns=["_place", "_cost"])


def sections(table: pd.DataFrame, *, terse: bool = False, most: int | None = None) -> list[Section]:
    """Return the results on each objective as text: its label, a line of facts, a table and a recommendation.

    The objectives are in the order of the records. An objective is left out if no estimator fits it.

    Args:
        table: the frame that ``bench.report.prepared.prepared`` returns.
        terse: whether the half-widths of variance intervals are in percent of the variance, as on a terminal. If not,
            they are in the units of the variance.
        most: the largest number of objectives; the first objectives are taken. None for all.
    """
    run = tried(table)
    problems = list(dict.fromkeys(run["problem"]))[:most]
    groups = _by_problem(ordered(run if most is None else run[run["problem"].isin(problems)]))
    return [_section(problem, groups[problem], terse=terse) for problem in problems]


def _by_problem(table: pd.DataFrame) -> dict[str, list[Any]]:
    """Return the rows of each objective, by its label."""
    found: dict[str, list[Any]] = {}
    for row in each(table):
        found.setdefault(row.problem, []).append(row)
    return found


def tried(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ``table`` for runs that were measured or failed. Skipped runs are left out.

    A run is one measurement of an estimator on an objective.
    """
    return table[table["outcome"] != Outcome.SKIPPED]


def _section(problem: str, runs: Sequence[Any], *, terse: bool) -> Section:
    measured = [r for r in runs if r.outcome == Outcome.MEASURED]
    first = measured[0] if measured else runs[0]
    facts = [first.family, f"dim {first.dim:.0f}"]
    if measured:
        random = [r.replicates for r in measured if not r.deterministic] or [first.replicates]
        fewest, most = min(random), max(random)
        facts.append(f"{fewest:,.0f} to {most:,.0f} replicates" if most > fewest else f"{most:,.0f} replicates")
        norm = next((r.exact_norm for r in measured if not math.isnan(r.exact_norm)), math.nan)
        facts.append("no exact gradient" if math.isnan(norm) else f"‖exact gradient‖ {format_number(norm)}")
        facts.append(f"cost in {UNITS[first.unit]}")
        facts += [first.shared] if first.shared else []
    body = [_cells(r, terse=terse) for r in runs]
    return Section(problem, ", ".join(facts), body, _advice(measured), runs)


def _advice(measured: list[Any]) -> str:
    return sentence(decide(candidates(measured), measured[0].unit)) if measured else "nothing was measured here"


def _cells(row: Any, *, terse: bool) -> tuple[str, ...]:
    if row.outcome == Outcome.FAILED:
        return (row.estimator, *[NONE] * 8, "failed (below)")
    rank = None if math.isnan(row.rank_low) else (int(row.rank_low), int(row.rank_high))
    return (
        row.estimator,
        NONE if rank is None else format_rank(rank),
        words.bias(row),
        words.direction(row),
        (words.terse if terse else words.estimate)(row.variance, row.variance_low, row.variance_high),
        words.efficiency(row),
        words.cosine(row.cosine),
        words.evaluations(row.f_evals, row.grad_evals),
        words.duration(row.seconds, noisy=row.noisy == 1),
        words.remarks(row),
    )


def absences(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Return what failed and what was skipped, as two lists of text lines.

    A line is for one estimator, one family of q and one reason. In ``arm on Normal (3 objectives): needs binary
    variables``, Normal is the family. ``table`` is the frame that ``bench.report.prepared.prepared`` returns.
    """
    return _grouped(table[table["outcome"] == Outcome.FAILED]), _grouped(table[table["outcome"] == Outcome.SKIPPED])


def _grouped(table: pd.DataFrame) -> list[str]:
    # Reasons that differ only in the instance they quote ("RLOO(n=4) serves ...") are one reason.
    groups: dict[tuple[str, str, str], list[Any]] = {}
    for row in each(table[["estimator", "estimator_name", "family", "problem", "outcome", "reason"]]):
        plain = re.sub(r"(\w)\([^()]*=[^()]*\)", r"\1", row.reason)
        groups.setdefault((row.estimator_name, row.family, plain), []).append(row)
    lines = []
    for (name, family, reason), rows in groups.items():
        objectives, labels, reasons = (
            {getattr(row, key) for row in rows} for key in ("problem", "estimator", "reason")
        )
        where = rows[0].problem if len(objectives) == 1 else f"{len(objectives)} objectives"
        shown = rows[0].reason if len(reasons) == 1 else reason
        failed = rows[0].outcome == Outcome.FAILED  # a failure may hit one setting; a refusal hits the class
        who = rows[0].estimator if failed and len(labels) == 1 else name
        lines.append(f"{who} on {family} ({where}): {shown}")
    return lines


def filled(header: Sequence[str], body: Rows) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a table without the columns in which all cells are empty."""
    kept = [i for i in range(len(header)) if any(row[i] not in ("", NONE) for row in body)]
    return [header[i] for i in kept], [[row[i] for i in kept] for row in body]


def provenance(table: pd.DataFrame) -> str:
    """Return in sentences how many runs were measured, failed and skipped, and with which dtypes, devices and seeds.

    A run is one measurement of an estimator on an objective, and a row of the frame ``table``.
    """
    counts = table["outcome"].value_counts()
    shown = [f"{counts.get(word, 0)} {word}" for word in (Outcome.MEASURED, Outcome.FAILED, Outcome.SKIPPED)]
    used = tried(table)
    if used.empty:
        return f"Runs: {', '.join(shown)}."
    settings = [", ".join(sorted(used[key].unique())) for key in ("dtype", "device")]
    seeds = ", ".join(str(seed) for seed in sorted(used["seed"].unique()))
    return f"Runs: {', '.join(shown)}. {', '.join(settings)}, seed {seeds}."


def has_several(table: pd.DataFrame) -> bool:
    """Return whether the study has three or more objectives. If so, a table with a row for each objective is printed.

    ``table`` is the frame that ``bench.report.prepared.prepared`` returns.
    """
    return bool(tried(table)["problem"].nunique() >= SEVERAL)


def overview(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return a row of texts for each objective on which something was measured, in the columns of ``OVERVIEW``.

    A row says who is best on the objective, by how much, and what is biased. ``table`` is the frame that
    ``bench.report.prepared.prepared`` returns.
    """
    measured = _by_problem(table[table["outcome"] == Outcome.MEASURED])
    return [row_of(problem, rows) for problem, rows in measured.items()]
