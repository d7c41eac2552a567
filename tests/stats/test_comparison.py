import math
from dataclasses import replace
from math import exp, log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import comparison, summarise
from bench.stats.comparison import paired_log_ratio, rank_intervals, work_normalised
from bench.stats.median import order_statistic_interval
from tests.stats.cells import noise, sums_of

approx = pytest.approx


def blocks(seed, rows):
    """Sums of w over blocks of two estimators that share most of their noise, V_a = 2 V_b = 2."""
    rng = np.random.default_rng(seed)
    shared = [rng.standard_normal(int(n)) ** 2 for n in rows]
    own = [1 + 0.1 * rng.standard_normal(int(n)) for n in rows]
    a = np.array([2 * s.sum() for s in shared])
    b = np.array([(s * o).sum() for s, o in zip(shared, own, strict=True)])
    return a, b


def test_common_noise_cancels():
    rows = np.array([64.0] * 32 + [128.0] * 32)
    a, b = blocks(0, rows)
    r = paired_log_ratio(rows, a, b, a.sum() / rows.sum(), b.sum() / rows.sum())
    assert r.low <= log(2) <= r.high
    independent = sqrt(2 * 2 / rows.sum())
    assert r.se < independent / 5
    assert r.se == approx(0.1 * sqrt(3) / sqrt(rows.sum()), rel=0.3)  # sd of 0.1 w ε with E w² = 3


def test_the_paired_interval_covers():
    rows = np.array([64.0] * 16 + [128.0] * 8)
    runs, hits = 300, 0
    for seed in range(runs):
        a, b = blocks(seed, rows)
        r = paired_log_ratio(rows, a, b, a.sum() / rows.sum(), b.sum() / rows.sum())
        hits += r.low <= log(2) <= r.high
    assert hits / runs > 0.95 - 4.5 * sqrt(0.95 * 0.05 / runs)


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_scales_move_the_ratio_and_nothing_else(ca, cb):
    rows = np.full(16, 64.0)
    a, b = blocks(1, rows)
    V_a, V_b = a.sum() / rows.sum(), b.sum() / rows.sum()
    r, s = paired_log_ratio(rows, a, b, V_a, V_b), paired_log_ratio(rows, ca * a, cb * b, ca * V_a, cb * V_b)
    assert s.value - r.value == approx(log(ca / cb), abs=1e-9)
    assert (s.se, s.nu) == (approx(r.se, rel=1e-6), approx(r.nu, rel=1e-6))
    back = paired_log_ratio(rows, b, a, V_b, V_a)
    assert (back.value, back.low, back.high) == (approx(-r.value), approx(-r.high), approx(-r.low))


def test_an_estimator_against_itself():
    rows = np.full(8, 64.0)
    a, _ = blocks(2, rows)
    r = paired_log_ratio(rows, a, a, 2.0, 2.0)
    assert (r.value, r.se, r.p, r.ratio) == (0.0, 0.0, 1.0, (1.0, 1.0, 1.0))


def test_error_sentences():
    x = np.full(8, 1.0)
    with pytest.raises(ValueError, match="same blocks"):
        paired_log_ratio(x, x, x[:7], 1.0, 1.0)
    with pytest.raises(ValueError, match=r"at least 8 blocks \(got 7\)"):
        paired_log_ratio(x[:7], x[:7], x[:7], 1.0, 1.0)
    with pytest.raises(ValueError, match="both above 0"):
        paired_log_ratio(x, x, x, 0.0, 1.0)
    with pytest.raises(ValueError, match="above 0"):
        work_normalised((0.0, 0.0, 1.0), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="at least one value"):
        order_statistic_interval(np.array([]))


def test_mover():
    E, low, high = work_normalised((2.0, 1.8, 2.3), (3.0, 3.0, 3.0))  # a cost known exactly
    assert (E, low, high) == (6.0, approx(5.4), approx(6.9))
    E, low, high = work_normalised((2.0, 2.0 / exp(0.3), 2.0 * exp(0.3)), (3.0, 3.0 / exp(0.4), 3.0 * exp(0.4)))
    assert (low, high) == (approx(6 / exp(0.5)), approx(6 * exp(0.5)))  # not 0.3 + 0.4
    assert work_normalised((2.0, 1.0, None), (3.0, 2.0, 4.0))[2] is None
    assert work_normalised((2.0, 0.0, 3.0), (3.0, 2.0, 4.0))[1] == 0.0


