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
    """Return the variance of each parameter as rows of texts, of the gradients that have several parameters.

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
    """Return the data of the chart of coordinates: the variances of each gradient, the largest first.

    Exact estimators are left out, and so are estimators with only a lower limit of the variance. Return None if no
    estimator is left.

    Args:
        table: the frame that ``bench.report.prepared.prepared`` returns.
        records: the records of the study. Lean records, as ``bench.records.store.read`` returns them, hold the
            variances.
    """
    found = []
    for row, record in _measured(table, records):
        held = record["sums"].get("coordinate_variances", ()) if record.get("sums") else ()
        if len(held) > 1 and not (row.exact or row.heavy):
            found.append((row, round(record["size"]), held))
    most = max(8, min(MOST, NUMBERS // max(1, len(found))))
    rows = [
        {
            "objective": row.problem,
            "estimator": row.estimator,
            "method": row.estimator_name,
            **_points(held, size, most),
        }
        for row, size, held in found
    ]
    return {"rows": rows} if rows else None


def _points(held: Sequence[float], size: int, most: int) -> dict[str, list[float]]:
    """Return variances and their ranks, the largest variance first, at most ``most`` of them."""
    chosen = ranks(len(held), most)
    places = ranks(size, len(held))[chosen] + 1
    return {"rank": places.tolist(), "variance": [float(f"{held[k]:.3g}") for k in chosen]}


def _measured(table: pd.DataFrame, records: Sequence[Mapping[str, Any]]) -> list[tuple[Any, Mapping[str, Any]]]:
    """Return the rows of the frame that were measured, each with its record."""
    by_run = {record["run"]: record for record in records if record["kind"] == LineKind.MOMENTS}
    rows = each(table[table["outcome"] == Outcome.MEASURED])
    return [(row, by_run[row.run]) for row in rows if row.run in by_run]
