import numpy as np
import pytest

from bench.stats.over_objectives import over_objectives
from tests.report.figures.drawing import figure
from tests.report.records import deterministic, moments

WORK = np.array([[1.0, 4.0, 2.0, np.nan], [2.0, 1.0, 2.0, 3.0], [8.0, 8.0, np.nan, 6.0]])
FACTORS = np.array([1.0, 2.0, 4.0])


def summary(se=0.0, work=WORK, draws=200):
    return over_objectives(np.log(work), np.full(work.shape, se), FACTORS, np.arange(len(work)), draws)


def test_the_values_are_those_worked_out_by_hand():
    found = summary()
    assert found.efficiency[0] == pytest.approx(
        [(1 + 1 / 4 + 1) / 3, (1 / 2 + 1 + 1 + 1) / 4, (1 / 8 + 1 / 8 + 1 / 2) / 3]
    )
    assert found.profile[0] == pytest.approx(np.array([[2, 2, 3], [3, 4, 4], [0, 1, 1]]) / 4)
    assert found.improvement[0] == pytest.approx([(1 / 2 + 1) / 2, (1 / 2 + 1) / 2, 0.0])


def test_the_intervals_have_both_levels():
    found = summary()
    assert (found.efficiency[1] < found.efficiency[0]).all(), "objectives are drawn"
    alike = np.tile([[1.0], [1.1]], 30)
    assert np.ptp(summary(0.0, alike).improvement[:, 0]) == 0, "objectives that agree say nothing new"
    noisy = summary(0.3, alike).improvement[:, 0]
    assert noisy[1] < 0.8 < noisy[2] + 0.2, "and measurements are drawn"
    assert noisy[1] < 1 == noisy[0]


def test_intervals_over_more_objectives_are_narrower():
    rng = np.random.default_rng(0)
    widths = [np.ptp(summary(0.1, np.exp(rng.normal(size=(3, k)))).efficiency[1:], axis=0).mean() for k in (5, 80)]
    assert widths[1] < 0.5 * widths[0]


def test_the_picture_has_a_row_for_each_unbiased_estimator_on_three_objectives():
    records = [moments(e, o, v) for o in "pqr" for e, v in (("a", 1.0), ("b", 2.0))]
    records += [moments("biased", o, 0.1, bias=0.5, unbiased=False) for o in "pqr"]
    records += [deterministic("exact", "p"), moments("rare", "p", 1.0)]
    profile, mean, better = figure("efficiency", records).axes
    assert [text.get_text() for text in mean.get_yticklabels()] == ["a (3 of 3)", "b (3 of 3)"]
    values = [line.get_xdata()[0] for line in mean.lines if line.get_marker() != "None"]
    assert values == pytest.approx([1.0, 0.5], rel=0.1)
    assert [line.get_ydata()[-1] for line in profile.lines] == [1.0, 1.0]
    assert [line.get_xdata()[0] for line in better.lines if line.get_marker() not in ("None", "")] == pytest.approx(
        [1, 0]
    )


def test_two_objectives_make_no_picture():
    assert figure("efficiency", [moments(e, o, 1.0) for o in "pq" for e in "ab"]) is None
