import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from bench.report.figures import draw, plotted, styled
from bench.report.figures.heatmap import MOST_COLUMNS
from bench.report.prepared import prepared
from tests.report.figures.drawing import figure
from tests.report.records import line, moments


def rows(drawn):
    return [text.get_text() for text in drawn.axes[0].get_yticklabels()]


def test_heatmap_says_what_each_cell_is(table):
    drawn = draw("heatmap", table)
    ax = drawn.axes[0]
    columns = [text.get_text() for text in ax.get_xticklabels()]
    rows = [text.get_text() for text in ax.get_yticklabels()]
    cells = {}
    for text in ax.texts:
        x, y = text.get_position()
        cells[rows[int(y)], columns[int(x)]] = text.get_text()
    assert cells["reparameterization:n=16", "gaussian-quadratic:dim=10"] == "1"
    assert cells["reparameterization", "gaussian-quadratic:dim=10"] == "16"
    assert cells["score-function", "gaussian-exponential"].startswith("≥ ")
    assert cells["gumbel-softmax", "gaussian-quadratic:dim=10"] == "–"
    assert cells["measure-valued", "categorical-polynomial"] == "×"
    assert cells["enumeration", "bernoulli-quadratic:dim=20"] == "0"
    assert ("rloo:n=2", "categorical-polynomial") not in cells
    assert cells["gumbel-softmax", "categorical-polynomial"] == "0.095"  # over the best unbiased, not over the exact


def test_heatmap_without_an_unbiased_estimator_says_so():
    records = [moments("a", "o", v, bias=0.5, unbiased=False) for v in (2.0,)] + [moments("b", "p", 1.0)]
    drawn = figure("heatmap", records)
    assert [text.get_text() for text in drawn.axes[0].get_xticklabels()] == ["o †", "p"]
    assert "† no unbiased one" in " ".join(drawn.get_suptitle().split())


def test_heatmap_of_a_long_grid_shows_its_ends():
    records = [moments("a", f"{o}:dim={d}", 1.0, dim=d) for o in ("o", "p") for d in range(1, MOST_COLUMNS + 1)]
    drawn = figure("heatmap", records)
    shown = [text.get_text() for text in drawn.axes[0].get_xticklabels()]
    assert shown == ["o:dim=1", f"o:dim={MOST_COLUMNS}", "p:dim=1", f"p:dim={MOST_COLUMNS}"]
    assert f"Of {2 * MOST_COLUMNS} objectives" in drawn.get_suptitle().replace("\n", " ")


def test_a_heatmap_needs_two_objectives_and_leaves_out_what_fits_none():
    records = [moments("a", "o", 1.0), moments("b", "o", 2.0)]
    assert figure("heatmap", records) is None
    records += [moments("a", "p", 1.0), *(line("c", o, outcome="skipped", reason="It does not fit.") for o in "op")]
    assert [text.get_text() for text in figure("heatmap", records).axes[0].get_yticklabels()] == ["a", "b"]


def test_rows_are_sorted_by_their_numbers_or_as_they_are_named():
    labels = [f"mine:inner={i}" for i in (16, 2, 4)]
    records = [moments(label, o, 1.0) for label in labels for o in "op"]
    assert rows(figure("heatmap", records)) == ["mine:inner=2", "mine:inner=4", "mine:inner=16"]
    named = draw("heatmap", prepared(records), called={labels[1]: "two", labels[0]: "sixteen"})
    assert rows(named) == ["two", "sixteen", "mine:inner=4"]


def test_a_very_long_label_keeps_its_ends():
    records = [moments(f"mine:tag={tag * 200}", o, 1.0) for tag in "LM" for o in "op"]
    first, second = (row.replace("\n", "") for row in rows(figure("heatmap", records)))
    assert first.startswith("mine:tag=LLL")
    assert second.endswith("MMM")
    assert len(first) <= 64


@pytest.mark.parametrize("name", ["heatmap", "variance-cost"])
def test_names_of_200_letters_leave_no_figure_and_cross_no_legend(name):
    records = [moments(f"{e}{'x' * 200}", f"{o}{'x' * 200}", 1.0 + i) for i, e in enumerate("abc") for o in "op"]
    drawn = plotted(name, records)
    with styled(None):
        canvas = FigureCanvasAgg(drawn)
        canvas.draw()
        (legend,) = drawn.legends
        texts = [text for ax in drawn.axes for text in (*ax.get_xticklabels(), *ax.get_yticklabels())]
        boxes = [text.get_window_extent() for text in texts if text.get_text()]
        assert not any(box.overlaps(legend.get_window_extent()) for box in boxes)
        for box in (*boxes, legend.get_window_extent()):
            assert all((box.min >= 0) & (box.max <= canvas.get_width_height())), box


def test_numbers_can_be_read_on_every_colour():
    records = [moments(f"e{k}", o, 10 ** (k / 4)) for k in range(21) for o in "op"]
    drawn = figure("heatmap", records)
    ax = drawn.axes[0]
    (mesh,) = ax.collections
    drawn.draw_without_rendering()
    for text, colour in zip(ax.texts, mesh.get_facecolors(), strict=True):
        (light, dark) = sorted((luminance(text.get_color()), luminance(colour)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, text.get_text()


def luminance(colour):
    """Relative luminance, as WCAG 2 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_heatmap_of_many_estimators_shows_those_that_were_measured_most(monkeypatch):
    monkeypatch.setattr("bench.report.relative.MOST_ROWS", 2)
    records = [moments(e, o, 1.0) for e, of in (("a", "o"), ("b", "op"), ("c", "op")) for o in of]
    drawn = figure("heatmap", records)
    assert [text.get_text() for text in drawn.axes[0].get_yticklabels()] == ["b", "c"]
    assert "The 2 of 3 estimators measured most often." in " ".join(drawn.get_suptitle().split())
