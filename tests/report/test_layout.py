"""The layout of tables on a terminal: what is broken, what is dropped, and what stays whole."""

import pytest

from bench.report.layout import broken, fitting, shortened

LABEL = "score-function:n=1,baseline=moving-average"


@pytest.mark.parametrize(
    ("cell", "width", "lines"),
    [
        (LABEL, 42, [LABEL]),
        (LABEL, 41, ["score-function:n=1,", "baseline=moving-average"]),
        (LABEL, 23, ["score-function:n=1,", "baseline=moving-average"]),
        (LABEL, 3, ["score-function:", "n=1,", "baseline=moving-average"]),
        ("0.257 [0.231, 0.285]", 14, ["0.257", "[0.231, 0.285]"]),
        ("(2.5 ± 0.2)e-6", 6, ["(2.5 ± 0.2)e-6"]),
        ("100 steps, 12,800 f", 10, ["100 steps,", "12,800 f"]),
        ("./mine.py::Mine:n=2 on qubo", 15, ["./mine.py::", "Mine:n=2 on", "qubo"]),
        ("", 5, [""]),
        (f"own:n=2,tag={'L' * 60}", 20, ["own:n=2,", f"tag={'L' * 28}", "L" * 32]),
    ],
)
def test_cells_are_broken_at_their_joints(cell, width, lines):
    assert broken(cell, width).splitlines() == (lines if cell else [])


ROWS = [[LABEL, "1.23", "few replicates for this tail"], ["rloo:n=4", "4.56", ""]]
HEADER = ("estimator", "value", "remarks")
LEAST = {"estimator": 20, "remarks": 8}


def test_columns_have_their_whole_width_where_there_is_room():
    assert fitting(HEADER, ROWS, 200, ("value",), LEAST) == {"estimator": 42, "value": 5, "remarks": 28}


@pytest.mark.parametrize("width", [41, 50, 60, 76])
def test_cells_that_may_be_broken_share_what_is_left(width):
    found = fitting(HEADER, ROWS, width, ("value",), LEAST)
    assert found["value"] == 5
    assert sum(found.values()) + 2 == width
    assert found["estimator"] - 23 in (found["remarks"] - 10, found["remarks"] - 9, 19) or found["remarks"] == 28


def test_columns_are_dropped_in_their_order_until_the_others_fit():
    rows = [["a" * 10, "b" * 10, "c" * 10, "d" * 10]]
    found = [list(fitting("abcd", rows, width, ("c", "a"), {})) for width in (43, 42, 31, 20, 5)]
    assert found == [list("abcd"), list("abd"), list("bd"), list("bd"), list("bd")]


def test_the_middle_of_a_long_text_is_left_out():
    text = "own:tag=" + 200 * "x" + "(n=2)"
    assert shortened(text) == f"{text[:31]}…{text[-31:]}"
    assert shortened(text[:64]) == text[:64]
