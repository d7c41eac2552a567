import itertools

import pytest

from bench.report.figures import NAMES, draw
from tests.report.figures.drawing import figure, words
from tests.report.records import deterministic, heavy, line, many, moments


def test_a_heavy_tail_without_any_limit_is_an_arrow_from_the_edge():
    records = [heavy("wild", "o", 310.0), moments("tame", "o", 2.0), moments("low", "o", 1.0, f_evals=3)]
    records += [moments("biased", "o", 3.0, bias=0.5, unbiased=False), moments("other", "p", 1.0)]
    records[0]["summary"]["variance_low"] = 0.0
    for name, along in (("variance-cost", 1), ("bias-variance", 0)):
        ax = figure(name, records).axes[0]
        edge = ax.get_xaxis_transform() if along else ax.get_yaxis_transform()
        assert sum(drawn.get_transform() == edge for drawn in ax.lines) == 1
        assert [text.xy[along] for text in ax.texts if text.arrow_patch and text.xycoords == edge] == [0]
    texts = [text for text in words(figure("heatmap", records)) if text]
    assert sorted(texts) == ["1", "1", "2.0", "3.0", "≥"]


def test_what_varies_by_rounding_alone_is_drawn_as_no_variance():
    record = moments("control", "o", 6e-14, verdict="UNBIASED_WITHIN_TOL")
    record["summary"]["flags"] = ["AT_FLOAT_RESOLUTION"]
    records = [record, moments("a", "o", 2.0), moments("b", "o", 6.0), moments("a", "p", 2.0)]
    ax = figure("variance-cost", records).axes[0]
    assert ax.get_ylim()[0] > 0.1
    assert sum(drawn.get_transform() == ax.get_xaxis_transform() for drawn in ax.lines) == 1
    assert {"0", "1", "3.0"} <= set(words(figure("heatmap", records)))


def test_biased_estimates_are_hollow(table):
    for name in ("bias-variance", "variance-cost"):
        ax = next(ax for ax in draw(name, table).axes if ax.get_title(loc="left") == "bernoulli-quadratic:dim=20")
        hollow = {d.get_color() for d in ax.lines if d.get_markerfacecolor() == "white" and d.get_marker() != "None"}
        assert hollow == {"#d55e00"}


@pytest.mark.parametrize("name", [*NAMES, "variance-n", "variance-dim", "bias-n", "bias-dim"])
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
        assert (
            not records or name != "variance-cost" or records[0]["outcome"] == "failed" or records[0]["deterministic"]
        )


def test_a_wide_study_keeps_every_row_and_its_panels_apart():
    records = many(22, 6)
    drawn = figure("heatmap", records)
    assert len(drawn.axes[0].get_yticklabels()) == 22
    boxes = [ax.get_position() for ax in figure("variance-cost", records).axes]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
