import io
import itertools
import re
from pathlib import Path

import pytest
from rich.console import Console

from bench.records import store
from bench.report import Report
from bench.report.by_objective import HEADER, filled, sections
from bench.report.layout import broken, fitting
from bench.report.prepared import prepared
from bench.report.printed import BROKEN_UP, DROPPED_FIRST, INDENT
from tests.report.records import many, moments, study, timing

RESULTS = Path(__file__).parents[2] / "results"


def printed(records, width=100, *, named=False, **options):
    stream = io.StringIO()
    Report(records).show(Console(file=stream, width=width, **options), named=named)
    return stream.getvalue()


@pytest.mark.parametrize("width", [100, 80])
@pytest.mark.parametrize("records", [study(), many(22, 2)], ids=["study", "many"])
def test_the_terminal_table_fits(records, width):
    text = printed(records, width)
    assert max(len(row) for row in text.splitlines()) <= width
    for label in {r["estimator"] for r in records if r["outcome"] == "measured" and len(r["estimator"]) <= 26}:
        assert label in text


@pytest.mark.parametrize("study", ["catalogue", "reference"])
def test_no_word_of_a_committed_study_is_cut_off_on_a_narrow_terminal(study):
    table = prepared(store.read(RESULTS / study))
    rows = [row for section in sections(table, terse=True) for row in section.body]
    for width in (80, 100):
        kept = fitting(*filled(HEADER, rows), width - INDENT, DROPPED_FIRST, BROKEN_UP)
        assert sum(kept.values()) + len(kept) - 1 <= width - INDENT
        for name, size in kept.items():
            cells = [broken(row[HEADER.index(name)], size) for row in rows]
            assert max(len(line) for cell in cells for line in cell.splitlines() or [""]) <= size


def test_a_long_label_is_folded_before_a_column_goes():
    label = "score-function:baseline=moving-average"
    text = printed([moments(label, "o", 2.0), moments("rloo:n=4", "o", 3.0)], 80)
    assert "eff." in text
    assert max(len(row) for row in text.splitlines()) <= 80
    first_words = [row.split()[0] for row in text.splitlines() if row.startswith("  ") and row.strip()]
    assert label in {a + b for a, b in itertools.pairwise(first_words)} | set(first_words)


def test_a_narrow_terminal_keeps_bias_and_variance():
    head = next(row for row in printed(study(), 80).splitlines() if "estimator" in row)
    assert "bias" in head
    assert "variance (95 %)" in head
    assert "cos" not in head


def test_no_escape_codes_outside_a_terminal_and_no_colour_where_it_is_unwanted(monkeypatch):
    assert "\x1b" not in printed(study())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", printed(study(), force_terminal=True))
    monkeypatch.delenv("NO_COLOR")
    assert re.search(r"\x1b\[[0-9;]*32", printed(study(), force_terminal=True, color_system="standard"))


def test_columns_that_do_not_fit_are_named():
    record = moments("a" * 26, "o", 2.0, f_evals=4)
    assert "too narrow for rank, cos" in printed([record], width=60)
    assert "too narrow" not in printed([record], width=160)


def test_a_noisy_time_is_marked():
    record = moments("a", "o", 1.0)
    assert "~1.0 µs" in printed([record, timing(record, 1e-6, noisy=True)])
    assert "~" not in printed([record, timing(record, 1e-6)])
