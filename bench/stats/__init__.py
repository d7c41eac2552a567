"""Statistics of gradient estimates: partial sums in, intervals, tests and verdicts out. numpy only."""

from bench.stats.accumulate import Accumulator, Partial, Sums
from bench.stats.bias import Reference
from bench.stats.series import Moments, merge, moments
from bench.stats.summary import Summary, summarise

__all__ = ["Accumulator", "Moments", "Partial", "Reference", "Summary", "Sums", "merge", "moments", "summarise"]
