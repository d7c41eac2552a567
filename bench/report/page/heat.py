"""The map of a page: variance relative to the best unbiased estimator, rows are estimators, columns objectives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bench.records.lines import Outcome
from bench.report import relative
from bench.report.frame import each

if TYPE_CHECKING:
    import pandas as pd

MOST_COLUMNS = 60
"""Most objectives of the map; the first ones are shown."""
SHADES = 10
"""Shades of the colour scale for each factor of 10."""


def heat(table: pd.DataFrame) -> dict[str, Any] | None:
    """Return the heat map of a page as a dictionary, with a row for each estimator and a column for each objective.

    A cell shows the variance, divided by that of the best unbiased estimator of the objective. The dictionary has the
    text and the colour of each cell, the names of rows and columns, the title, a note and the scale of colours. The
    numbers, the order of the rows and the marks are those of the figure ``heatmap``.

    The result is None if there is no variance, or only one objective. ``table`` is the frame that
    ``bench.report.prepared.prepared`` returns.
    """
    run = table[table["outcome"] != Outcome.SKIPPED]
    found = list(dict.fromkeys(run["problem"]))
    columns = found[:MOST_COLUMNS]
    if len(columns) < 2 or not (table["variance_low"] >= 0).any():
        return None
    notes = [f"The first {len(columns)} of {len(found)} objectives."] if len(found) > len(columns) else []
    run = run[run["problem"].isin(columns)]
    rows, left_out = relative.rows(run)
    bases = {problem: relative.base(group) for problem, group in run.groupby("problem", sort=False)}
    cells = {(row.estimator, row.problem): row for row in each(run)}
    objective = dict(zip(run["problem"], run["objective"], strict=True))
    skips = table[table["outcome"] == Outcome.SKIPPED]
    skipped = set(zip(skips["estimator"], skips["objective"], strict=True))
    body = []
    for row in rows:
        line = []
        for column in columns:
            cell = cells.get((row, column))
            if cell is not None:
                line.append(_cell(cell, bases[column][0]))
            else:
                line.append(("–", "absent", "") if (row, objective[column]) in skipped else ("", "", ""))
        body.append((row, line))
    if not all(unbiased for _, unbiased in bases.values()):
        notes.append("† no unbiased estimator: relative to the lowest variance measured.")
    return {
        "columns": [column if bases[column][1] else f"{column} †" for column in columns],
        "rows": body,
        "note": " ".join([relative.NOTE, *notes, left_out.strip()]).strip(),
        "title": relative.TITLE,
        "shades": [_shade(k / SHADES) for k in range(relative.DECADES * SHADES + 1)],
        "scale": [(f"{10**k:,}", k * SHADES) for k in range(relative.DECADES + 1)],
    }


def _cell(cell: Any, base: float) -> tuple[str, str, str]:
    """Return the text of a cell, its classes, and what its mark means."""
    if cell.outcome != Outcome.MEASURED:
        return "×", "failed", ""
    text, colour = relative.ratio(cell, base)
    mark, means = ("", "") if cell.fair else ("biased", "biased") if cell.biased else ("open", "bias not excluded")
    if math.isnan(colour):
        return text or "≥", f"{'exact' if cell.exact else 'absent'} {mark}".strip(), means
    shade = round(SHADES * min(max(colour, 0.0), relative.DECADES))
    return text, f"h{shade} {mark}".strip(), means


def _shade(colour: float) -> tuple[str, str]:
    """Return the colour of a cell and of the text on it, as CSS."""
    return "#" + "".join(f"{round(255 * part):02x}" for part in relative.rgb(colour)), relative.ink(colour)
