"""Statistics of gradient estimates, from partial sums to intervals, tests and verdicts. Imports numpy only."""

from bench.stats.accumulate import Accumulator
from bench.stats.adaptive import PrecisionTarget, half_width, is_precise, look_schedule, planned_replicates, spend
from bench.stats.bias import Reference
from bench.stats.comparison import (
    ComparedRun,
    LogRatio,
    compare,
    independent_log_ratio,
    paired_log_ratio,
    pool,
    ranks,
    work_normalised,
)
from bench.stats.gate import CellTest, GateCell, default_margin, gate_cell, holm
from bench.stats.median import order_statistic_interval
from bench.stats.partial import Partial
from bench.stats.printing import (
    format_bias,
    format_direction,
    format_estimate,
    format_interval,
    format_number,
    format_rank,
    format_variance,
)
from bench.stats.series import Moments, merge, moments
from bench.stats.summarise import summarise
from bench.stats.summary import Summary
from bench.stats.sums import Sums

__all__ = [
    "Accumulator",
    "CellTest",
    "ComparedRun",
    "GateCell",
    "LogRatio",
    "Moments",
    "Partial",
    "PrecisionTarget",
    "Reference",
    "Summary",
    "Sums",
    "compare",
    "default_margin",
    "format_bias",
    "format_direction",
    "format_estimate",
    "format_interval",
    "format_number",
    "format_rank",
    "format_variance",
    "gate_cell",
    "half_width",
    "holm",
    "independent_log_ratio",
    "is_precise",
    "look_schedule",
    "merge",
    "moments",
    "order_statistic_interval",
    "paired_log_ratio",
    "planned_replicates",
    "pool",
    "ranks",
    "spend",
    "summarise",
    "work_normalised",
]  # fmt: skip
