import pytest

from bench.report.figures import marks
from tests.report.figures.drawing import figure, titles
from tests.report.records import moments


def test_a_bias_that_was_not_found_has_no_marker():
    records = [moments("a", "o", 1.0), moments("b", "o", 1.0, bias=0.5, unbiased=False)]
    ax = figure("bias-variance", records).axes[0]
    assert not [text for text in ax.texts if text.arrow_patch is not None]
    bound = records[0]["summary"]["bias_bound"] ** 2
    (bar,) = [line for line in ax.lines if line.get_color() == marks.UNFOUND]
    assert bar.get_xydata().tolist() == [[1.0, pytest.approx(0, abs=1e-30)], [1.0, pytest.approx(bound)]]
    tick = next(line for line in ax.lines if max(line.get_ydata()) == 0.04)
    assert list(tick.get_xdata()) == [1.0, 1.0]
    assert min(tick.get_ydata()) == 0
    markers = [line for line in ax.lines if line.get_marker() not in ("None", "")]
    assert len(markers) == 1, "only the bias that was found has a marker"
    assert ax.get_ylim()[0] > bound, "bounds do not stretch the axis"
    assert ax.get_xlim()[0] < 1.0 < ax.get_xlim()[1]


def test_only_objectives_with_a_bias_have_a_panel():
    unbiased = [moments("a", "o", 1.0), moments("a", "p", 1.0)]
    assert figure("bias-variance", unbiased) is None
    drawn = figure("bias-variance", [*unbiased, moments("b", "p", 1.0, bias=0.5, unbiased=False)])
    assert titles(drawn) == ["p"]
