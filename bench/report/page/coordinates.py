"""What the variance of a gradient is made of: its parameters and its coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.records.coordinates import MOST, ranks
from bench.records.lines import LineKind, Outcome
from bench.report import words
from bench.report.frame import each
from bench.stats.summary import HEAVY

if TYPE_CHECKING:
    import pandas as pd

ROWS = 1_000
"""Most rows of the table of parameters."""
NUMBERS = 40_000
"""Most numbers of the chart of coordinates; of each gradient, at least 8 are drawn."""


def parameters(table: pd.DataFrame, records: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return the rows of a table that splits the variance of each gradient among the tensors of theta.

    There is a row for each tensor of each measured gradient, if theta has several tensors. Its texts are the objective,
    the estimator, the tensor's name and its number of elements; then the variance of the tensor's part of the gradient,
    in total and divided by the number of elements.

    Args:
        table: the frame that ``bench.report.prepared.prepared`` returns.
        records: the records of the study.
    """
    rows = list[tuple[str, ...]]()
    for row, record in _measured(table, records):
        groups = record["summary"].get("groups") or {}
        for name, group in groups.items() if len(groups) > 1 else ():
            low, high = group["variance_low"], group["variance_high"]
            value = None if group["status"] in HEAVY else group["variance"]
            limits = [math.nan if number is None else number for number in (value, low, high)]
            share = [number / group["size"] for number in limits]
            rows.append(
                (
                    row.problem,
                    row.estimator,
                    name,
                    f"{group['size']:,}",
                    words.estimate(*limits),
                    words.estimate(*share),
                )
            )
    return rows[:ROWS]


def profiles(table: pd.DataFrame, records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the data of a chart that shows the variance of each coordinate of a gradient, the largest first.

    The key ``rows`` has an entry for each gradient: its place among the measured rows of ``table``, its number of
    coordinates and their variances. If there are many coordinates, only some of the variances are kept. The key
    ``ranks`` has a dictionary: for each number of coordinates, the ranks of the variances that are kept; rank 1 is the
    largest.

    Exact estimators are left out, and so are estimators with only a lower limit of the variance. Return None if no
    estimator is left.

    Args:
        table: the frame that ``bench.report.prepared.prepared`` returns.
        records: the records of the study. Lean records, as ``bench.records.store.read`` can return them, are enough.
    """
    found = []
    for place, (row, record) in enumerate(_measured(table, records)):
        held = record["sums"].get("coordinate_variances", ()) if record.get("sums") else ()
        if len(held) > 1 and not (row.exact or row.heavy):
            found.append((place, record["size"], held))
    most = max(8, min(MOST, NUMBERS // max(1, len(found))))
    rows = [
        {"row": place, "size": size, "variance": [float(f"{held[k]:.3g}") for k in ranks(len(held), most)]}
        for place, size, held in found
    ]
    sizes = {size: len(held) for _, size, held in found}
    places = {size: (ranks(size, count)[ranks(count, most)] + 1).tolist() for size, count in sizes.items()}
    return {"rows": rows, "ranks": places} if rows else None


def _measured(table: pd.DataFrame, records: Sequence[Mapping[str, Any]]) -> list[tuple[Any, Mapping[str, Any]]]:
    """Return the measured rows of the frame, each with its record."""
    by_run = {record["run"]: record for record in records if record["kind"] == LineKind.MOMENTS}
    return [(row, by_run[row.run]) for row in each(table[table["outcome"] == Outcome.MEASURED])]
