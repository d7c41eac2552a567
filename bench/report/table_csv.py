"""The table of a study as CSV, with all digits."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    texts = chosen.select_dtypes(exclude=["number", "bool"]).columns
    chosen[texts] = chosen[texts].map(in_csv)
    return str(
        chosen.astype(object).to_csv(index=False, lineterminator="\n")
    )  # Python spells numbers faster than numpy
