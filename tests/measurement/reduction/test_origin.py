"""Pivots and units of the sums."""

import math

import pytest
import torch

from bench.measurement.reduction.origin import FARTHEST, NEAR, Origin, pivot_of
from tests.measurement.reduction.gradients import draw

approx = pytest.approx


def test_a_mean_that_is_far_from_0_has_a_pivot():
    noise = draw(4096, 3, seed=1)
    for away, far in ((0.0, False), (NEAR / 2, False), (NEAR * 2, True)):
        mean = torch.tensor([0.0, away, 0.0]).double()
        (pivot,) = Origin.of([noise + mean]).pivots
        assert (pivot is not None) == far
        if pivot is not None:
            assert pivot.tolist() == approx(mean.tolist(), abs=0.2)
    constant = torch.stack([noise[:, 0], torch.full((4096,), 0.1)], 1)
    assert Origin.of([constant]).pivots[0] is not None  # about anything else it would not have M2 = 0 exactly


def test_one_huge_gradient_does_not_make_a_mean_near():
    g = draw(4096, 1, seed=1) + 1000
    g[17] = 1e9
    assert Origin.of([g]).pivots[0] is not None
    assert Origin.of([g]).spreads == [1.0]


@pytest.mark.parametrize("scale", [1e-12, 1.0, 3e4])
def test_spreads_are_powers_of_two_near_the_total_variance(scale):
    g = draw(4096, 5, seed=1) * scale
    origin = Origin.of([g, g[:, :2]])
    for spread, size in zip(origin.spreads, (5, 2), strict=True):
        assert math.frexp(spread)[0] == 0.5
        assert 0.5 < spread / (size * scale**2) < 2
    assert 0.5 < origin.spread / (7 * scale**2) < 2
    assert Origin([None, None], [4.0, 4.0]).spread == 8


def test_spreads_of_what_has_none_or_is_beyond_all_units():
    g = draw(4096, 1, seed=1)
    sparse = torch.zeros(4096, 1)
    sparse[:10] = 64.0  # 15 of 16 parts are 0
    assert Origin.of([sparse]).spreads == [8.0]
    assert Origin.of([torch.zeros(4096, 1)]).spreads == [1.0]
    assert Origin.of([torch.full((4096, 1), math.nan)]).spreads == [1.0]
    assert Origin.of([g * 1e-60]).spreads == [2.0**-FARTHEST]
    assert Origin.of([g * 1e60]).spreads == [2.0**FARTHEST]


def test_a_pivot_is_exact_where_nothing_varies():
    g = torch.stack([torch.full((100,), 0.7), torch.linspace(5, 6, 100)], 1)
    pivot = pivot_of(g)
    assert pivot[0] == g[0, 0]
    assert pivot[1] == approx(5.5, abs=0.1)
