import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest

from bench.report.figures import NAMES, draw
from bench.report.figures.heatmap import MOST_COLUMNS
from bench.report.figures.notes import Point, annotate
from bench.report.figures.panels import decades
from bench.report.figures.scaling import slope
from bench.report.figures.variance_cost import draw_front, front
from bench.report.study import prepared
from tests.report.records import deterministic, heavy, line, many, moments, study


@pytest.fixture(scope="module")
def table():
    return prepared(study())


def figure(name, records):
    return draw(name, prepared(records))


def words(drawn):
    return [text.get_text() for ax in drawn.axes for text in ax.texts]


def titles(drawn):
    return [ax.get_title(loc="left") for ax in drawn.axes]


def test_the_front_is_what_nothing_beats():
    rng = np.random.default_rng(0)
    for _ in range(300):
        n = int(rng.integers(1, 12))
        points = rng.integers(0, 6, size=(n, 2)).astype(float)  # a small grid, so that ties are common
        kept = front(points[:, 0].tolist(), points[:, 1].tolist())
        beaten = {
            i
            for i, j in itertools.product(range(n), repeat=2)
            if (points[j] <= points[i]).all() and (points[j] < points[i]).any()
        }
        assert {tuple(points[i]) for i in kept} == {tuple(points[i]) for i in range(n) if i not in beaten}
        assert all(points[a][0] < points[b][0] and points[a][1] > points[b][1] for a, b in itertools.pairwise(kept))


def test_the_drawn_front_leaves_out_biased_and_heavy_runs():
    records = [
        moments("a", "o", 8.0, f_evals=1, verdict="INCONCLUSIVE"),
        moments("b", "o", 2.0, f_evals=4, verdict="INCONCLUSIVE"),
        moments("c", "o", 9.0, f_evals=2, verdict="INCONCLUSIVE"),
        moments("biased", "o", 0.01, f_evals=1, bias=0.5, unbiased=False),
        heavy("heavy", "o", 0.01, f_evals=1),
    ]
    ax = figure("variance-cost", records).axes[0]
    steps = next(drawn for drawn in ax.lines if drawn.get_drawstyle() == "steps-post")
    assert list(steps.get_xdata())[:-1] == [1, 1, 4]
    assert list(steps.get_ydata())[1:] == [8, 2, 2]


def test_slope_recovers_a_planted_power_exactly():
    x = np.array([1, 2, 4, 8, 16])
    b, se = slope(x, 3.0 * x**-1.25, [0.1, 0.02, 0.1, 0.3, 0.05])
    assert b == pytest.approx(-1.25, abs=1e-12)
    assert 0 < se < 0.1


def test_slope_error_covers_the_given_noise():
    rng = np.random.default_rng(1)
    x, se_log = np.array([1.0, 2, 4, 8]), np.array([0.05, 0.1, 0.02, 0.2])
    fits = np.array([slope(x, np.exp(-np.log(x) + se_log * rng.standard_normal(4)), se_log) for _ in range(4000)])
    z = (fits[:, 0] + 1) / fits[:, 1]
    assert np.std(fits[:, 0]) < np.mean(fits[:, 1])  # enlarged for misfit, so never too small on average
    assert np.mean(np.abs(z) < 1.96) > 0.95 - 4 * math.sqrt(0.95 * 0.05 / 4000)


def test_slope_error_grows_with_scatter_about_the_line():
    y = np.array([1.0, 9.0, 0.1, 5.0])
    assert slope([1, 2, 4, 8], y, [0.01] * 4)[1] > 10 * slope([1, 2, 4, 8], [1, 2, 4, 8], [0.01] * 4)[1]


def test_slopes_stand_in_the_legend(table):
    drawn = draw("variance-n", table)
    assert "gaussian-quadratic" in titles(drawn)
    legend = [text.get_text() for text in drawn.axes[0].get_legend().get_texts()]
    assert any(re.fullmatch(r"reparameterization  −1\.00 ± 0\.01", text) for text in legend)
    drawn = draw("variance-dim", table)
    assert titles(drawn) == ["gaussian-quadratic", "bernoulli-quadratic"]
    legend = [text.get_text() for text in drawn.axes[1].get_legend().get_texts()]
    assert any(re.fullmatch(r"rloo:n=2  1\.00 ± 0\.01", text) for text in legend)


def test_no_legend_leaves_the_figure_at_any_resolution():
    label = "score-function:baseline=moving-average"
    drawn = figure("variance-dim", [moments(label, f"o:dim={d}", 1.0 * d, dim=d) for d in (1, 10)])
    for dpi in (72, 150):
        drawn.set_dpi(dpi)
        drawn.draw_without_rendering()
        assert drawn.axes[0].get_legend().get_window_extent().x1 <= drawn.bbox.x1


