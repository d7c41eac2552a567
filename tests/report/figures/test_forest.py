import pytest

from bench.report.figures.forest import OPEN, Ratio, forest


def test_a_ratio_has_its_interval_and_its_side_and_the_margin_is_shaded():
    rows = [Ratio("a", 1.5, 1.2, 1.9, True), Ratio("b", 0.5, 0.4, 0.6, True), Ratio("c", 1.1, 0.8, None, False)]
    ax = forest(rows, "B / A", margin=0.25).axes[0]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b", "c"]
    markers = [line for line in ax.lines if line.get_marker() not in ("None", None)]
    assert [line.get_marker() for line in markers] == [">", "<", "o"]
    assert [line.get_markerfacecolor() == "white" for line in markers] == [False, False, True]
    assert markers[2].get_color() == OPEN
    ends = {tuple(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) == 2}
    assert {(1.2, 1.5), (1.5, 1.9), (0.4, 0.5), (0.5, 0.6), (0.8, 1.1)} < ends
    assert [text.xy[0] for text in ax.texts if text.arrow_patch is not None] == [1.1]
    (band,) = ax.patches
    box = band.get_window_extent().transformed(ax.transData.inverted())
    assert (box.x0, box.x1) == pytest.approx((0.8, 1.25))
    assert ax.get_xlim()[0] < 0.4 < 1.9 < ax.get_xlim()[1]


def test_of_many_ratios_the_farthest_from_1_are_drawn(monkeypatch):
    assert forest([], "B / A") is None
    monkeypatch.setattr("bench.report.figures.forest.MOST_ROWS", 2)
    drawn = forest([Ratio(str(v), v, v / 1.1, v * 1.1, True) for v in (0.2, 1.1, 3.0)], "B / A")
    assert [text.get_text() for text in drawn.axes[0].get_yticklabels()] == ["0.2", "3.0"]
    assert "The 2 of 3 ratios" in drawn.get_suptitle()
