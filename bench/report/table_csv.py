"""The table of a study as CSV, with all digits."""

from __future__ import annotations

import csv as csv_writer
import io
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.records.text import in_csv
from bench.report.fields import fields
from bench.report.frame import WHOLE

if TYPE_CHECKING:
    import pandas as pd

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


def columns(table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of ``table.csv``, under the names that they have in that file.

    The last columns are the fields of all estimators and objectives, such as ``estimator.temperature``. Whole numbers
    stay whole numbers even if some values of their column are missing.

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
    lines = zip(*(_spelled(chosen[name]) for name in chosen), strict=True)
    return "\n".join([",".join(map(_quoted, chosen)), *map(",".join, lines)]) + "\n"


def _spelled(column: pd.Series[Any]) -> list[str]:
    """Return the values of a column as fields of CSV, empty ones where a value is missing.

    Equal values are spelled only once, which for a large study is much faster than pandas.
    """
    import pandas as pd

    is_float = column.dtype.kind == "f"
    codes, distinct = pd.factorize(column.to_numpy().view("int64") if is_float else column)  # tells -0.0 from 0.0
    values = (distinct.view("float64") if is_float else distinct).tolist()
    texts = ["" if is_float and isnan(value) else _quoted(value) for value in values]
    return list(np.array([*texts, ""], dtype=object)[codes])  # a missing value has the code -1


def _quoted(value: Any) -> str:
    """Return a value as a field of CSV, in quotation marks if it needs them."""
    if not isinstance(value, str):
        return repr(value)
    line = io.StringIO()
    csv_writer.writer(line, lineterminator="\n").writerow([in_csv(value), ""])  # alone, an empty text is quoted
    return line.getvalue().removesuffix(",\n")
