"""The best of many candidates: losses from variances and costs, and statements that hold at their error rate."""

from dataclasses import replace
from math import exp, inf, log

import numpy as np
import pytest
from scipy.stats import binom

from bench.stats.quantiles import normal_quantile
from bench.stats.selection import (
    ERROR_RATE,
    Loss,
    combined,
    is_tiny,
    least_work,
    level_of_limits,
    loss_of,
    still_possible,
)
from bench.stats.summary import Summary
from tests.tolerances import FAILURE_RATE

SUMMARY = Summary(
    replicates=1000,
    size=1,
    blocks=1,
    confidence=0.95,
    tolerance=0.01,
    dtype="float32",
    variance=4.0,
    variance_low=3.0,
    variance_high=5.0,
    se_log=0.1,
    cv2=1.0,
    skewness=0.0,
    kurtosis=3.0,
    nu=100.0,
    rho=1.0,
    trace_square=16.0,
    khat=0.1,
    status="OK",
    mean_norm=1.0,
    bias_squared=2.0,
    bias_low=1.0,
    bias_bound=3.0,
    float_floor=1e-12,
)


def test_the_loss_of_an_unbiased_estimator_is_its_variance_times_its_cost():
    found = loss_of(SUMMARY, work=8, budget=16, unbiased=True)
    assert (found.value, found.low, found.high) == pytest.approx((log(32), log(24), log(40)))


def test_the_loss_of_a_biased_estimator_weighs_the_squared_bias_by_the_budget():
    found = loss_of(SUMMARY, work=8, budget=16, unbiased=False)
    assert (found.value, found.low, found.high) == pytest.approx((log(16 * 2 + 32), log(16 * 1 + 24), log(16 * 9 + 40)))


def test_a_bias_that_cannot_be_known_has_an_infinite_loss():
    unknown = replace(SUMMARY, bias_squared=None, bias_bound=None, bias_low=None)
    assert loss_of(unknown, 8, 16, unbiased=False).value == inf


def test_a_variance_without_upper_limit_leaves_the_loss_open():
    few = replace(SUMMARY, status="FEW_FOR_TAIL", variance_high=None)
    heavy = replace(SUMMARY, status="HEAVY_TAIL", variance=None, variance_high=None)
    assert loss_of(few, 1, 1, unbiased=True) == Loss(log(4), log(3), inf)
    assert loss_of(few, 1, 1, unbiased=True).is_open
    assert loss_of(heavy, 1, 1, unbiased=True) == Loss(inf, log(3), inf)


def test_equal_estimates_are_free_of_noise_only_if_they_are_right():
    tiny = {"variance": 9e-10, "variance_low": 8e-10, "variance_high": 1e-9}
    none, unknown = Loss(-inf, -inf, -inf), Loss(inf, -inf, inf)
    right = replace(SUMMARY, **tiny, exact_norm=2.0, bias_norm=1e-3)
    off = replace(SUMMARY, **tiny, exact_norm=2.0, bias_norm=3e-3)
    zero = replace(SUMMARY, variance=0.0, variance_low=0.0, variance_high=None, mean_norm=0.0)
    moved = replace(zero, mean_norm=1.0)
    assert is_tiny(right)
    assert not is_tiny(replace(SUMMARY, variance=2e-9))
    assert loss_of(right, 8, 16, unbiased=True) == none
    assert loss_of(off, 8, 16, unbiased=True) == unknown  # so far all were equal, and another value has to come
    assert loss_of(zero, 8, 16, unbiased=True) == unknown
    assert loss_of(zero, 8, 16, unbiased=True, deterministic=True) == none
    assert loss_of(moved, 8, 16, unbiased=True) == none
    assert loss_of(replace(right, exact_norm=0.0, bias_norm=0.0), 8, 16, unbiased=True) == unknown
    assert loss_of(off, 8, 16, unbiased=False).value == pytest.approx(log(16 * 2), abs=1e-6)


