"""The table of a study as CSV, Markdown, LaTeX and terminal text, including what could not be measured."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bench.records.lines import Outcome
from bench.records.text import in_csv, in_markdown, printable
from bench.report import words
from bench.report.advice import candidates, sentence
from bench.report.aligned import escaped, latex_table, markdown_table, signed
from bench.report.cost import UNITS
from bench.report.fields import fields
from bench.report.frame import WHOLE, each
from bench.report.layout import Rows, broken, fitting
from bench.report.overview import OVERVIEW, row_of
from bench.stats.decision import decide
from bench.stats.printing import NONE, format_number, format_rank

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

CSV = (
    "problem", "estimator", "objective", "family", "dim", "size", "dtype", "device", "seed", "replicates",
    "precision", "precision_reached", "outcome", "status", "verdict", "flags", "unbiased", "deterministic", "n",
    "rank_low", "rank_high", "variance", "variance_low", "variance_high", "exact_norm", "bias_squared", "bias_low",
    "bias_bound", "relative_bias_bound", "bias_per_sd_bound", "p_bias", "replicates_needed", "mse", "mse_low",
    "mse_high", "efficiency", "variance_times_cost", "variance_times_cost_low", "variance_times_cost_high", "unit",
    "snr", "snr_low", "snr_high", "cosine", "cosine_low", "cosine_high", "alignment", "scale", "scale_low",
    "scale_high", "angle", "angle_low", "angle_high", "p_direction", "direction",
    "khat", "truncated_at", "truncated_mean", "f_evals", "grad_evals", "learned", "adapt_steps", "adapt_seconds",
    "adapt_f_evals", "adapt_settled", "seconds", "seconds_low", "seconds_high", "latency_seconds",
    "latency_seconds_low", "latency_seconds_high", "cost", "cost_low", "cost_high", "noisy", "peak_bytes", "reason",
)  # fmt: skip
UNIT_NAMES = {f"cost{end}": f"cost_forward_passes{end}" for end in ("", "_low", "_high")}
UNIT_NAMES |= {f"angle{end}": f"angle_degrees{end}" for end in ("", "_low", "_high")}
UNIT_NAMES |= {"unit": "variance_times_cost_unit", "learned": "learned_and_frozen"}
"""CSV names of columns whose names say less in the frame. The unit of ``cost`` is the time to sample and evaluate f."""
INTEGERS = (
    "dim", "size", "seed", "replicates", "n", "rank_low", "rank_high", "unbiased", "deterministic", "noisy",
    "learned", "adapt_steps", "adapt_settled", "peak_bytes", "precision_reached",
)  # fmt: skip

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
DROPPED_FIRST = ("cos", "direction", "f + ∇f", "rank", "time", "eff.")
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
BROKEN_UP = {"estimator": 26, "bias": 11, "direction": 11, "remarks": 12}
"""Columns whose cells take several lines on a narrow terminal, each with its least width. If this is not enough,
columns are dropped."""
INDENT = 2
"""Spaces before each line of a table on a terminal."""
SKIPS_SHOWN, FAILURES_SHOWN = 8, 50
TABLES_SHOWN, ROWS_SHOWN = 20, 60
"""Most objectives of which the tables are printed, and most rows of the table with a row for each objective. Further
objectives are counted; ``table.md`` has them all."""
SEVERAL = 3
"""Fewest problems of a study that are shown as one table, a row for each."""
OVERVIEW_DROPPED = ("exact", "f + ∇f", "eff.", "runner-up")
OVERVIEW_BROKEN_UP = {"objective": 20, "best unbiased": 20, "runner-up": 20}


class Section(NamedTuple):
    """One objective of a study as text.

    Args:
        problem: the objective's label; if a study measured the objective with several settings, such as dtypes or
            seeds, those that differ follow in brackets.
        facts: family, dimension, replicates, norm of the exact gradient and unit of cost, in one line.
        body: one row of texts per run (measurement of an estimator), in the order of ``HEADER``.
        advice: a sentence that recommends an estimator.
        runs: the rows of the frame that ``body`` is made of, in its order.
    """

    problem: str
    facts: str
    body: list[tuple[str, ...]]
    advice: str
    runs: Sequence[Any]


def ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Return runs in this order: unbiased, biased, heavy-tailed, failed.

    Within each of these four groups, the run with the smallest variance times cost is first. A run is one measurement
    of an estimator; ``table`` has a row for each run.
    """
    place = (~table["fair"]).astype(int) + 2 * table["heavy"] + 4 * (table["outcome"] != Outcome.MEASURED)
    keyed = table.assign(_place=place, _cost=table["variance_times_cost"].fillna(math.inf))
    ranked = keyed.sort_values(["_place", "_cost", "variance_low", "estimator"], kind="stable")
    return ranked.drop(columns=["_place", "_cost"])


