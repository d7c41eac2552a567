"""Statistics of a few runs that differ in their seed. Infinite values stand for runs that have diverged."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bench.stats.comparison import order_statistic_interval
from bench.stats.series import Array


class Centre(NamedTuple):
    """Where runs lie: their median, an interval of the median of the law they come from, and their middle half.

    Args:
        median: of the runs.
        low, high: order statistics.
        level: the probability with which such an interval contains the median, whatever the law; 0 for a single run.
        middle: the interquartile mean.
    """

    median: float
    low: float
    high: float
    level: float
    middle: float


def centre(values: Array, confidence: float = 0.95) -> Centre:
    """Return where ``values`` ``[runs]``, finite or infinite of one sign, lie.

    The interval has at least the confidence asked for from 6 runs at 0.95; of fewer it is their range, and ``level``
    says what that is worth. Diverged runs count as the worst: none is left out.

    Source: order statistics, David & Nagaraja 2003 (Order Statistics, section 7.1); the interquartile mean, Agarwal et
    al. 2021 ("Deep reinforcement learning at the edge of the statistical precipice").
    """
    median, low, high = order_statistic_interval(values, confidence)
    return Centre(median, low, high, level(len(values), confidence), interquartile_mean(values))


def level(runs: int, confidence: float = 0.95) -> float:
    """Return the probability with which the interval of ``centre`` contains the median of the law of the runs."""
    from scipy.special import bdtr

    _, low, _ = order_statistic_interval(np.arange(1.0, runs + 1), confidence)
    return 1 - 2 * float(bdtr(low - 1, runs, 0.5))


def interquartile_mean(values: Array) -> float:
    """Return the mean of the middle half; a value at its edge counts by the part of it that is inside."""
    x = np.sort(np.asarray(values, dtype=np.float64))
    edges = np.arange(x.size + 1) / x.size
    inside = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0, None)
    kept = inside > 0
    return float((x[kept] * inside[kept]).sum() / inside[kept].sum())
