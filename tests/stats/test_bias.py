from math import sqrt

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bench.stats import bias, moments

approx = pytest.approx

positive = st.floats(1e-6, 1e6)


@given(T=st.floats(-1, 10), A=st.floats(1e-6, 1), C=st.floats(1e-6, 1), z=st.floats(0.1, 4))
def test_both_bounds_solve_their_equation(T, A, C, z):
    assume(A + C * T + (z * C) ** 2 / 4 >= 0)  # T so far below 0 that the equation has no root is no sample of a bias
    wide = 1e9  # ‖δ‖ so large that only the quadratic bound counts
    upper = bias.bias_upper(wide, T, A, C, z) ** 2
    solvable = A + C * T + (z * C / 2) ** 2 >= 0  # else T is impossibly negative, and the root is taken as 0
    if upper > 0 and solvable:
        assert upper - T == approx(z * sqrt(A + C * upper), rel=1e-5, abs=1e-6)
    lower = bias.bias_lower(T, A, C, z) ** 2
    if lower > 0:
        assert T - lower == approx(z * sqrt(A + C * lower), rel=1e-5, abs=1e-6)
    assert lower <= max(upper, 0.0)
    assert T > 0 or lower == 0.0


@given(norm=positive, variance_=positive, R=st.integers(2, 10**6))
def test_a_reference_of_endless_length_is_an_exact_gradient(norm, variance_, R):
    endless = bias.Reference(np.zeros(2), 10**15, variance_, variance_**2)
    assert bias.squared_bias(norm, variance_, R, endless) == approx(bias.squared_bias(norm, variance_, R), abs=1e-8)
    for a, b in zip(bias.noise_terms(1.0, R), bias.noise_terms(1.0, R, endless), strict=True):
        assert b == approx(a, rel=1e-2)
        assert b >= a


@pytest.mark.parametrize(
    ("p", "lower", "upper", "word"),
    [
        (0.01, 0.1, 2.0, "BIASED"),
        (0.01, 0.1, 0.9, "BIASED_WITHIN_TOL"),
        (0.01, 0.0, 0.9, "UNBIASED_WITHIN_TOL"),
        (0.2, 0.1, 0.9, "UNBIASED_WITHIN_TOL"),
        (0.2, 0.0, 1.1, "INCONCLUSIVE"),
        (0.01, 0.0, 1.1, "INCONCLUSIVE"),
    ],
)
def test_verdicts(p, lower, upper, word):
    assert bias.verdict(p_bias=p, alpha=0.05, lower=lower, upper=upper, allowed=1.0) == word


def test_level_of_the_bias_tests():
    rng = np.random.default_rng(1)
    runs = 300
    rejected = 0
    for _ in range(runs):
        x = rng.exponential(size=(256, 5)) - 1
        m = moments(x)
        rejected += bias.max_test(m.mean, m, m, float(m.M2.sum()) / 255) < 0.05
    assert rejected / runs < 0.05 + 4.5 * sqrt(0.05 * 0.95 / runs)


def test_parts_of_the_bias_test():
    assert bias.combine(0.01, 0.5, 0.9, size=3).p_bias == approx(0.03)
    assert bias.combine(0.01, None, None, size=3).p_bias == approx(0.03)
    assert bias.combine(0.01, 1e-9, 1e-9, size=1).p_bias == 0.01
    assert bias.combine(0.9, 0.8, 0.7, size=2).p_bias == 1.0
    assert bias.two_sample_sum_test(0.0, 2.0) == approx(0.3173, abs=1e-4)
    assert bias.two_sample_sum_test(-9.0, 2.0) == 1.0


def test_a_reference_needs_replicates():
    with pytest.raises(ValueError, match="at least 2 replicates"):
        bias.Reference(np.zeros(1), 1, 1.0, 1.0)
