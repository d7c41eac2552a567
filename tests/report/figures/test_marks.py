import pytest

from bench.report.figures.marks import apart


def test_markers_that_would_cover_each_other_stand_side_by_side():
    assert apart([(1.0, 1.0), (10.0, 1.0), (10.0, 1000.0)]) == pytest.approx([1.0, 10.0, 10.0])
    first, second, third, edge = apart([(2.0, 5.0), (2.0, 5.0), (2.0, 5.1), (2.0, 0.0)])
    assert first == pytest.approx(2.0)
    assert first < second < third
    assert edge == 2.0
