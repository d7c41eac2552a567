import functools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import Moments, merge, moments, series
from bench.stats.accumulate import Largest

approx = pytest.approx

values = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30)


def same(a, b, rel):
    scale = float(a.M2) / a.n + 1e-12
    for k, name in ((1, "mean"), (2, "M2"), (3, "M3"), (4, "M4")):
        slack = rel * (scale ** (k / 2) + abs(float(a.mean)) * (k == 1)) * (a.n if k > 1 else 1) * 10
        assert float(getattr(a, name)) == approx(float(getattr(b, name)), rel=rel, abs=slack)


@given(values, values, values)
def test_merging_is_associative(x, y, z):
    a, b, c = moments(x), moments(y), moments(z)
    same(merge(merge(a, b), c), merge(a, merge(b, c)), 1e-12)


@given(values, values)
def test_merging_is_moments_of_all(x, y):
    same(merge(moments(x), moments(y)), moments(x + y), 1e-11)


@given(values, values, st.floats(0.1, 10))
def test_merging_commutes_with_scale(x, y, c):
    scaled = merge(moments(np.array(x) * c), moments(np.array(y) * c))
    m = merge(moments(x), moments(y))
    assert m.M3 is not None
    assert m.M4 is not None
    same(scaled, Moments(m.n, m.mean * c, m.M2 * c**2, m.M3 * c**3, m.M4 * c**4), 1e-11)


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3), min_size=1, max_size=6))
def test_pooled_blocks_are_merged_blocks(blocks):
    parts = [moments(x) for x in blocks]
    powers = [np.array([getattr(m, name) for m in parts]) for name in ("M2", "M3", "M4")]
    together = series.pooled(3, np.array([m.mean for m in parts]), powers)
    same(together, functools.reduce(merge, parts), 1e-11)
    assert series.pooled(3, np.array([m.mean for m in parts]), powers[:1]).M3 is None


def test_rounding_gives_no_negative_power():
    s1, n = 1 + 2**-50, 4
    _, M2, _, M4 = series.from_powers(n, np.array([0.0, 2 * s1, s1**2 * (1 - 1e-15), 0.5, 0.25 - 1e-9]))
    assert M2 == 0 <= M4


def test_merging_with_nothing():
    zero, some = Moments(0, np.zeros(()), np.zeros(())), moments([1.0, 2.0])
    assert merge(zero, some) is some
    assert merge(some, zero) is some


def test_higher_moments_are_lost_together():
    a, b = moments([1.0, 2.0, 4.0]), moments([3.0, 9.0])
    short = Moments(b.n, b.mean, b.M2)
    assert merge(a, short).M3 is None
    assert float(merge(a, short).M2) == approx(float(merge(a, b).M2))
    with pytest.raises(ValueError, match="third moment"):
        series.skewness(short)
    with pytest.raises(ValueError, match="fourth moment"):
        series.kurtosis(short)


@pytest.mark.parametrize("m", [moments([1.0, 1 / 3, 0.1]), moments(np.arange(12.0).reshape(4, 3) / 7)])
def test_json_round_trip(m):
    data = series.to_json(m)
    back = series.from_json(json.loads(json.dumps(data, default=lambda a: a.tolist())))
    for name in ("n", "mean", "M2", "M3", "M4"):
        assert np.array_equal(getattr(m, name), getattr(back, name))


def test_error_sentences():
    with pytest.raises(ValueError, match=r"at least one value .* shape \(0,\)"):
        moments([])
    with pytest.raises(ValueError, match="whole number"):
        series.from_json({"n": 1.5, "mean": 0.0, "M2": 0.0})
    with pytest.raises(ValueError, match="mean and M2"):
        series.from_json({"n": 1})


@pytest.mark.parametrize("count", [1, 7, 500])
def test_the_largest_values_of_many_blocks_are_the_largest_of_all(count):
    """There are enough blocks that the values are sorted several times, with ties."""
    rng = np.random.default_rng(0)
    blocks = [-np.sort(-np.round(rng.exponential(size=300), 2)) for _ in range(40)]
    largest = Largest(count)
    for block in blocks:
        largest.add(block)
    np.testing.assert_array_equal(largest.values(), -np.sort(-np.concatenate(blocks))[:count])
