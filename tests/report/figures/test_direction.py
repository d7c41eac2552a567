import pytest

from bench.report.figures import marks
from tests.report.figures.drawing import figure, titles
from tests.report.records import moments

TURNED = {"scale": 0.8, "scale_low": 0.7, "scale_high": 0.9, "angle": 6.0, "angle_low": 4.0, "angle_high": 9.0}
SCALED = TURNED | {"angle": 0.0, "angle_low": 0.0, "angle_high": 0.5}


def biased(name, objective, found):
    record = moments(name, objective, 1.0, bias=0.5, unbiased=False)
    record["summary"] |= found
    return record


def bars(ax):
    return [(*map(tuple, line.get_xydata()), line.get_color()) for line in ax.lines if len(line.get_xdata()) == 2]


def test_scale_and_angle_have_their_intervals_and_a_turn_that_was_not_found_is_grey():
    drawn = figure("direction", [biased("a", "o", TURNED), biased("b", "o", SCALED), moments("c", "o", 1.0)])
    (ax,) = drawn.axes
    drawn_bars = {(start, end): colour for start, end, colour in bars(ax)}
    assert ((0.7, 6.0), (0.9, 6.0)) in drawn_bars
    assert drawn_bars[(0.8, 4.0), (0.8, 9.0)] not in (marks.UNFOUND, "#888888")
    assert drawn_bars[(0.8, 0.0), (0.8, 0.5)] == marks.UNFOUND
    markers = [line.get_xydata()[0] for line in ax.lines if line.get_marker() not in ("None", None)]
    assert sorted(map(tuple, markers)) == [(0.8, 0.0), (0.8, 6.0)], "the unbiased estimator has none"
    assert ax.get_xlim()[0] < 0.7
    assert ax.get_xlim()[1] > 1
    assert ax.get_ylim()[0] == 0
    assert ax.get_ylim()[1] > 9


@pytest.mark.parametrize(("scale", "kind"), [(20.0, "log"), (-20.0, "linear"), (1.5, "linear")])
def test_positive_scales_far_apart_are_on_a_logarithmic_axis(scale, kind):
    drawn = figure("direction", [biased("a", "o", TURNED | dict.fromkeys(("scale", "scale_low", "scale_high"), scale))])
    (ax,) = drawn.axes
    assert ax.get_xscale() == kind
    low, high = ax.get_xlim()
    assert low < min(1, scale) < max(1, scale) < high


def test_there_is_a_panel_where_an_angle_of_a_biased_gradient_is_known():
    one_coordinate = biased("a", "line", {"scale": 0.5, "angle": None})
    early = biased("a", "early", {})
    assert figure("direction", [one_coordinate, early, moments("a", "o", 1.0)]) is None
    assert titles(figure("direction", [one_coordinate, early, biased("a", "o", TURNED)])) == ["o"]