def sections(table: pd.DataFrame, *, terse: bool = False, most: int | None = None) -> list[Section]:
    """Return the text of each objective, in the order of the records.

    An objective is left out if no estimator fits it.

    Args:
        table: the frame that ``bench.report.prepared.prepared`` returns.
        terse: whether the half-widths of variance intervals are in percent of the variance, as on a terminal; otherwise
            they are in its units.
        most: the largest number of objectives; the first ones are chosen. None for all.
    """
    run = _run(table)
    problems = list(dict.fromkeys(run["problem"]))[:most]
    groups = _by_problem(ordered(run if most is None else run[run["problem"].isin(problems)]))
    return [_section(problem, groups[problem], terse=terse) for problem in problems]


def _by_problem(table: pd.DataFrame) -> dict[str, list[Any]]:
    """Return the rows of each objective, by its label."""
    found: dict[str, list[Any]] = {}
    for row in each(table):
        found.setdefault(row.problem, []).append(row)
    return found


def _run(table: pd.DataFrame) -> pd.DataFrame:
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

    A line is for one estimator, family and reason: ``arm on gaussian (3 objectives): needs binary variables``.
    ``table`` is the frame that ``bench.report.prepared.prepared`` returns.
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


def columns(table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of ``table.csv``, under the names that they have in that file.

    The last columns are the fields of all estimators and objectives, such as ``estimator.temperature``. A column of
    whole numbers stays so if some of its values are missing.

    ``table`` is the frame that ``bench.report.prepared.prepared`` returns.
    """
    import pandas as pd

    chosen = table[list(CSV)].astype({key: "Int64" for key in INTEGERS if key not in WHOLE})
    return pd.concat([chosen.rename(columns=UNIT_NAMES), fields(table)], axis=1)


def csv(table: pd.DataFrame) -> str:
    """Return the study as CSV with all digits, a line for each estimator on each objective.

    Measurements that were skipped or failed have a line too. A number that does not exist is an empty field. ``table``
    is the frame that ``bench.report.prepared.prepared`` returns.
    """
    chosen = columns(table)
    texts = chosen.select_dtypes(exclude=["number", "bool"]).columns
    chosen[texts] = chosen[texts].map(in_csv)
    return str(
        chosen.astype(object).to_csv(index=False, lineterminator="\n")
    )  # Python spells numbers faster than numpy


def markdown(table: pd.DataFrame, title: str, found: Sequence[Section]) -> str:
    """Return the study as Markdown: a table and advice for each objective, what is missing, what the columns mean.

    ``table`` is the frame that ``bench.report.prepared.prepared`` returns, ``title`` the heading of the page, and
    ``found`` what ``sections`` makes of the frame.
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
    """Return the heading of a Markdown page; ``title`` may be any text, such as the name of a folder."""
    return f"# {in_markdown(printable(title))}"


def page(parts: Sequence[str], lists: Mapping[str, Sequence[str]]) -> str:
    """Return a Markdown page: the parts one after the other, then a section with bullets for each entry of ``lists``.

    The keys of ``lists`` are the headings of the sections. Empty lists are left out.
    """
    bullets = ["\n".join([f"## {name}\n", *(f"- {line}" for line in lines)]) for name, lines in lists.items() if lines]
    return "\n\n".join([*parts, *bullets]) + "\n"


def tabulated(header: Sequence[str], body: Rows) -> str:
    """Return a table of Markdown, in which the texts of the cells are escaped."""
    written = [in_markdown if name in FOREIGN else _barred for name in header]
    cells = [[write(cell) for write, cell in zip(written, row, strict=True)] for row in body]
    return markdown_table(header, cells, LEFT)


def _barred(cell: str) -> str:
    return cell.replace("|", "\\|")


def latex(found: Sequence[Section]) -> str:
    """Return one LaTeX table for each of the objectives in ``found``, for a document that loads the package booktabs.

    ``sections`` makes ``found``.
    """
    parts = ["% Needs \\usepackage{booktabs}."]
    for section in found:
        rows = latex_table(*filled(HEADER, section.body), LEFT)
        caption = escaped(f"{section.problem}: {section.facts}. {section.advice}.")
        parts.append("\n".join([r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", rows, r"\end{table}"]))
    return signed("\n\n".join(parts) + "\n")


def filled(header: Sequence[str], body: Rows) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a table without the columns that are empty in every row."""
    kept = [i for i in range(len(header)) if any(row[i] not in ("", NONE) for row in body)]
    return [header[i] for i in kept], [[row[i] for i in kept] for row in body]


def provenance(table: pd.DataFrame) -> str:
    """Return in sentences how many runs were measured, failed and skipped, and with which dtypes, devices and seeds.

    A run is one measurement of an estimator on an objective, and a row of the frame ``table``.
    """
    counts = table["outcome"].value_counts()
    shown = [f"{counts.get(word, 0)} {word}" for word in (Outcome.MEASURED, Outcome.FAILED, Outcome.SKIPPED)]
    used = _run(table)
    if used.empty:
        return f"Runs: {', '.join(shown)}."
    settings = [", ".join(sorted(used[key].unique())) for key in ("dtype", "device")]
    seeds = ", ".join(str(seed) for seed in sorted(used["seed"].unique()))
    return f"Runs: {', '.join(shown)}. {', '.join(settings)}, seed {seeds}."


def show(table: pd.DataFrame, console: Console, *, named: bool = False, brief: bool = False) -> None:
    """Print the study in the width of the console, without the least important columns if it is narrow.

    The study gets a table for each objective. If there are three objectives or more, a table with a row for each of
    them comes last.

    Args:
        table: the frame that ``bench.report.prepared.prepared`` returns.
        console: where to print.
        named: whether to print which estimators and objectives do not fit together, with the reason, in up to 8 lines;
            otherwise only the number of such pairs is printed.
        brief: whether to leave out the tables for one objective each if there are three objectives or more.
    """
    several = has_several(table)
    if not (brief and several):
        _show_sections(table, console)
    _show_absences(table, console, named=named)
    if several:
        if not brief:
            console.print()
        _show_overview(table, console)


def has_several(table: pd.DataFrame) -> bool:
    """Return whether the study has three or more objectives, so that a table with a row for each is printed.

    ``table`` is the frame that ``bench.report.prepared.prepared`` returns.
    """
    return bool(_run(table)["problem"].nunique() >= SEVERAL)


def _show_sections(table: pd.DataFrame, console: Console) -> None:
    texts = sections(table, terse=True, most=TABLES_SHOWN)
    rows = [row for section in texts for row in section.body]
    kept = fitting(*filled(HEADER, rows), console.width - INDENT, DROPPED_FIRST, BROKEN_UP)
    for section in texts:
        show_section(console, section.problem, section.facts, HEADER, section.body, kept, f"→ {section.advice}")
    _show_dropped(HEADER, rows, kept, console)
    _show_rest(_run(table)["problem"].nunique() - len(texts), "objectives; table.md has all their tables", console)


def _show_overview(table: pd.DataFrame, console: Console) -> None:
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
    _show_dropped(OVERVIEW, body, kept, console)
    _show_rest(len(problems) - len(body), "objectives; table.md has a table of each", console)


def _show_rest(count: int, what: str, console: Console) -> None:
    """Say how many of something are not printed, and where they are; print nothing if there are none."""
    from rich.text import Text

    if count > 0:
        console.print(Text(f"and {count:,} more {what}", style="dim"))


def _show_dropped(header: Sequence[str], rows: Rows, kept: Mapping[str, int], console: Console) -> None:
    """Name the columns that have content and are not kept."""
    from rich.text import Text

    if dropped := [name for name in filled(header, rows)[0] if name not in kept]:
        console.print(Text(f"too narrow for {', '.join(dropped)}; table.md has all columns", style="dim"))


def _show_absences(table: pd.DataFrame, console: Console, *, named: bool) -> None:
    """Print what failed and what was skipped."""
    from rich.text import Text

    failed, skipped = absences(table)
    for line in failed[:FAILURES_SHOWN]:
        console.print(Text(f"failed: {line}", style="red"))
    _show_rest(len(failed) - FAILURES_SHOWN, "failures; table.md has them all", console)
    for line in skipped[:SKIPS_SHOWN] if named else ():
        console.print(Text(f"not applicable: {line}", style="dim"))
    if not named and skipped:
        pairs = int((table["outcome"] == Outcome.SKIPPED).sum())
        does = "pair does" if pairs == 1 else "pairs do"
        console.print(Text(f"not applicable: {pairs} {does} not fit; table.md has the reasons", style="dim"))
    elif len(skipped) > SKIPS_SHOWN:
        console.print(Text(f"not applicable: {len(skipped) - SKIPS_SHOWN} more, all in table.md", style="dim"))


def show_section(
    console: Console,
    title: str,
    facts: str,
    header: Sequence[str],
    body: Rows,
    widths: Mapping[str, int],
    advice: str = "",
) -> None:
    """Print the title, the facts, the table and the advice of one objective.

    ``widths`` names the columns of ``header`` that are printed, each with its width in characters.
    """
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for name, width in widths.items():
        side: Literal["left", "right"] = "left" if name in LEFT else "right"
        grid.add_column(broken(name, width), justify=side, min_width=width, overflow="fold")
    for row in body:
        cells = dict(zip(header, row, strict=True))
        grid.add_row(*(Text(broken(cells[name], width)) for name, width in widths.items()))
    parts: list[Text | Table] = [Text(facts, style="dim"), grid]
    parts += [Text(advice, style="green")] if advice else []
    console.print(Text(title, style="bold"))
    for part in parts:
        console.print(Padding(part, (0, 0, 0, 2), expand=False))
    console.print()


def overview(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return a row of texts for each objective on which something was measured, in the columns of ``OVERVIEW``.

    A row says who is best on the objective, by how much, and what is biased. ``table`` is the frame that
    ``bench.report.prepared.prepared`` returns.
    """
    measured = _by_problem(table[table["outcome"] == Outcome.MEASURED])
    return [row_of(problem, rows) for problem, rows in measured.items()]
