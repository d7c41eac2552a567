"""The report on training: a table of the results, and the data of every checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench.records.labels import labelled
from bench.records.lines import LineKind, Outcome
from bench.records.text import in_csv, in_markdown
from bench.report import words
from bench.report.by_objective import filled
from bench.report.curves import Curves, Problem, Record, problems
from bench.report.fields import fields
from bench.report.frame import shared_note
from bench.report.layout import fitting
from bench.report.printed import INDENT, show_section
from bench.report.tables import heading, page, tabulated
from bench.stats.printing import NONE, format_estimate, format_number
from bench.stats.seeds import SeedSummary, across_seeds

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

COLUMNS = (
    "objective", "estimator", "seed", "step", "f_evals", "seconds", "value", "value_error", "training_value",
    "variance", "variance_low", "variance_high", "variance_status", "outcome",
)  # fmt: skip
PARAMS = ("estimator_params", "objective_params")

NOTES = (
    "final: the objective at the end, as the median over seeds with an interval of order statistics, which holds for "
    "every law of the runs. Fewer than 6 seeds cannot give a 95 % interval: then it is the range of the results. A "
    "diverged run counts as the worst.",
    "level: probability that the interval, or the range, contains the median of all runs that could be made.",
    "interquartile mean: mean over the middle half of the seeds.",
    "at N f: the median after N evaluations of f for one batch element, which every estimator has spent. Evaluations "
    "that adapt a control variate count.",
    "gap to the first row: distance of the final objective from the first row's, seed by seed; median and interval.",
    "diverged: runs that ended with a value that is not finite, or far worse than at the start.",
    "f + ∇f: evaluations for one step and one batch element; after a comma, evaluations of f that adapt a control "
    "variate.",
    "time: seconds of all steps without the checkpoints; median over seeds. Runs may have shared the machine.",
    "variance: variance of the gradient at theta, on the images of `bench run`, at the start and at the end; median "
    "over seeds. A lower limit (≥) if the tail is heavy.",
)


DROPPED_FIRST = ("interquartile mean", "time", "level", "f + ∇f", "end", "variance: start")
"""Columns that are left out on a narrow terminal, in this order, until the others fit."""


class Section(NamedTuple):
    """One problem (an objective with its training settings) as text.

    Args:
        title: the objective's label, with the settings that differ between problems.
        facts: how the objective was trained and evaluated, in one line.
        header: the names of the table's columns.
        body: a row of texts for each estimator, the best first.
    """

    title: str
    facts: str
    header: list[str]
    body: list[list[str]]


def sections(found: Sequence[Problem]) -> list[Section]:
    """Return the results on every problem as text: a title, a line of facts, and a table with a row for each estimator.

    A problem is an objective with its training settings.
    """
    return [_section(problem) for problem in found]


def _section(problem: Problem) -> Section:
    line, budget, ranked = problem.line, problem.budget, problem.ranked
    runs = {len(c.seeds) for c in ranked}
    judged = (
        f"{'exact' if line['exact_value'] else 'sampled'} objective{' on held-out data' if line['held_out'] else ''}"
    )
    facts = [
        f"{line['steps']:,} steps of {line['optimizer']} at {line['learning_rate']:g}",
        f"minibatches of {line['batch']}" if line["batch"] > 1 else "",
        f"{_range(runs)} seed{'s' if max(runs) > 1 else ''}",
        f"{judged}, to be {'maximised' if problem.maximise else 'minimised'}",
        f"{line['dtype']} on {line['device']}",
        shared_note(line),
    ]
    header = [
        "estimator",
        "final",
        "level",
        "interquartile mean",
        f"at {words.count(budget)} f",
        "gap to the first row",
        "diverged",
    ]
    header += ["f + ∇f", "time", "variance: start", "end"]
    body = [_row(c, ranked[0], budget, 1.0 if problem.maximise else -1.0) for c in ranked]
    return Section(problem.title, ", ".join(filter(None, facts)), *filled(header, body))


def _range(values: set[int] | list[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _row(curves: Curves, best: Curves, budget: float, upwards: float) -> list[str]:
    line = curves.lines[0]
    adapting = line["adapt_f_evals"]
    shared = [seed for seed in curves.seeds if seed in best.seeds]
    mine, theirs = (np.array([c.value[c.seeds.index(seed), -1] for seed in shared]) for c in (curves, best))
    behind = NONE
    if curves is not best and shared and np.isfinite(theirs).all():
        behind = estimate(across_seeds(upwards * (theirs - mine)))
    final = curves.final
    return [
        curves.estimator,
        estimate(final),
        NONE if final.level == 0 else f"{100 * final.level:.1f} %",
        _number(final.middle),
        _number(float(np.median(curves.at(budget)))),
        behind,
        f"{curves.diverged} of {len(curves.seeds)}" if curves.diverged else "",
        words.evaluations(line["f_evals"], line["grad_evals"]) + (f", {words.count(adapting)}" if adapting else ""),
        words.duration(float(curves.seconds[-1])),
        _variance(curves, 0),
        _variance(curves, -1),
    ]


def estimate(where: SeedSummary) -> str:
    """Return the median over seeds with its interval as text: ``0.412 ± 0.012``.

    If there are only 2 to 5 seeds, the text is the range of their values, such as ``0.40 to 0.43, range of 3``. An
    infinite value is printed as ``diverged``. ``where`` has the median and the interval.
    """
    if not math.isfinite(where.median):
        return "diverged"
    if where.is_range:
        return f"{_number(where.low)} to {_number(where.high)}, range of {where.runs}"
    if not (math.isfinite(where.low) and math.isfinite(where.high)):
        kept = [_number(v) if math.isfinite(v) else "diverged" for v in (where.low, where.high)]
        return f"{_number(where.median)} [{', '.join(kept)}]"
    return _number(where.median) if where.level == 0 else format_estimate(where.median, where.low, where.high)


def _number(value: float) -> str:
    return format_number(value, 4) if math.isfinite(value) else "diverged" if math.isinf(value) else NONE


def _variance(curves: Curves, look: int) -> str:
    column = curves.variance[:, look]
    alive = ~np.isnan(column)
    if not alive.any():
        return NONE
    mark = "≥ " if 2 * curves.heavy[alive, look].sum() >= alive.sum() else ""
    return f"{mark}{format_number(float(np.median(column[alive])), 2)}"


def _least(header: Sequence[str]) -> dict[str, int]:
    """Return the least widths of the columns on a terminal, all of which may take several lines."""
    return dict.fromkeys(header, 12) | {"estimator": 26}


def absences(records: Sequence[Record]) -> list[str]:
    """Return lines of text on the pairs of estimator and objective whose training was skipped, failed or diverged.

    ``records`` are those of a study. A line gives the reason and the seeds. A pair with several reasons has a line for
    each.
    """
    found: dict[tuple[str, str, str, str], list[int]] = {}
    for line in labelled(records):
        if line["kind"] == LineKind.TRAINING and line["outcome"] != Outcome.MEASURED:
            key = (line["outcome"], line["estimator"], line["objective"], line["reason"])
            found.setdefault(key, []).append(line["seed"])
    return [_absence(*key, sorted(seeds)) for key, seeds in found.items()]


def _absence(outcome: str, estimator: str, objective: str, reason: str, seeds: list[int]) -> str:
    if outcome == Outcome.SKIPPED:
        return f"not applicable: {estimator} on {objective}: {reason}"
    return f"{outcome}: {estimator} on {objective}, seed {', '.join(map(str, seeds))}: {reason}"


def markdown(records: Sequence[Record], title: str) -> str:
    """Return the study as Markdown: a table for each problem, what failed or was skipped, what the columns mean.

    A problem is an objective with its training settings. ``records`` are those of the study, and ``title`` is the
    heading of the page.
    """
    parts = [heading(f"{title}: training")]
    for section in sections(problems(records)):
        table = tabulated(section.header, section.body)
        parts += [f"#{heading(section.title)}", f"{in_markdown(section.facts)}.", table]
    missing = list(map(in_markdown, absences(records)))
    return page(parts, {"Missing or diverged": missing, "Columns": NOTES})


def data(records: Sequence[Record]) -> str:
    """Return every checkpoint of every training run in ``records`` as CSV with all digits.

    A number that is missing is an empty field.
    """
    found = columns(records)
    texts = found.select_dtypes(exclude=["number", "bool"]).columns
    found[texts] = found[texts].map(in_csv)
    return str(found.astype(object).to_csv(index=False, lineterminator="\n"))


def columns(records: Sequence[Record]) -> pd.DataFrame:
    """Return a row for every checkpoint of every training run, with the columns of ``training.csv``.

    ``records`` are those of a study. The last columns are the fields of all estimators and objectives, such as
    ``estimator.temperature``.
    """
    import pandas as pd

    table = pd.DataFrame(list(_rows(records)), columns=[*COLUMNS, *PARAMS])
    return pd.concat([table[list(COLUMNS)], fields(table)], axis=1)


def _rows(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    for problem in problems(records):
        for line in (line for curves in problem.curves for line in curves.lines):
            seen = line["curves"]
            evaluations = line["f_evals"] + line["adapt_f_evals"]
            for i, step in enumerate(seen["step"]):
                look = {key: values[i] for key, values in seen.items() if key in COLUMNS}
                run = {key: line[key] for key in ("estimator", "seed", "outcome")}
                run |= {key: line.get(key) for key in PARAMS}  # early records lack them
                spent = {"f_evals": step * evaluations, "seconds": seen["training_seconds"][i]}
                yield {"objective": problem.title, **run, **look, **spent}


def show(records: Sequence[Record], console: Console, whole: str = "training.md") -> None:
    """Print the tables of training, then what was skipped, failed or diverged.

    ``records`` are those of a study. If the console is too narrow for some columns, a note names them. ``whole`` is the
    name of a file with all columns, for this note; empty if there is none.
    """
    from rich.text import Text

    for section in sections(problems(records)):
        widths = fitting(section.header, section.body, console.width - INDENT, DROPPED_FIRST, _least(section.header))
        show_section(console, *section, widths)
        if dropped := [name for name in section.header if name not in widths]:
            where = f"; {whole} has all columns" if whole else ""
            console.print(Text(f"too narrow for {', '.join(dropped)}{where}", style="dim"))
    for line in absences(records):
        console.print(Text(line, style="dim" if line.startswith("not") else "red"))