def test_variance_against_dimension_is_relative_to_the_exact_gradient():
    records = [moments("a", f"o:dim={d}", 3.0 * d * d, dim=d, norm=float(d)) for d in (1, 10)]
    ax = figure("variance-dim", records).axes[0]
    line_drawn = next(drawn for drawn in ax.lines if drawn.get_label().startswith("a "))
    assert list(line_drawn.get_ydata()) == pytest.approx([3.0, 3.0])


def test_grids_over_another_parameter_are_panels_of_their_own():
    records = [
        moments("a", f"o:dim={d},target={t}", 1.0 * d, dim=d, norm=1.0) for t, d in itertools.product("xy", (1, 10))
    ]
    assert titles(figure("variance-dim", records)) == ["o:target=x", "o:target=y"]


def test_a_heavy_tail_is_an_arrow_at_its_lower_limit():
    records = [heavy("wild", "o", 310.0), moments("tame", "o", 2.0)]
    ax = figure("variance-cost", records).axes[0]
    low = records[0]["summary"]["variance_low"]
    arrows = [text for text in ax.texts if text.arrow_patch is not None]
    assert [text.xy[1] for text in arrows] == [low]
    assert not any(max(drawn.get_ydata()) > low * 1.001 for drawn in ax.lines if drawn.get_color() == "#0173b2")
    drawn_at = [y for drawn in ax.lines if drawn.get_marker() != "None" for y in drawn.get_ydata()]
    assert low in drawn_at
    assert 310.0 not in drawn_at


def test_a_heavy_tail_without_any_limit_is_an_arrow_from_the_edge():
    records = [heavy("wild", "o", 310.0), moments("tame", "o", 2.0), moments("low", "o", 1.0, f_evals=3)]
    records[0]["summary"]["variance_low"] = 0.0
    for name, along in (("variance-cost", 1), ("bias-variance", 0)):
        ax = figure(name, records).axes[0]
        edge = ax.get_xaxis_transform() if along else ax.get_yaxis_transform()
        assert sum(drawn.get_transform() == edge for drawn in ax.lines) == 1
        assert [text.xy[along] for text in ax.texts if text.arrow_patch and text.xycoords == edge] == [0]
    texts = [text for text in words(figure("heatmap", records)) if text]
    assert sorted(texts) == ["1", "2.0", "≥"]


def test_what_varies_by_rounding_alone_is_drawn_as_no_variance():
    record = moments("control", "o", 6e-14, verdict="UNBIASED_WITHIN_TOL")
    record["summary"]["flags"] = ["AT_FLOAT_RESOLUTION"]
    records = [record, moments("a", "o", 2.0), moments("b", "o", 6.0)]
    ax = figure("variance-cost", records).axes[0]
    assert ax.get_ylim()[0] > 0.1
    assert sum(drawn.get_transform() == ax.get_xaxis_transform() for drawn in ax.lines) == 1
    assert {"0", "1", "3.0"} <= set(words(figure("heatmap", records)))


def test_a_variance_of_zero_is_drawn_on_the_lower_edge():
    ax = figure("variance-cost", [deterministic("enumeration", "o", f_evals=8), moments("a", "o", 2.0)]).axes[0]
    edge = [drawn for drawn in ax.lines if drawn.get_transform() == ax.get_xaxis_transform()]
    assert [(list(drawn.get_xdata()), list(drawn.get_ydata())) for drawn in edge] == [([8], [0])]


def test_biased_estimates_are_hollow(table):
    for name in ("bias-variance", "variance-cost"):
        ax = next(ax for ax in draw(name, table).axes if ax.get_title(loc="left") == "bernoulli-quadratic")
        hollow = {d.get_color() for d in ax.lines if d.get_markerfacecolor() == "white" and d.get_marker() != "None"}
        assert hollow == {"#d55e00"}


def test_a_bias_that_was_not_found_is_an_upper_bound():
    records = [moments("a", "o", 1.0), moments("b", "o", 1.0, bias=0.5, unbiased=False)]
    ax = figure("bias-variance", records).axes[0]
    arrows = [text.xy for text in ax.texts if text.arrow_patch is not None]
    assert arrows == [(1.0, pytest.approx(records[0]["summary"]["bias_bound"] ** 2))]


def test_heatmap_says_what_each_cell_is(table):
    drawn = draw("heatmap", table)
    ax = drawn.axes[0]
    columns = [text.get_text() for text in ax.get_xticklabels()]
    rows = [text.get_text() for text in ax.get_yticklabels()]
    cells = {}
    for text in ax.texts:
        x, y = text.get_position()
        cells[rows[int(y)], columns[int(x)]] = text.get_text()
    assert cells["reparameterization:n=16", "gaussian-quadratic"] == "1"
    assert cells["reparameterization", "gaussian-quadratic"] == "16"
    assert cells["score-function", "gaussian-exponential"].startswith("≥ ")
    assert cells["gumbel-softmax", "gaussian-quadratic"] == "–"
    assert cells["measure-valued", "categorical-polynomial"] == "×"
    assert cells["enumeration", "bernoulli-quadratic"] == "0"
    assert ("rloo:n=2", "categorical-polynomial") not in cells
    assert cells["gumbel-softmax", "categorical-polynomial"] == "0.095"  # over the best unbiased, not over the exact


