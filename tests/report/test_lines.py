"""Exponents of power laws: exact ones are found, and rows that differ in something else make no sweep."""

import pytest

from bench.report.lines import exponents
from bench.report.prepared import prepared
from tests.report.records import moments


def found(records):
    return {(each.what, each.parameter): each for each in exponents(prepared(records))}


def test_the_exponent_of_an_exact_power_law_is_found():
    each = found([moments(f"rloo:n={n}", "o", 8.0 / n**1.5, n=n) for n in (2, 4, 8)])["rloo on o", "n"]
    assert (each.values, each.exponent) == (3, pytest.approx(-1.5))
    assert each.low < -1.5 < each.high


def test_a_parameter_of_the_objective_is_swept_for_each_estimator():
    records = [moments(e, f"o:dim={d}", v * d**2, dim=d) for e, v in (("a", 1.0), ("b", 3.0)) for d in (1, 10, 100)]
    assert {key: each.exponent for key, each in found(records).items()} == pytest.approx(
        {("a on o", "dim"): 2.0, ("b on o", "dim"): 2.0}
    )


def test_two_values_are_too_few_and_other_parameters_make_another_sweep():
    two = [moments(f"rloo:n={n}", "o", 1.0 / n, n=n) for n in (2, 4)]
    mixed = [moments(f"a:k={k},t={t}", "o", 1.0 / k) for k in (1, 2, 4) for t in (1, 3)]
    assert found(two) == {}
    assert {key for key, _ in found(mixed)} == {"a:t=1 on o", "a:t=3 on o"}
