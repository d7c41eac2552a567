import itertools

import pytest

from bench.report.figures import TRAINING, plotted
from bench.report.figures.panels import thinned
from bench.report.prepared import prepared
from tests.report.figures.drawing import figure, titles
from tests.report.records import moments, study
from tests.report.training_records import run


def test_many_objectives_are_cut_by_a_rule_in_the_title(monkeypatch):
    monkeypatch.setattr("bench.report.figures.panels.MOST_PANELS", 2)
    monkeypatch.setattr("bench.report.figures.panels.FEW_PANELS", 2)
    drawn = figure("variance-cost", [moments("a", f"o{i}", 1.0) for i in range(4)] + [moments("b", "o3", 1.0)])
    assert titles(drawn) == ["o0", "o3"]
    assert "The 2 of 4 objectives" in drawn.get_suptitle().replace("\n", " ")


def test_of_many_estimators_the_best_are_drawn(monkeypatch):
    monkeypatch.setattr("bench.report.figures.panels.MOST_RUNS", 2)
    table = prepared([moments(name, "o", v) for name, v in (("a", 4.0), ("b", 1.0), ("c", 2.0), ("d", 3.0))])
    kept, note = thinned(table)
    assert list(kept["estimator"]) == ["b", "c"]
    assert note == " Of each objective, the 2 estimators with the lowest variance × cost."
    assert thinned(kept)[1] == ""
    drawn = figure("variance-cost", [moments(name, "o", v) for name, v in (("a", 4.0), ("b", 1.0), ("c", 2.0))])
    assert "the 2 estimators with the lowest" in " ".join(drawn.get_suptitle().split())


@pytest.fixture(scope="module")
def records():
    return [*study(), *(run(name, [0.0, 1.0, 2.0, 3.0], variance=[1.0] * 4) for name in ("a", "b:tag=" + 90 * "L"))]


@pytest.mark.parametrize("width", [3.25, 6.75])
@pytest.mark.parametrize(
    "name",
    ["heatmap", "efficiency", "bias-variance", "variance-cost", "variance-n", "variance-dim", *TRAINING[:2]],
)
def test_figures_for_print_have_their_width_and_are_whole_under_the_settings_of_others(records, name, width):
    drawn = plotted(name, records, width=width, fixed=False)
    assert drawn.get_figwidth() == width
    assert drawn.get_suptitle() == ""
    drawn.draw_without_rendering()
    box = drawn.get_tightbbox()
    assert min(box.x0, box.y0) >= 0
    assert box.x1 <= width
    assert box.y1 <= drawn.get_figheight()
    for legend, ax in itertools.product(drawn.legends, drawn.axes):
        if ax.get_xlabel():
            assert not legend.get_window_extent().overlaps(ax.xaxis.label.get_window_extent()), ax.get_xlabel()
