"""The fields of estimators and objectives as columns: ``estimator.temperature``, ``objective.dim``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.records.labels import HALVES, value_text

if TYPE_CHECKING:
    import pandas as pd

LARGEST = 2**63
"""Whole numbers below it have 64 bits."""


def fields(table: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with a column for every field of an estimator or an objective in the study, defaults included.

    A row is for one run (measurement of an estimator on an objective). A field of an estimator is a column such as
    ``estimator.temperature``, and a field of an objective one such as ``objective.power``.

    A value is missing where the class has no such field, or where the field is None. Whole numbers have the column type
    ``Int64``, and so have true and false, which become 1 and 0. Other numbers have the type ``float64``. All other
    values are texts, spelled as in a selector.

    ``table`` is the frame that ``bench.report.frame.frame`` returns, with the same rows.
    """
    import pandas as pd

    found: dict[str, pd.Series[Any]] = {}
    for half in HALVES:
        held = [params if isinstance(params, dict) else {} for params in table[f"{half}_params"]]
        for name in dict.fromkeys(name for params in held for name in params):
            values, kind = _typed([params.get(name) for params in held])
            found[f"{half}.{name}"] = pd.Series(values, table.index, kind)
    return pd.DataFrame(found, index=table.index)


def _typed(values: Sequence[Any]) -> tuple[list[Any], str]:
    """Return the values of a field, as the type of column fits that holds them, and the name of that type."""
    kinds = {type(value) for value in values if value is not None}
    if kinds and (kinds == {bool} or (kinds == {int} and all(v is None or abs(v) < LARGEST for v in values))):
        return [None if value is None else int(value) for value in values], "Int64"
    if kinds and kinds <= {int, float}:
        return [None if value is None else float(value) for value in values], "float64"
    return [None if value is None else value_text(value) for value in values], "object"
