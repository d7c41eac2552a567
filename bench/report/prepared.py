"""The frame that tables, figures and pages read: runs with the price of an estimate and their ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.report.cost import priced
from bench.report.frame import frame
from bench.report.ranks import ranked

if TYPE_CHECKING:
    import pandas as pd


def prepared(records: Sequence[Mapping[str, Any]], cost: str = "evaluations") -> pd.DataFrame:
    """Return the frame from which tables and figures are made, with a row for each measurement.

    The columns are those of ``bench.report.frame.frame``, the price (cost) of one estimate, and the ranks by variance.
    ``records`` are those of a study. ``cost`` is the unit of the price, "evaluations" or "seconds".
    """
    return ranked(priced(frame(records), cost), records)