def test_heatmap_without_an_unbiased_estimator_says_so():
    records = [moments("a", "o", v, bias=0.5, unbiased=False) for v in (2.0,)] + [moments("b", "p", 1.0)]
    drawn = figure("heatmap", records)
    assert [text.get_text() for text in drawn.axes[0].get_xticklabels()] == ["o †", "p"]
    assert "† no unbiased one" in drawn.get_suptitle()


def test_heatmap_of_a_long_grid_shows_its_ends():
    records = [moments("a", f"{o}:dim={d}", 1.0, dim=d) for o in ("o", "p") for d in range(1, MOST_COLUMNS + 1)]
    drawn = figure("heatmap", records)
    shown = [text.get_text() for text in drawn.axes[0].get_xticklabels()]
    assert shown == ["o:dim=1", f"o:dim={MOST_COLUMNS}", "p:dim=1", f"p:dim={MOST_COLUMNS}"]
    assert f"Of {2 * MOST_COLUMNS} objectives" in drawn.get_suptitle().replace("\n", " ")


def test_many_objectives_are_cut_by_a_rule_in_the_title(monkeypatch):
    monkeypatch.setattr("bench.report.figures.panels.MOST_PANELS", 2)
    drawn = figure("variance-cost", [moments("a", f"o{i}", 1.0) for i in range(4)] + [moments("b", "o3", 1.0)])
    assert titles(drawn) == ["o0", "o3"]
    assert "The 2 of 4 objectives" in drawn.get_suptitle().replace("\n", " ")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "records",
    [
        [],
        [line("a", "o", outcome="failed", reason="It broke."), line("b", "o", outcome="skipped", reason="No.")],
        [deterministic("enumeration", "o")],
        [heavy("wild", "o", 3.0, infinite=True)],
        [moments("a", "o", 1.0, norm=None, verdict="NO_REFERENCE", high=None)],
        [moments("a", "o", 1.0, norm=0.0, verdict="INCONCLUSIVE")],
        [moments("my_file.py::$A$", "o:p=$x$", 1.0, n=None)],
    ],
    ids=["empty", "failures", "exact", "infinite", "no-reference", "zero-gradient", "dollars"],
)
def test_awkward_studies_draw_or_decline(name, records):
    drawn = figure(name, records)
    if drawn is not None:
        assert any(ax.lines or ax.collections for ax in drawn.axes)
    else:
        assert not records or name != "heatmap" or records[0]["outcome"] == "failed"


def test_texts_beside_points_never_overlap():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

    drawn = Figure(figsize=(4, 4))
    canvas = FigureCanvasAgg(drawn)
    ax = drawn.subplots()
    rng = np.random.default_rng(0)
    points = [Point(*xy, f"n={i}", "black") for i, xy in enumerate(rng.random((40, 2)).tolist())]
    steps = [(0.1, 1.0), (0.1, 0.7), (0.5, 0.7), (0.5, 0.3), (1.0, 0.3)]
    annotate(drawn, {ax: points}, {ax: steps})
    renderer = canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in ax.texts]
    assert len(boxes) > 20
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    for ends in itertools.pairwise(ax.transData.transform(steps)):
        assert not any(box.overlaps(Bbox([ends[0], ends[1]])) for box in boxes)


def test_the_front_has_the_corners_that_are_drawn():
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    ax.set(xlim=(0.5, 10), ylim=(0.1, 100))
    corners = draw_front(ax, pd.DataFrame({"price": [1.0, 4.0, 2.0], "variance": [8.0, 1.0, 20.0]}))
    assert corners[1:] == [(1, 100), (1, 100), (1, 8), (4, 8), (4, 1), (10, 1), (10, 1)]
    assert ax.lines[0].get_xydata().tolist() == [[1, 100], [1, 8], [4, 1], [10, 1]]


def test_ticks_are_round_and_few():
    for low, high in [(-3.2, -1.9), (0.0, 1.3), (-7.0, 9.0), (2.1, 5.9)]:
        values = decades(low, high)
        assert 1 <= len(values) <= 7
        assert all(10**low <= v * 1.0000001 and v <= 10**high * 1.0000001 for v in values)
        assert all(f"{v:.0e}"[0] in "125" for v in values)


def test_a_wide_study_keeps_every_row_and_its_panels_apart():
    records = many(22, 6)
    drawn = figure("heatmap", records)
    assert len(drawn.axes[0].get_yticklabels()) == 22
    boxes = [ax.get_position() for ax in figure("variance-cost", records).axes]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
