"""The map of a page: the numbers, the order and the marks of the figure."""

import pytest

from bench.report.page.heat import heat
from bench.report.prepared import prepared
from tests.report.records import deterministic, heavy, line, moments


@pytest.fixture(scope="module")
def made():
    return heat(
        prepared(
            [
                moments("rloo:n=4", "o1", 2.0),
                moments("rloo:n=4", "o2", 3.1e7),
                moments("rloo:n=2", "o2", 1.0),
                moments("rloo:n=2", "o1", 3.0, bias=0.5, unbiased=False),
                heavy("score-function", "o1", 4.0),
                line("score-function", "o2", outcome="failed", reason="It broke."),
                deterministic("enumeration", "o1"),
                line("enumeration", "o2", outcome="skipped", reason="It does not fit."),
                moments("arm", "o2", 5.0, unbiased=False),
            ]
        )
    )


def cell(made, estimator, objective):
    return dict(made["rows"])[estimator][made["columns"].index(objective)]


def test_the_numbers_are_those_of_the_figure(made):
    assert cell(made, "rloo:n=4", "o1") == ("1", "h0", "")
    assert cell(made, "rloo:n=4", "o2") == ("3.1e7", "h40", "")
    text, kind, _ = cell(made, "score-function", "o1")
    assert text.startswith("≥ 0.99")
    assert kind == "h0"


def test_what_has_no_number_is_marked(made):
    assert cell(made, "enumeration", "o1") == ("0", "exact", "")
    assert cell(made, "enumeration", "o2") == ("–", "absent", "")
    assert cell(made, "score-function", "o2") == ("×", "failed", "")
    assert cell(made, "arm", "o1") == ("", "", "")


def test_a_bias_is_marked(made):
    assert cell(made, "rloo:n=2", "o1") == ("1.5", "h2 biased", "biased")
    assert cell(made, "arm", "o2") == ("5.0", "h7 open", "bias not excluded")


def test_rows_have_the_order_of_the_palette_and_of_n(made):
    assert [name for name, _ in made["rows"]].index("rloo:n=2") + 1 == [name for name, _ in made["rows"]].index(
        "rloo:n=4"
    )


def test_rounding_of_an_exact_estimator_is_no_base():
    exact = moments("a", "o1", 1e-20, verdict="UNBIASED_WITHIN_TOL")
    made = heat(prepared([exact, moments("b", "o1", 2.0), moments("b", "o2", 1.0)]))
    assert cell(made, "a", "o1")[:2] == ("0", "exact")
    assert cell(made, "b", "o1")[0] == "1"


def test_a_column_without_an_unbiased_estimator_says_so():
    made = heat(prepared([moments("a", "o1", 1.0, bias=0.5, unbiased=False), moments("b", "o2", 2.0)]))
    assert made["columns"] == ["o1 †", "o2"]
    assert "† no unbiased estimator" in made["note"]


def test_one_objective_has_no_map():
    assert heat(prepared([moments("a", "o", 1.0)])) is None
