"""How the variance scales with a parameter that a study sweeps: the exponents of power laws, with intervals."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.records.lines import Outcome
from bench.report.figures.scaling import slope
from bench.report.frame import each

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 3
"""Fewest values of a parameter for an exponent."""
Z = 1.959964
"""Quantile of the 95 % interval."""


class Exponent(NamedTuple):
    """The exponent b of a power law ``variance ~ x^b``, fitted to the variances of one sweep.

    Args:
        what: the labels of estimator and objective, without the parameter that is swept.
        parameter: the parameter x: ``n``, ``dim``, ``temperature``.
        values: number of values of x.
        exponent: b.
        low: lower limit of the 95 % interval of b.
        high: upper limit of the 95 % interval of b.
    """

    what: str
    parameter: str
    values: int
    exponent: float
    low: float
    high: float


def exponents(table: pd.DataFrame) -> list[Exponent]:
    """Return the exponents of all sweeps of a study in which a parameter has three or more positive values.

    ``table`` is the frame that ``bench.report.prepared.prepared`` returns. Two kinds of measurements are left out:
    those of exact methods, and those with only a lower limit of the variance.
    """
    rows = [row for row in each(table[table["outcome"] == Outcome.MEASURED]) if row.variance > 0 and not row.exact]
    sweeps: dict[tuple[str, str, str, str], list[tuple[float, Any]]] = {}
    for row in rows:
        for key, what, x in _sweeps(row):
            sweeps.setdefault((*key, what), []).append((x, row))
    found = []
    for (_, _, parameter, what), points in sweeps.items():
        values = {x for x, _ in points}
        if len(values) < FEWEST or len(values) < len(points):  # two rows with one x differ in something else
            continue
        b, se = slope([x for x, _ in points], [row.variance for _, row in points], [row.se_log for _, row in points])
        found.append(Exponent(what, parameter, len(values), b, b - Z * se, b + Z * se))
    return found


def _sweeps(row: Any) -> Iterator[tuple[tuple[str, str, str], str, float]]:
    """Yield the sweeps that a row may belong to: a key that all of its rows share, its words, and this row's x."""
    kinds = (("estimator", row.estimator, row.problem), ("objective", row.problem, row.estimator))
    for kind, label, other in kinds:
        held: Mapping[str, Any] = getattr(row, f"{kind}_params") or {}
        for name, value in held.items():
            if name == "seed" or isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                continue
            rest = {key: each for key, each in held.items() if key != name}
            short = re.sub(rf"(?<=[:,]){re.escape(name)}=[^,]*,?", "", label).rstrip(":,")
            key = json.dumps([getattr(row, f"{kind}_name"), rest, other, row.dtype, row.device, row.seed], default=str)
            what = f"{short} on {other}" if kind == "estimator" else f"{other} on {short}"
            yield (kind, key, name), what, float(value)
