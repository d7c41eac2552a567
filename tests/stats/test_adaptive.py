"""Adaptive runs: looks, targets of precision, planned replicates."""

from math import inf, sqrt

import numpy as np
import pytest

from bench.stats import PrecisionTarget, adaptive
from tests.stats.cells import noise, summary


@pytest.mark.parametrize("wrong", [0, -0.1, 1, 5])
def test_a_precision_is_a_fraction(wrong):
    with pytest.raises(ValueError, match=r"precision is a fraction, such as 0\.05"):
        PrecisionTarget(wrong)


def test_looks():
    assert adaptive.look_schedule(10_000) == [1000, 2000, 4000, 8000, 10_000]
    assert adaptive.look_schedule(500) == [500]
    assert adaptive.spend(0.05, 5) == pytest.approx(0.01)
    with pytest.raises(ValueError, match="looks need at least one replicate"):
        adaptive.look_schedule(0)
    with pytest.raises(ValueError, match="at least one look"):
        adaptive.spend(0.05, 0)


def test_a_planned_run_reaches_its_target():
    pilot = summary(noise(1024, 2))
    target = adaptive.half_width(pilot) / 2
    assert not adaptive.is_precise(pilot, target)
    replicates = adaptive.planned_replicates(pilot, target)
    assert replicates == pytest.approx(1.2 * 4 * 1024, rel=0.1)
    assert adaptive.is_precise(summary(noise(replicates // 64 * 64, 2, 1)), target)
    assert adaptive.half_width(summary(np.zeros((64, 1)))) == inf
    with pytest.raises(ValueError, match="above 0"):
        adaptive.planned_replicates(pilot, 0.0)


def test_a_confidence_sequence_is_wider_than_an_interval():
    assert all(adaptive.confidence_sequence_radius(1.0, n) > 1.96 / sqrt(n) for n in (10, 1000, 10**6))
