import itertools
import math
import re

import numpy as np
import pytest

from bench.report.figures import draw, marks, names
from bench.report.lines import slope
from bench.report.study import prepared
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


def swept(key, values, **facts):
    """An estimator on one objective at several values of a field, whose variance and bias are powers of it."""
    records = [moments(f"mine:{key}={v}", "o", v**-2.0, bias=0.1 * v, unbiased=False, **facts) for v in values]
    for record, v in zip(records, values, strict=True):
        record["estimator_params"] = {key: v}
    return records


def test_any_swept_field_has_its_figures_of_variance_and_bias_with_slopes():
    records = [*swept("heat", (1.0, 2.0, 4.0)), moments("other", "o", 1.0)]
    assert {"variance-heat", "bias-heat"} < set(names(prepared(records)))
    ax = figure("variance-heat", records).axes[0]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["mine  −2.00 ± 0.02"]
    assert ax.get_xlabel() == "heat of the estimator"
    ax = figure("bias-heat", records).axes[0]
    (line,) = [line for line in ax.lines if line.get_label().startswith("mine  1.0")]
    assert list(line.get_xdata()) == [1, 2, 4]
    assert list(line.get_ydata()) == pytest.approx([0.1, 0.2, 0.4], rel=0.01)


def test_a_field_that_is_called_like_a_figure_keeps_that_figure():
    records = [r for key in ("cost", "heat") for r in swept(key, (1.0, 2.0, 4.0))]
    for record in swept("heat", (1.0, 2.0, 4.0)):
        record |= {"run": f"x{len(records)}", "objective_params": record["estimator_params"], "estimator_params": {}}
        records.append(record)
    assert {"variance-estimator-cost", "variance-heat", "variance-objective-heat"} <= set(names(prepared(records)))


def test_fields_of_objectives_are_swept_relative_to_the_gradient():
    records = [moments("a", f"o:power={p}", 5.0 * p**3, norm=float(p)) for p in (1, 2, 4)]
    ax = figure("variance-power", records).axes[0]
    assert ax.get_title(loc="left") == "o"
    (text,) = ax.get_legend().get_texts()
    assert text.get_text().split()[1] == "1.00"


def test_a_field_with_values_below_zero_has_a_straight_axis_and_no_slope():
    ax = figure("variance-heat", swept_at([-1.0, 0.0, 1.0])).axes[0]
    assert ax.get_xscale() == "linear"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["mine"]


def swept_at(values):
    records = swept("heat", (1.0, 2.0, 4.0))
    for record, v in zip(records, values, strict=True):
        record["estimator"], record["estimator_params"] = f"mine:heat={v}", {"heat": v}
    return records


def test_a_bias_that_was_not_found_is_a_tick_and_a_bar_and_no_point_of_the_line():
    records = [*swept("heat", (1.0, 2.0, 4.0)), *(moments(f"none:heat={v}", "o", 1.0) for v in (1, 2, 4))]
    records[1] = records[1] | moments("mine:heat=2.0", "o", 0.25) | {"estimator_params": {"heat": 2.0}}
    ax = figure("bias-heat", records).axes[0]
    (bar,) = [line for line in ax.lines if line.get_color() == marks.UNFOUND]
    assert list(bar.get_xdata()) == [2, 2]
    assert bar.get_ydata()[1] == pytest.approx(records[1]["summary"]["bias_bound"])
    (line,) = [line for line in ax.lines if line.get_label() == "mine"]
    assert list(line.get_xdata()) == [1, 4]


def test_variants_of_an_estimator_differ():
    records = [moments(f"a:heat={h}", f"o:dim={d}", 1.0 * d * h, dim=d) for d in (1, 10, 100) for h in (1, 2)]
    ax = figure("variance-dim", records).axes[0]
    lines = [line for line in ax.lines if line.get_label().startswith("a:")]
    assert len({line.get_marker() for line in lines}) == 2
    assert len({line.get_color() for line in lines}) == 1


def test_a_large_study_has_figures_of_n_and_dim_alone(monkeypatch):
    records = [moments(f"gumbel-softmax:temperature={t}", "o", 1.0 / t) for t in (1, 2, 4)]
    assert "variance-temperature" in names(prepared(records))
    monkeypatch.setattr("bench.report.lines.MOST_CELLS", 2)
    assert "variance-temperature" not in names(prepared(records))
    assert "variance-n" in names(prepared(records))
