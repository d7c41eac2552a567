from math import log

import numpy as np
import pytest
from scipy.stats import binom

from bench.stats.median import order_statistic_interval
from tests.tolerances import FAILURE_RATE


@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 11, 12, 13, 20, 39, 40, 41, 200, 1001])
def test_order_statistics(n):
    k = max(1, binom.ppf(0.025, n, 0.5))
    values = np.random.default_rng(0).permutation(np.arange(1.0, n + 1))
    assert order_statistic_interval(values) == ((n + 1) / 2, float(k), float(n + 1 - k))
    if n >= 6:
        assert 1 - 2 * binom.cdf(k - 1, n, 0.5) >= 0.95


def test_the_interval_covers_the_median_as_often_as_the_binomial_says():
    trials, size = 4000, 40
    draws = np.random.default_rng(1).exponential(size=(trials, size))  # skewed, as times are
    limits = np.array([order_statistic_interval(row)[1:] for row in draws])
    hits = int(np.sum((limits[:, 0] <= log(2)) & (log(2) <= limits[:, 1])))
    k = int(binom.ppf(0.025, size, 0.5))
    coverage = 1 - 2 * binom.cdf(k - 1, size, 0.5)
    assert binom.ppf(FAILURE_RATE / 2, trials, coverage) <= hits <= binom.isf(FAILURE_RATE / 2, trials, coverage)
