"""Adaptive runs: looks, targets of precision, planned replicates."""

import pytest

from bench.stats import PrecisionTarget


@pytest.mark.parametrize("wrong", [0, -0.1, 1, 5])
def test_a_precision_is_a_fraction(wrong):
    with pytest.raises(ValueError, match=r"precision is a fraction, such as 0\.05"):
        PrecisionTarget(wrong)
