import itertools
import math
import re

import numpy as np
import pytest

from bench.report.figures import draw
from bench.report.figures.scaling import slope
from tests.report.figures.drawing import figure, titles
from tests.report.records import moments


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
    assert "gaussian-quadratic:dim=10" in titles(drawn)
    legend = [text.get_text() for text in drawn.axes[0].get_legend().get_texts()]
    assert any(re.fullmatch(r"reparameterization  −1\.00 ± 0\.01", text) for text in legend)
    drawn = draw("variance-dim", table)
    assert titles(drawn) == ["gaussian-quadratic", "bernoulli-quadratic"]
    legend = [text.get_text() for text in drawn.axes[1].get_legend().get_texts()]
    assert any(re.fullmatch(r"rloo:n=2  1\.00 ± 0\.01", text) for text in legend)


def test_no_legend_leaves_the_figure_at_any_resolution():
    label = "score-function:baseline=moving-average"
    for count in (1, 3, 24):
        names = [label, *(f"mine-{i}" for i in range(count - 1))]
        records = [moments(name, f"o:dim={d}", 1.0 * d, dim=d) for d in (1, 10, 100) for name in names]
        drawn = figure("variance-dim", records)
        for dpi in (72, 150):
            drawn.set_dpi(dpi)
            drawn.draw_without_rendering()
            legend = drawn.axes[0].get_legend()
            assert len(legend.get_texts()) == count
            assert legend.get_window_extent().x1 <= drawn.bbox.x1
            assert legend.get_window_extent().y0 >= 0


def test_variance_against_dimension_is_relative_to_the_exact_gradient():
    records = [moments("a", f"o:dim={d}", 3.0 * d * d, dim=d, norm=float(d)) for d in (1, 10, 100)]
    ax = figure("variance-dim", records).axes[0]
    line_drawn = next(drawn for drawn in ax.lines if drawn.get_label().startswith("a "))
    assert list(line_drawn.get_ydata()) == pytest.approx([3.0, 3.0, 3.0])


def test_grids_over_another_parameter_are_panels_of_their_own():
    records = [
        moments("a", f"o:dim={d},target={t}", 1.0 * d, dim=d, norm=1.0)
        for t, d in itertools.product("xy", (1, 10, 100))
    ]
    assert titles(figure("variance-dim", records)) == ["o:target=x", "o:target=y"]


def test_two_points_make_no_line():
    two = [moments("a", f"o:dim={d}", 1.0, dim=d) for d in (1, 10)]
    assert figure("variance-dim", two) is None
    assert figure("variance-n", [moments(f"a:n={n}", "o", 1.0, n=n) for n in (1, 4)]) is None


def test_of_many_lines_in_a_panel_the_first_are_drawn(monkeypatch):
    monkeypatch.setattr("bench.report.figures.scaling.MOST_LINES", 2)
    records = [moments(f"{name}:n={n}", "o", 1 / n, n=n) for name in ("a", "b", "c") for n in (1, 2, 4)]
    drawn = figure("variance-n", records)
    named = [text.get_text().split()[0] for text in drawn.axes[0].get_legend().get_texts()]
    assert named == ["a", "b"]
    assert "The first 2 lines of a panel." in " ".join(drawn.get_suptitle().split())
