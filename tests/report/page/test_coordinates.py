"""The variances of parameters and coordinates on a page."""

import pytest

from bench.report.page.coordinates import parameters, profiles
from bench.report.prepared import prepared
from tests.report.records import deterministic, heavy, moments


def with_coordinates(record, variances):
    return record | {"sums": record["sums"] | {"coordinate_variances": variances}}


def test_each_parameter_has_its_variance_and_its_share_of_a_coordinate():
    group = {"size": 10, "variance": 4.0, "variance_low": 3.8, "variance_high": 4.2, "status": "OK"}
    tail = {"size": 2, "variance": 4.0, "variance_low": 3.0, "variance_high": 9.0, "status": "HEAVY_TAIL"}
    record = moments("a", "o", 8.0)
    record["summary"]["groups"] = {"mean": group, "scale": tail}
    assert parameters(prepared([record]), [record]) == [
        ("o", "a", "mean", "10", "4.0 ± 0.2", "0.40 ± 0.02"),
        ("o", "a", "scale", "2", "≥ 3.0", "≥ 1.5"),
    ]
    del record["summary"]["groups"]["scale"]
    assert parameters(prepared([record]), [record]) == []


def test_the_coordinates_of_a_gradient_are_drawn_with_their_ranks(monkeypatch):
    records = [deterministic("exact", "o"), with_coordinates(moments("a", "o", 1.0), [20.0 - k for k in range(20)])]
    drawn = profiles(prepared(records), records)
    assert drawn["rows"] == [{"row": 1, "size": 20, "variance": [20.0 - k for k in range(20)]}]
    assert drawn["ranks"] == {20: list(range(1, 21))}
    monkeypatch.setattr("bench.report.page.coordinates.NUMBERS", 8)
    drawn = profiles(prepared(records), records)
    assert drawn["rows"][0]["variance"] == [20, 17, 15, 12, 9, 6, 4, 1]
    assert drawn["ranks"] == {20: [1, 4, 6, 9, 12, 15, 17, 20]}


@pytest.mark.parametrize("make", [deterministic, lambda *names: heavy(*names, 1.0)])
def test_rounding_and_lower_limits_are_not_drawn(make):
    record = with_coordinates(make("a", "o"), [2.0, 1.0])
    assert profiles(prepared([record]), [record]) is None
