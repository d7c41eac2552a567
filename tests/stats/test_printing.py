from dataclasses import replace
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import printing
from bench.stats.printing import format_bound, format_estimate, format_interval, format_number, format_rank
from bench.stats.summary import Summary

SUMMARY = Summary(
    replicates=10_000,
    size=2,
    blocks=40,
    confidence=0.95,
    tolerance=0.01,
    dtype="float64",
    variance=2.0,
    variance_low=1.96,
    variance_high=2.04,
    se_log=0.01,
    cv2=1.0,
    skewness=0.0,
    kurtosis=3.0,
    nu=9999.0,
    rho=1.0,
    trace_square=4.0,
    khat=0.1,
    status="OK",
    mean_norm=1.0,
    relative_bias_bound=0.00321,
    bias_per_sd_bound=0.0123,
)


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        ((0.0312, 0.0308, 0.0316), "0.0312 ± 0.0004"),
        ((0.03124567, 0.0308, 0.0316), "0.0312 ± 0.0004"),
        ((0.0312, 0.0300, 0.0333), "0.0312 [0.0300, 0.0333]"),
        ((1234.0, 1200.0, 1270.0), "1230 ± 40"),
        ((99.97, 98.57, 101.37), "100.0 ± 1.4"),
        ((1.2345e7, 1.23e7, 1.24e7), "(1.234 ± 0.005)e7"),
        ((1.2346e-9, 1.23e-9, 1.24e-9), "(1.235 ± 0.005)e-9"),
        ((-0.2, -0.9, 0.6), "-0.2 ± 0.8"),
        ((5.0, 2.97, None), "5.0 [2.9, ∞)"),
        ((1234.5, 1100.0, float("inf")), "1230 [1100, ∞)"),
        ((9.5, 0.0, None), "9.5 [0, ∞)"),
        ((5.0, 5.0, None), "5.000 [5.0, ∞)"),
        ((None, 2.97, None), "≥ 2.9"),
        ((0.7, 0.7, 0.7), "0.7000"),
        ((0.7, 0.7 - 1e-15, 0.7 + 1e-15), "0.7000"),
        ((0.5, None, None), "0.500"),
        ((None, None, None), "–"),
    ],
)
def test_estimates(estimate, text):
    assert format_estimate(*estimate) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (12.3456, "12.3"),
        (123456.0, "123000"),
        (999999.9, "1.00e6"),
        (0.00012, "0.000120"),
        (1.2e-5, "1.20e-5"),
        (-3e9, "-3.00e9"),
        (None, "–"),
        (float("inf"), "∞"),
        (float("-inf"), "−∞"),
    ],
)
def test_numbers(value, text):
    assert format_number(value) == text


def test_intervals_are_rounded_outwards():
    assert format_interval(0.03004, 0.03331) == "[0.0300, 0.0334]"
    assert format_interval(2.97, None) == "[2.9, ∞)"
    assert format_interval(None, None) == "–"
    assert format_interval(1.0, 1.0) == "[1.000, 1.000]"
    assert format_interval(1.69 - 1e-15, 1.69 + 1e-15) == "[1.690, 1.690]"


@given(st.floats(1e-12, 1e12))
def test_a_printed_bound_stays_a_bound(x):
    assert float(format_bound(x, floor)) <= x * (1 + 1e-8)
    assert float(format_bound(x, ceil)) >= x * (1 - 1e-8)
    assert float(format_bound(x, ceil)) <= 1.11 * x


EVERY = st.floats(allow_nan=False, allow_infinity=False)


@given(EVERY, EVERY, EVERY)
def test_numbers_of_every_size_are_printed(value, low, high):
    low, high = sorted((low, high))
    for text in (format_number(value), format_estimate(value, low, high), format_interval(low, high)):
        assert "inf" not in text
        assert "nan" not in text


def test_numbers_too_large_or_small_to_be_rounded_keep_all_digits_of_their_limits():
    assert format_number(1.7e308) == "1.70e308"
    assert format_estimate(1e308, 1217441.9, 1228539.2) == "1.00e308 [1.217e6, 1.229e6]"
    assert format_interval(1e-320, 1e-319) == f"[{1e-320:.16e}, {1e-319:.16e}]"


@given(st.floats(1e-10, 1e10), st.floats(1e-4, 1.0))
def test_an_estimate_has_no_more_digits_than_its_interval(value, relative):
    text = format_estimate(value, value * (1 - relative), value * (1 + relative))
    shown, _, half = text.strip("()").partition(" ± ")
    assert len(half.split(")")[0].replace(".", "").strip("0")) <= 2
    assert len(shown.partition(".")[2]) == len(half.split(")")[0].partition(".")[2])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "2.00 ± 0.04"),
        ({"status": "HEAVY_TAIL", "khat": 0.8}, "≥ 1.9"),
        ({"status": "HEAVY_TAIL", "khat": 0.8, "variance_high": None}, "≥ 1.9"),
        ({"status": "INFINITE_VARIANCE_SUSPECTED", "variance_high": None}, "≥ 1.9"),
        ({"status": "DEGENERATE", "unseen": 3e-4}, "0 (P(other) ≤ 0.00030)"),
    ],
)
def test_a_variance_is_printed_as_its_status_allows(changes, text):
    assert printing.format_variance(replace(SUMMARY, **changes)) == text


def test_both_bias_bounds():
    assert printing.format_bias(SUMMARY) == "rel. bias ≤ 0.33 % (95 %), bias/sd ≤ 1.3 %"
    assert printing.format_bias(replace(SUMMARY, relative_bias_bound=None)).startswith("rel. bias n/a")


def test_ranks():
    assert [format_rank(r) for r in ((2, 4), (1, 1), None)] == ["2–4", "1", "n/a"]
