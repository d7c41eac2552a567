"""Statistics over the seeds of a training."""

import math

import numpy as np
import pytest

from bench.stats.seeds import across_seeds, interquartile_mean


def test_the_interval_of_six_runs_is_their_range():
    where = across_seeds(np.array([3.0, 1.0, 2.0, 6.0, 5.0, 4.0]))
    assert (where.median, where.low, where.high) == (3.5, 1.0, 6.0)
    assert where.level == pytest.approx(1 - 2 / 2**6)


def test_the_level_counts_the_ways_in_which_an_interval_can_miss():
    """Of 12 runs the interval leaves two at either end: at most two heads in 12 throws."""
    where = across_seeds(np.arange(12.0))
    assert (where.low, where.high) == (2.0, 9.0)
    assert where.level == pytest.approx(1 - 2 * sum(math.comb(12, k) for k in range(3)) / 2**12)
    assert across_seeds(np.array([7.0])).level == 0


def test_the_interquartile_mean_weighs_values_by_the_part_inside():
    assert interquartile_mean(np.arange(8.0)) == 3.5
    assert interquartile_mean(np.array([0.0, 100.0, 1.0, 2.0])) == 1.5
    assert interquartile_mean(np.array([0.0, 1.0, 4.0, 9.0, 16.0, 1000.0])) == pytest.approx((0.5 + 4 + 9 + 8) / 3)
    assert interquartile_mean(np.array([5.0])) == 5.0


def test_diverged_runs_are_the_worst_and_are_not_left_out():
    where = across_seeds(np.array([-np.inf, 1.0, 2.0, 3.0, 4.0, 5.0]))
    assert where.low == -np.inf
    assert where.median == 2.5
    assert where.middle == pytest.approx((0.5 * 1 + 2 + 3 + 0.5 * 4) / 3)
    assert interquartile_mean(np.array([-np.inf, -np.inf, 1.0])) == -np.inf