def test_ranks():
    values = np.array([0.0, 0.1, 5.0, 9.0])
    ratios = values[:, None] - values[None, :]
    p = np.where(np.abs(ratios) > 1, 1e-9, 0.5)
    every = np.ones(4, dtype=bool)
    assert rank_intervals([(ratios[None], p[None])], ranked=every) == [[(1, 2), (1, 2), (3, 3), (4, 4)]]
    parts = [(ratios[None, :3], p[None, :3]), (ratios[None, 3:], p[None, 3:])]
    assert rank_intervals(parts, ranked=every)[0][2:] == [(3, 3), (4, 4)]
    excluded = np.array([True, False, True, True])
    assert rank_intervals([(ratios[None], p[None])], ranked=excluded) == [[(1, 1), None, (2, 2), (3, 3)]]
    barely = np.where(np.abs(ratios) > 1, 0.02, 0.5)  # below 0.05, not below 0.05/6
    assert rank_intervals([(ratios[None], barely[None])], ranked=every) == [[(1, 4)] * 4]


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=8))
def test_ranks_hold_the_order_of_the_estimates(values):
    v = np.array(values)
    ratios = v[:, None] - v[None, :]
    p = np.exp(-8 * np.abs(ratios))
    for i, rank in enumerate(rank_intervals([(ratios[None], p[None])], ranked=np.ones(len(v), dtype=bool))[0]):
        assert rank is not None
        assert 1 <= rank[0] <= 1 + int((v <= v[i]).sum()) - 1
        assert rank[0] <= rank[1] <= len(v)


def test_refused_statuses():
    assert {"HEAVY_TAIL", "INFINITE_VARIANCE_SUSPECTED", "DEGENERATE"} == comparison.REFUSED


def test_comparisons_from_sums():
    g = noise(1024, 2)
    runs = [
        comparison.ComparedRun(summarise(s, exact=None, dtype="float64"), s.block_rows, s.block_w)
        for s in (sums_of(g), sums_of(2 * g + 0.1 * noise(1024, 2, 1)))
    ]
    paired = comparison.compare(runs[1], runs[0], common=True)
    alone = comparison.compare(runs[1], runs[0], common=False)
    assert paired.low < math.log(4.0) < paired.high
    assert paired.se < alone.se / 3
    assert ranks_of(runs, common=True) == [(1, 1), (2, 2)]


@pytest.mark.parametrize(("factor", "differ"), [(1 + 2e-7, False), (1 - 2e-7, False), (1 + 2e-6, True)])
def test_rounding_is_no_difference(factor, differ):
    runs = [compared(noise(1024, 2), "OK"), compared(factor * noise(1024, 2), "OK")]
    found = comparison.compare(runs[1], runs[0], common=True)
    assert found.value == approx(2 * log(factor), rel=1e-3)
    assert (found.low <= 0 <= found.high, found.p == 1) == (not differ, not differ)
    assert found.high - found.low == approx(2 * comparison.ROUNDING, rel=1e-3)
    assert ranks_of(runs, common=True) == ([(1, 1), (2, 2)] if differ else [(1, 2), (1, 2)])


def ranks_of(runs, *, common):
    return comparison.ranks([runs], [common])[0]


@pytest.mark.parametrize("common", [True, False])
def test_rows_of_comparisons_are_the_comparisons_of_each_pair(monkeypatch, common):
    """Runs with equal blocks, with others, with too few of them, with an open variance, with a refused one, twice."""
    g = noise(1024, 2)
    runs = [compared(g * scale, status) for scale, status in ((1, "OK"), (2, "FEW_FOR_TAIL"), (3, "HEAVY_TAIL"))]
    runs += [compared(g[:512] + 0.1, "OK"), compared(g[:256] * 2, "OK"), runs[0]]
    runs += [replace(runs[0], block_rows=runs[0].block_rows[:7], block_w=runs[0].block_w[:7])]
    monkeypatch.setattr(comparison, "NUMBERS_AT_ONCE", 2 * len(runs) * max(run.block_rows.size for run in runs))
    comparisons, ranked = comparison.log_ratio_rows([runs], common=common)
    pieces = [(ratios[0], p[0]) for ratios, p in comparisons]
    assert [len(p) for _, p in pieces] == [2, 2, 2, 1]
    ratios, p = (np.concatenate(part) for part in zip(*pieces, strict=True))
    assert list(ranked) == [True, True, False, True, True, True, True]
    for i, a in enumerate(runs):
        for j, b in enumerate(runs):
            if i != j and ranked[i] and ranked[j]:
                wanted = comparison.compare(a, b, common=common)
                assert (ratios[i, j], p[i, j]) == (approx(wanted.value, abs=1e-12), approx(wanted.p, rel=1e-9))
            else:
                assert (ratios[i, j], p[i, j]) == (0, 1)


