"""Statistics of a few runs that differ only in their seed. An infinite value is a run that has diverged."""

from typing import NamedTuple

import numpy as np

from bench.stats.median import median_rank, order_statistic_interval
from bench.stats.series import Array


class SeedSummary(NamedTuple):
    """A summary of the results of training runs with different seeds.

    Args:
        median: median of the results.
        low: lower confidence limit for the median over all possible seeds; it is one of the sorted results.
        high: upper limit for this median. If there are fewer than 6 runs, the limits are the range of the results,
            which is no 95 % interval.
        level: the limits enclose this median with at least this probability, whatever the distribution; 0 for a single
            run.
        middle: interquartile mean of the results.
        runs: number of results.
    """

    median: float
    low: float
    high: float
    level: float
    middle: float
    runs: int

    @property
    def is_range(self) -> bool:
        """Whether the limits are only the smallest and the largest result: too few runs for the level 95 %."""
        return self.runs > 1 and self.level < 0.95


def across_seeds(values: Array, confidence: float = 0.95) -> SeedSummary:
    """Summarise the results ``values`` ``[runs]`` of training runs with different seeds, with limits for their median.

    The result of a diverged run must be infinite; it counts as the worst. All infinite results must have one sign.
    Fewer than 6 runs cannot reach the confidence 0.95: the limits are then the smallest and the largest result, and
    hold with a lower probability.

    Source: order statistics, David & Nagaraja 2003 (Order Statistics, section 7.1); the interquartile mean, Agarwal et
    al. 2021 ("Deep reinforcement learning at the edge of the statistical precipice").
    """
    median, low, high = order_statistic_interval(values, confidence)
    return SeedSummary(median, low, high, level(len(values), confidence), interquartile_mean(values), len(values))


def level(runs: int, confidence: float = 0.95) -> float:
    """Return the probability that the confidence interval of `runs` results contains the median of their distribution.

    Both ends of the interval are results. They are chosen so that the probability is at least `confidence`. If there
    are too few runs for that, the ends are the smallest and the largest result, and the probability is lower.
    """
    from scipy.special import bdtr

    return 1 - 2 * float(bdtr(median_rank(runs, confidence) - 1.0, runs, 0.5))


def interquartile_mean(values: Array) -> float:
    """Return the mean of the middle half of ``values``; a value at the edge of that half counts in part."""
    x = np.sort(np.asarray(values, dtype=np.float64))
    edges = np.arange(x.size + 1) / x.size
    inside = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0, None)
    kept = inside > 0
    return float((x[kept] * inside[kept]).sum() / inside[kept].sum())
