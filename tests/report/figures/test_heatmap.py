from bench.report.figures import draw
from bench.report.figures.heatmap import MOST_COLUMNS
from tests.report.figures.drawing import figure
from tests.report.records import moments


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