def compared(g, status):
    sums = sums_of(g)
    s = summarise(sums, exact=None, dtype="float64")
    return comparison.ComparedRun(replace(s, status=status, variance_high=None), sums.block_rows, sums.block_w)


@pytest.mark.parametrize("common", [True, False])
@pytest.mark.parametrize("status", ["FEW_FOR_TAIL", "RARE_LARGE_VALUES"])
def test_an_open_variance_may_be_called_higher_but_never_lower(status, common):
    g = noise(1024, 2)
    large, small, plain = compared(3 * g, status), compared(g / 3, status), compared(g, "OK")
    above = comparison.compare(large, plain, common=common)
    assert above.p < 1e-6
    assert (above.low > 0, above.high) == (True, math.inf)
    back = comparison.compare(plain, large, common=common)
    assert (back.low, back.p) == (-math.inf, above.p)
    assert back.ratio[1] == 0
    below = comparison.compare(small, plain, common=common)
    assert (below.value < 0, below.high, below.p) == (True, math.inf, 1.0)
    assert comparison.compare(large, large, common=common).p == 1
    assert ranks_of([small, plain, large], common=common) == [(1, 3), (1, 2), (2, 3)]


def test_a_ratio_beyond_the_range_of_floats_is_infinite():
    huge = comparison.LogRatio(value=800.0, se=1.0, nu=9.0, low=1.0, high=900.0, p=0.0, paired=False)
    assert huge.ratio == (math.inf, exp(1.0), math.inf)


def ratio(value, se, nu=20.0, **changes):
    return replace(comparison.LogRatio(value, se, nu, -1.0, 1.0, 0.5, paired=True), **changes)


def test_pooled_ratios_follow_the_formulas():
    ratios, weights = [ratio(0.1, 0.3, 10.0), ratio(0.5, 0.1, 40.0)], [3_000, 1_000]
    found = comparison.pool(ratios, weights)
    squares = np.array([(0.75 * 0.3) ** 2, (0.25 * 0.1) ** 2])
    assert found.value == approx(0.2)
    assert found.se == approx(sqrt(squares.sum()))
    assert found.nu == approx(squares.sum() ** 2 / (squares**2 / [10, 40]).sum())
    assert found.paired
    assert not comparison.pool([*ratios, ratio(0.1, 0.2, paired=False)], [1, 1, 1]).paired


def test_equal_ratios_of_k_seeds_have_the_kth_part_of_the_variance():
    one, many = ratio(0.3, 0.2), comparison.pool([ratio(0.3, 0.2)] * 4, [7] * 4)
    assert (many.value, many.se, many.nu) == (approx(one.value), approx(one.se / 2), approx(4 * one.nu))
    same = comparison.pool([ratio(0.0, 0.0)] * 2, [1, 1])
    assert (same.value, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)


def test_a_limit_that_one_seed_lacks_is_lacking_in_the_pool():
    found = comparison.pool([ratio(-1.0, 0.1, high=math.inf), ratio(-1.0, 0.1)], [1, 1])
    assert (found.high, found.p) == (math.inf, 1.0)
    found = comparison.pool([ratio(-1.0, 0.1, low=-math.inf), ratio(-1.0, 0.1)], [1, 1])
    assert found.low == -math.inf
    assert found.p < 1e-6


def test_ranks_of_groups_at_once_are_those_of_each_group(monkeypatch):
    g = noise(1024, 2)
    runs = {scale: compared(scale * g + noise(1024, 2, 1) / 20, "OK") for scale in (1.0, 1.02, 1.1, 2.0)}
    heavy = compared(g, "HEAVY_TAIL")
    groups = [[runs[1.0], runs[1.1]], [runs[2.0], runs[1.0]], [runs[1.0], heavy], [runs[1.02], runs[1.0]], [runs[1.0]]]
    groups, common = groups * 2, [True] * len(groups) + [False] * len(groups)
    alone = [comparison.ranks([group], [each])[0] for group, each in zip(groups, common, strict=True)]
    assert alone[:3] == [[(1, 1), (2, 2)], [(2, 2), (1, 1)], [(1, 1), None]]
    assert comparison.ranks(groups, common) == alone
    monkeypatch.setattr(comparison, "FEW_NUMBERS", 1)  # every group by itself
    assert comparison.ranks(groups, common) == alone