def test_losses_at_several_points_are_combined_in_units_of_a_typical_one():
    found = combined([Loss(1.0, 0.7, 1.3), Loss(13.0, 12.6, 13.4)], [1.0, 12.0])
    assert found.value == pytest.approx(log((exp(0) + exp(1)) / 2))
    assert found.low == pytest.approx(log((exp(-0.3) + exp(0.6)) / 2))
    assert found.high == pytest.approx(log((exp(0.3) + exp(1.4)) / 2))
    assert combined([Loss(1.0, 0.7, 1.3)], [5.0]) == Loss(1.0, 0.7, 1.3)
    none = Loss(-inf, -inf, -inf)
    assert combined([none, Loss(1.0, 0.7, 1.3)], [0.0, 1.0]).value == pytest.approx(log(0.5))
    assert combined([none, none], [0.0, 0.0]).value == -inf
    assert combined([Loss(inf, 0.0, inf), Loss(1.0, 0.7, 1.3)], [0.0, 0.0]).value == inf


def test_candidates_whose_lower_limit_is_at_most_the_bar_stay_possible_in_order():
    losses = {"a": Loss(3, 2, 4), "b": Loss(1, 0, 2), "c": Loss(5, 2.1, 8), "d": Loss(2, 1.5, 2.5)}
    assert still_possible(losses, 2.0) == ["b", "d", "a"]


def test_the_least_work_compares_the_lowest_limit_with_the_winners_upper_one():
    losses = {"winner": Loss(1, 0.9, 1.1), "near": Loss(1.2, 1.0, 1.4), "far": Loss(3, 2, 4)}
    assert least_work(losses, "winner") == pytest.approx(exp(-0.1))
    assert least_work({"winner": Loss(1, 0.9, 1.1), "far": Loss(3, 2, 4)}, "winner") == 1
    assert least_work({"winner": Loss(1, 0.9, 1.1)}, "winner") == 1
    assert least_work({"winner": Loss(-inf, -inf, -inf), "far": Loss(3, 2, 4)}, "winner") == 1
    assert least_work({"winner": Loss(1, 0.9, inf), "far": Loss(3, 2, 4)}, "winner") == 0
    assert least_work({"winner": Loss(1, 0.9, 1.1), "sure": Loss(-inf, -inf, -inf)}, "winner") == 0


def test_the_best_is_among_the_possible_ones_at_the_stated_rate():
    """With 40 equal candidates, the worst case, the best is missed as rarely as stated."""
    rounds, races, count, sd = 4, 4000, 40, 0.1
    z = normal_quantile((1 + level_of_limits(rounds)) / 2)
    rng, missed, broken = np.random.default_rng(0), 0, 0
    for _ in range(races):
        estimates, spreads, running = np.zeros(count), np.zeros(count), np.arange(count)
        for number in range(rounds - 1):
            spreads[running] = sd / 2 ** (number / 2)
            estimates[running] = spreads[running] * rng.standard_normal(running.size)
            running = running[np.argsort(estimates[running])][: max(1, running.size // 2)]
        winner = int(running[0])
        estimates[winner], spreads[winner] = sd / 3 * rng.standard_normal(), sd / 3
        losses = {
            str(i): Loss(estimates[i], estimates[i] - z * spreads[i], estimates[i] + z * spreads[i])
            for i in range(count)
        }
        # All losses are 0, so candidate 0 is one best candidate that was named before anything was measured.
        missed += "0" not in still_possible(losses, losses[str(winner)].high)
        broken += losses["0"].low > 0 or losses[str(winner)].high < 0
    assert missed <= broken <= binom.isf(FAILURE_RATE, races, ERROR_RATE)


def test_the_level_divides_half_of_the_error_rate_among_the_rounds():
    assert 1 - level_of_limits(5) == pytest.approx(ERROR_RATE / 5)  # of a two-sided interval: half of it for each side
