import itertools

import numpy as np
import pandas as pd

from bench.report.figures.variance_cost import draw_front, front
from tests.report.figures.drawing import figure
from tests.report.records import deterministic, heavy, moments


def test_nothing_beats_a_point_of_the_front():
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


def test_a_variance_of_zero_is_drawn_on_the_lower_edge():
    ax = figure("variance-cost", [deterministic("enumeration", "o", f_evals=8), moments("a", "o", 2.0)]).axes[0]
    edge = [drawn for drawn in ax.lines if drawn.get_transform() == ax.get_xaxis_transform()]
    assert [(list(drawn.get_xdata()), list(drawn.get_ydata())) for drawn in edge] == [([8], [0])]


def test_the_front_has_the_corners_that_are_drawn():
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    ax.set(xlim=(0.5, 10), ylim=(0.1, 100))
    corners = draw_front(ax, pd.DataFrame({"price": [1.0, 4.0, 2.0], "variance": [8.0, 1.0, 20.0]}))
    assert corners[1:] == [(1, 100), (1, 100), (1, 8), (4, 8), (4, 1), (10, 1), (10, 1)]
    assert ax.lines[0].get_xydata().tolist() == [[1, 100], [1, 8], [4, 1], [10, 1]]
