from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.stats import moments, variance

approx = pytest.approx


@given(t=st.floats(-20, 20), A=st.floats(-2, 2))
def test_hall_and_its_inverse(t, A):
    assert variance.hall_inverse(variance.hall(t, A), A) == approx(t, abs=1e-4, rel=1e-5)


@settings(deadline=None)  # the first example imports scipy
@given(scale=st.floats(1e-8, 1e8), data=st.lists(st.floats(0.01, 100), min_size=8, max_size=40))
def test_intervals_scale_with_the_data(scale, data):
    x = np.array(data)
    one, many = variance.shape(moments(x)), variance.shape(moments(x * scale))
    a = variance.positive_mean_interval(one.mean, one, rho=0.5, confidence=0.95)
    b = variance.positive_mean_interval(many.mean, many, rho=0.5, confidence=0.95)
    assert (b.low, b.high) == (approx(a.low * scale, rel=1e-6, abs=1e-9 * scale), approx(a.high * scale, rel=1e-6))
    assert a.low <= a.value <= a.high


@pytest.mark.parametrize(
    ("V", "khat", "R", "sure", "word"),
    [
        (0.0, 2.0, 10_000, 2.0, "DEGENERATE"),
        (1.0, 1.0, 4000, 1.0, "INFINITE_VARIANCE_SUSPECTED"),
        (1.0, 0.7, 4000, 1.0, "INFINITE_VARIANCE_SUSPECTED"),
        (1.0, 2.0, 4000, 0.99, "HEAVY_TAIL"),
        (1.0, 0.7, 4000, 0.7, "HEAVY_TAIL"),
        (1.0, 2.0, 4000, 0.69, "FEW_FOR_TAIL"),
        (1.0, 2.0, 3999, 2.0, "FEW_FOR_TAIL"),
        (1.0, 0.7, 10, 0.7, "FEW_FOR_TAIL"),
        (1.0, 0.5, 10, 0.0, "TAIL_WARNING"),
        (1.0, 0.69, 4000, 0.69, "TAIL_WARNING"),
        (1.0, 0.49, 999, 0.0, "SMALL_R"),
        (1.0, None, 999, 0.0, "SMALL_R"),
        (1.0, 0.49, 1000, 0.0, "OK"),
        (1.0, None, 1000, 0.0, "OK"),
    ],
)
def test_the_worst_word_comes_first(V, khat, R, sure, word):
    assert variance.status(V, khat, R, sure=sure) == word
    bounded = variance.status(V, khat, R, sure=sure, finite_support=True)
    heavy = ("INFINITE_VARIANCE_SUSPECTED", "HEAVY_TAIL", "FEW_FOR_TAIL")
    assert bounded == ("RARE_LARGE_VALUES" if word in heavy else word)


def test_replicates_that_settle_a_variance():
    assert variance.settling_replicates(30.0, 1024) == 50_000  # 30 (1.96/0.05)^2 is 46,098
    assert variance.settling_replicates(0.1, 1024) == 5_000  # four times 1,024


def test_coverage_of_the_variance_interval_for_a_gaussian():
    rng = np.random.default_rng(0)
    runs, hits = 400, 0
    for x in rng.standard_normal((runs, 200)):
        w = (x - x.mean()) ** 2 * 200 / 199
        interval = variance.positive_mean_interval(x.var(ddof=1), variance.shape(moments(w)), rho=1.0, confidence=0.95)
        hits += interval.low <= 1.0 <= interval.high
    assert hits / runs > 0.95 - 4.5 * sqrt(0.95 * 0.05 / runs)
