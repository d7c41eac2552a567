"""The table over all problems: a row for each, with who is best, who is next, and what is biased."""

import io

import pytest
from rich.console import Console

from bench.report import Report, is_one_table
from bench.report.frame import each
from bench.report.overview import OVERVIEW, row_of
from bench.report.prepared import prepared
from tests.report.records import deterministic, heavy, line, moments

OPEN = "INCONCLUSIVE"


def row(*records):
    table = prepared(records)
    return dict(zip(OVERVIEW, row_of("o", each(table[table["outcome"] == "measured"])), strict=True))


def printed(records, width=160, *, brief=True):
    stream = io.StringIO()
    Report(records).show(Console(file=stream, width=width), brief=brief)
    return stream.getvalue()


def test_a_row_has_the_best_with_its_n_the_next_and_what_is_biased_or_exact():
    found = row(
        moments("rloo:n=2", "o", 9.0, n=2, f_evals=2, verdict=OPEN),
        moments("rloo:n=4", "o", 2.0, n=4, f_evals=4, verdict=OPEN),
        moments("score-function:n=1", "o", 16.0, n=1, verdict=OPEN),
        moments("reinmax:n=1", "o", 0.1, bias=0.25, unbiased=False, n=1),
        moments("straight-through:n=1", "o", 0.1, bias=0.5, unbiased=False, n=1),
        deterministic("enumeration", "o", f_evals=64.0, n=None),
    )
    assert found == {
        "objective": "o",
        "best unbiased": "rloo:n=4",
        "variance": "2.00 ±3 %",
        "f + ∇f": "4",
        "runner-up": "score-function",
        "eff.": "0.50",
        "biased": "2: 25–50 %",
        "exact": "enumeration",
    }


def test_ties_are_named_or_counted_and_what_was_learned_has_a_star():
    learned = moments("nvil", "o", 1.0, half=0.1, verdict=OPEN) | {"adapt_steps": 50, "adapt_f_evals": 3200}
    others = [moments(name, "o", 1.05, half=0.1, verdict=OPEN) for name in "abc"]
    found = row(learned, others[0])
    assert (found["best unbiased"], found["runner-up"], found["eff."]) == ("a", "* nvil", "tied")
    found = row(learned, *others, moments("d", "o", 9.0, verdict=OPEN))
    assert (found["best unbiased"], found["variance"], found["runner-up"]) == ("4 of 5 tied", "–", "–")
    assert row(learned, *others)["best unbiased"] == "all 4 tied"


def test_a_row_without_an_unbiased_estimator_and_a_row_of_a_faulty_objective():
    assert row(heavy("wild", "o", 1.0))["best unbiased"] == "–"
    found = row(moments("a", "o", 1.0), deterministic("enumeration", "o", bias=0.5, unbiased=True))
    assert found["best unbiased"] == "the objective is at fault"
    assert set(found.values()) == {"o", "the objective is at fault", "–"}


def test_several_problems_are_one_table_that_closes_the_long_report_too():
    records = [moments(name, objective, v) for objective in "opq" for name, v in (("a", 1.0), ("b", 4.0))]
    records += [line("c", "o", outcome="skipped", reason="No."), moments("c", "q", 0.01, bias=0.5, unbiased=False)]
    assert is_one_table(records)
    short, long = printed(records), printed(records, brief=False)
    assert long.endswith(short.partition("In short")[2])
    assert short.startswith("not applicable: 1 pair does not fit; table.md has the reasons\nIn short")
    assert "rank" not in short
    rows = [text.split() for text in short.splitlines()[4:] if text.strip()]
    assert [text[:2] for text in rows] == [["o", "a"], ["p", "a"], ["q", "a"]]
    assert not is_one_table(records[:4])
    assert "rank" in printed(records[:4])


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_table_fits_and_says_what_it_left_out(width):
    label = "score-function:baseline=moving-average"
    records = [
        moments(name, f"categorical-polynomial:power={p}", v)
        for p in (1, 2, 3)
        for name, v in ((label, 1.0), ("straight-through-gumbel-softmax", 4.0))
    ]
    text = printed(records, width)
    assert max(map(len, text.splitlines())) <= width
    assert "score-function:" in text
    assert "power=2" in text
    assert ("too narrow for" in text) == (width < 160)
    assert ("runner-up" in text.splitlines()[2]) == (width >= 100)


def test_of_many_objectives_the_first_are_printed_and_the_others_counted(monkeypatch):
    monkeypatch.setattr("bench.report.printed.TABLES_SHOWN", 1)
    monkeypatch.setattr("bench.report.printed.ROWS_SHOWN", 2)
    monkeypatch.setattr("bench.report.printed.FAILURES_SHOWN", 1)
    records = [moments("a", f"o{i}", 1.0) for i in range(1234)]
    records += [line(f"b{i}", "o0", outcome="failed", reason=f"ValueError: {i}") for i in range(3)]
    text = printed(records, brief=False)
    assert text.count("replicates, ") == 1
    assert [f"o{i}" in text for i in range(4)] == [True, True, False, False]
    assert "and 1,233 more objectives; table.md has them all\n" in text
    assert "and 1,232 more objectives; table.md has them all\n" in text
    assert "and 2 more failures; table.md has them all\n" in text
