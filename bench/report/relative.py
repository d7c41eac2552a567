"""Variance relative to the best unbiased estimator of an objective: the numbers and colours of every map of them."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from bench.report.frame import each
from bench.report.style import order
from bench.stats.printing import format_number

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 150
"""Most estimators of a map."""
DECADES = 4
"""The colour scale ends this many decades above the best variance. The numbers in the cells go further."""
COLOURS = "cividis_r"
"""The colour scale, by its name in matplotlib."""
NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e-?\d+)?)")
TITLE = "Variance relative to the best unbiased estimator of each column (1 = best)"
NOTE = "Unbiased: as declared, unless the data contradict it. Cost is not included."


def rows(table: pd.DataFrame) -> tuple[list[str], str]:
    """Return the estimators of a heat map, from top to bottom, and a note on those that are left out.

    Estimators are in the order of ``bench.report.style.FAMILIES``. Those of one class are sorted by n, then by other
    numbers in their labels. The note is empty if none is left out. ``table`` is the frame that
    ``bench.report.prepared.prepared`` returns.
    """
    counts = table["estimator"].value_counts(sort=False)
    kept = counts.sort_values(ascending=False, kind="stable").index[:MOST_ROWS]
    note = f" The {MOST_ROWS} of {len(counts)} estimators measured most often." if len(counts) > MOST_ROWS else ""
    table = table[table["estimator"].isin(kept)]
    places = {name: place for place, name in enumerate(order(list(table["estimator_name"])))}
    first = each(table.drop_duplicates("estimator").fillna({"n": 0.0}))
    first.sort(key=lambda row: (places[row.estimator_name], row.n, _natural(row.estimator)))
    return [row.estimator for row in first], note


def _natural(label: str) -> list[str | float]:
    """Return a key that sorts labels by the numbers in them: inner=4 before inner=16."""
    return [float(part) if place % 2 else part for place, part in enumerate(NUMBER.split(label))]


def base(group: pd.DataFrame) -> tuple[float, bool]:
    """Return the variance by which all variances on an objective are divided, and whether its estimator is unbiased.

    The variance is the lowest of the unbiased estimators or, if there are none, the lowest of all. The variance of an
    exact estimator is only rounding, and is not taken. ``group`` has the rows of the objective.
    """
    positive = group[(group["variance"] > 0) & ~group["exact"]]
    fair = positive[positive["fair"]]
    return float((positive if fair.empty else fair)["variance"].min()), not fair.empty


def ratio(cell: Any, base: float) -> tuple[str, float]:
    """Return the text of a cell of the heat map, and the decimal logarithm of the ratio in it, for the cell's colour.

    The ratio is the variance divided by ``base``, or, if the tail is heavy, the variance's lower limit divided by
    ``base``. The logarithm is NaN if the estimator is exact, or if the ratio is not above 0. ``cell`` is a measurement,
    as a row of the frame of ``bench.report.prepared.prepared``.
    """
    if cell.exact or cell.variance == 0:
        return "0", math.nan
    ratio = (cell.variance_low if cell.heavy else cell.variance) / base
    if not ratio > 0:
        return "", math.nan
    text = format_number(ratio, 2).replace("1.0", "1") if 0.95 <= ratio < 1.05 else format_number(ratio, 2)
    return f"≥ {text}" if cell.heavy else text, math.log10(ratio)


def rgb(colour: float) -> tuple[float, float, float]:
    """Return the colour of a cell of the heat map as red, green and blue, each from 0 to 1.

    ``colour`` is the decimal logarithm of the number in the cell.
    """
    from matplotlib import colormaps

    red, green, blue, _ = colormaps[COLOURS](min(max(colour / DECADES, 0.0), 1.0))
    return float(red), float(green), float(blue)


def ink(colour: float) -> str:
    """Return the colour of the text in a cell of the heat map: black or white, whichever has more contrast.

    ``colour`` is the decimal logarithm of the number in the cell.
    """
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb(colour)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) ** 2 > 0.0525 else "#ffffff"  # relative luminance as in WCAG 2
