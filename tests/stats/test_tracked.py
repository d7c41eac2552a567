"""Long runs: beyond the first rows, w alone is tracked row by row, and the other series by their means over blocks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.measurement.reduction.blocks import draws_partial
from bench.stats import Accumulator, Sums, moments, series, summarise, variance
from bench.stats.layout import kept_in_block, kept_values, tail_length
from bench.stats.total import tail_of, variance_interval, whole
from bench.stats.variance import shape

approx = pytest.approx
GROUPS = {"a": 2, "b": 3}
EXACT = np.array([1.0, -2.0, 0.5, 0.0, 3.0])
ROWS = 128


def gradients(blocks, seed=0):
    g = torch.randn(blocks, ROWS, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return g * torch.tensor([1.0, 2.0, 0.3, 1.0, 0.1]).double() + torch.as_tensor(EXACT)


def sums(g, tracked, exact=EXACT, **more):
    """Return the sums of all blocks of g, with every series tracked in the first `tracked` blocks."""
    total = g.shape[0] * ROWS
    accumulator = Accumulator(GROUPS, replicates=total, centre=EXACT, exact=exact)
    for start in range(0, g.shape[0], 8):
        accumulator.add(
            draws_partial(
                lambda i: g[i].split([2, 3], 1),
                range(start, start + 8),
                index=start,
                blocks=[1] * 8,
                groups=GROUPS,
                centre=torch.as_tensor(EXACT),
                exact=None if exact is None else torch.as_tensor(exact),
                replicates=total,
                tracked=tracked * ROWS if start < tracked else 0,
                **more,
            )
        )
    return accumulator.sums()


def test_numbers_that_cover_all_rows_do_not_change():
    g = gradients(96)
    part, whole = sums(g, 64, truncate_at=4.0), sums(g, 96, truncate_at=4.0)
    assert (part.followed, whole.followed) == (64 * ROWS, 96 * ROWS)
    for name in ("coordinate", "shape", "w", "truncated"):
        for power in ("mean", "M2", "M3", "M4"):
            a, b = getattr(getattr(part, name), power), getattr(getattr(whole, name), power)
            if name in ("coordinate", "shape") or power in ("mean", "M2"):
                assert (a is None and b is None) or a == approx(b, rel=1e-12)
    for name in ("w", "truncated"):  # skewness and kurtosis come from the tracked rows
        mine, first = getattr(part, name), getattr(sums(g[:64], 64, truncate_at=4.0), name)
        assert series.skewness(mine) == approx(series.skewness(first), rel=1e-12)
        assert series.kurtosis(mine) == approx(series.kurtosis(first), rel=1e-12)
    assert part.w_top == approx(whole.w_top, rel=1e-12)
    assert (part.martingale_T, part.martingale_terms) == (whole.martingale_T, 95)
    s, t = (summarise(x, exact=EXACT, dtype="float64") for x in (part, whole))
    for name in ("variance", "khat", "p_max", "p_sum", "bias_bound", "mse", "scale"):
        assert getattr(s, name) == approx(getattr(t, name), rel=1e-9), name
    for name in ("variance_low", "variance_high"):
        assert getattr(s, name) - s.variance == approx(getattr(t, name) - t.variance, rel=0.01), name
    for name in ("mse_low", "mse_high", "scale_low", "scale_high"):
        value = getattr(t, name.split("_")[0])
        assert getattr(s, name) - value == approx(getattr(t, name) - value, rel=0.4), name
    assert (s.followed, t.followed) == (64 * ROWS, 96 * ROWS)


def test_means_of_blocks_equal_the_means_of_their_rows():
    g = gradients(72)
    s, x = sums(g, 64), g.numpy() - EXACT
    assert s.block_error == approx((x**2).sum(2).mean(1), rel=1e-9)
    assert s.block_projection == approx((x @ EXACT).mean(1) / (EXACT @ EXACT), rel=1e-9, abs=1e-12)
    own = x - x.mean(1, keepdims=True)
    for name, part in (("a", slice(0, 2)), ("b", slice(2, 5))):
        w = ROWS / (ROWS - 1) * (own[:, :, part] ** 2).sum(2)
        assert s.block_group_w[name] == approx(w.mean(1), rel=1e-9)
    assert sums(g, 72).block_error is None
    assert sums(g, 72).block_group_w == {}


def test_a_stretched_series_has_the_mean_of_all_and_the_spread_between_blocks():
    x = np.random.default_rng(0).exponential(size=(200, 64))
    m = series.stretch(moments(x[:50].ravel()), x.mean(1), np.full(200, 64.0))
    assert m.n == x.size
    assert float(m.mean) == approx(x.mean())
    assert float(m.M2) / (m.n - 1) == approx(64 * x.mean(1).var(ddof=1))
    assert float(series.skewness(m)) == approx(float(series.skewness(moments(x[:50].ravel()))))
    assert variance.shape(m).nu == approx(199)


def test_the_kurtosis_comes_from_the_tracked_part_if_that_leaves_fewer_degrees_of_freedom():
    x = np.random.default_rng(0).exponential(size=(2000, 4)) ** 4
    part = moments(x.ravel())
    m = series.stretch(part, x.mean(1), np.full(2000, 4.0))
    assert float(series.kurtosis(m)) == approx(float(series.kurtosis(part)))
    assert variance.shape(m).nu < 1999


def test_blocks_of_unequal_length_are_weighted_by_it():
    rng = np.random.default_rng(1)
    rows = np.repeat([32.0, 512.0], 400)
    means = rng.normal(size=800) / np.sqrt(rows)
    m = series.stretch(moments(rng.normal(size=1000)), means, rows)
    assert float(series.variance(m)) == approx(1, abs=4.5 * np.sqrt(2 / 799))
    assert float(m.mean) == approx(rows @ means / rows.sum())


@pytest.mark.parametrize("power", [1, 2])
def test_intervals_of_a_stretched_series_cover(power):
    """95 % of 2,000 runs up to 4 standard errors, 1.95 points; a failure rate of 6e-5 for each law, were it exact."""
    rng, covered, true = np.random.default_rng(power), 0, [None, 1.0, 2.0][power]
    for _ in range(2000):
        x = rng.exponential(size=(64, 64)) ** power
        m = series.stretch(moments(x[:8].ravel()), x.mean(1), np.full(64, 64.0))
        interval = variance.mean_interval(float(m.mean), variance.shape(m), confidence=0.95)
        covered += interval.low <= true <= interval.high
    assert abs(covered / 2000 - 0.95) < 0.0195


def test_a_rare_event_that_the_tracked_rows_did_not_see_is_no_bias():
    """In the tracked rows alone, the projection seems to have hardly any noise."""
    g = gradients(512)
    still = torch.as_tensor(EXACT) + 1e-3 * (g - torch.as_tensor(EXACT))
    still[100::40, 3] += 100 * torch.as_tensor(EXACT)
    s = sums(still, 64)
    assert s.projection is not None
    alone = replace(s, block_projection=None, block_error=None, block_group_w={})
    alone = replace(alone, projection=replace(s.projection, mean=np.asarray(s.block_projection.mean())))
    honest = summarise(s, exact=EXACT, dtype="float64")
    deceived = summarise(alone, exact=EXACT, dtype="float64")
    assert deceived.p_projection < 1e-9
    assert honest.p_projection > 1e-4
    assert honest.scale_low < honest.scale < honest.scale_high
    assert honest.scale_high - honest.scale_low > 10 * (deceived.scale_high - deceived.scale_low)


def test_the_bound_of_the_tail_is_held_against_the_mean_of_all_rows():
    """The tail of the error is so heavy that its bound is the upper limit."""
    z = gradients(96) - torch.as_tensor(EXACT)
    wild = torch.as_tensor(EXACT) + z.sign() * (0.6 * z.abs()).exp()
    part = sums(wild, 64)

    def limit(block_error):
        error = whole(part, part.error, block_error)
        tail = tail_of(part.error, part.error_top, error)
        return variance_interval(float(error.mean), shape(error), 0.0, tail, 0.95).high

    assert limit(part.block_error) > 1.5 * summarise(part, exact=EXACT, dtype="float64").mse
    assert limit(2 * part.block_error) == approx(2 * limit(part.block_error), rel=1e-9)


def test_a_shrinkage_that_begins_late_is_seen():
    g = gradients(256)
    g[64:] -= 0.2 * torch.as_tensor(EXACT)
    s = sums(g, 64)
    assert summarise(s, exact=EXACT, dtype="float64").p_projection < 1e-6
    assert summarise(sums(g[:64], 64), exact=EXACT, dtype="float64").p_projection > 1e-4


def test_the_tail_of_tracked_rows_is_as_long_as_they_need():
    """A tail as long as that of the whole run, which is 500 times as long, would seem to have too few values."""
    s = summarise(sums(gradients(4000), 8), exact=EXACT, dtype="float64")
    assert s.khat is not None
    assert "DISCRETE_TAIL" not in s.flags


def test_blocks_hand_over_as_much_of_a_tail_as_the_tracked_rows_need():
    g = gradients(8)
    partial = draws_partial(
        lambda i: g[i].split([2, 3], 1),
        range(8),
        index=0,
        blocks=[1] * 8,
        groups=GROUPS,
        centre=torch.as_tensor(EXACT),
        exact=torch.as_tensor(EXACT),
        replicates=10**7,
        tracked=8 * ROWS,
    )
    each = kept_in_block(tail_length(8 * ROWS) + 1, ROWS, 8 * ROWS)
    assert partial.error_top.size == partial.group_top["a"].size == 8 * each
    assert partial.w_top.size == 8 * kept_in_block(kept_values(10**7), ROWS, 10**7) != 8 * each


def test_without_an_exact_gradient():
    s = sums(gradients(80), 64, exact=None)
    assert (s.block_error, s.block_projection, s.error) == (None, None, None)
    assert sorted(s.block_group_w) == ["a", "b"]
    summary = summarise(s, exact=None, dtype="float64")
    assert summary.groups["a"]["variance"] == approx(5, rel=0.1)


def test_json_round_trip():
    s = sums(gradients(80), 64)
    a, b = (summarise(x, exact=EXACT, dtype="float64").to_json() for x in (s, Sums.from_json(s.to_json())))
    assert a == b
