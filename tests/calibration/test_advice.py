"""The calibration of advice: how runs become a table, and what the committed table says."""

import csv
import math
from pathlib import Path

import pytest

from bench.stats.selection import Loss
from tests.calibration.advice import NETWORK, NETWORK_RUNS, PROBLEMS, RUNS, WITHIN, Run, problem, rows

RESULTS = Path(__file__).parents[2] / "results" / "calibration" / "advice.csv"
LOSSES = {
    "a": Loss(0.0, -0.01, 0.01),
    "b": Loss(0.015, 0.005, 0.025),
    "c": Loss(math.log(1.09), math.log(1.08), math.log(1.1)),
    "d": Loss(math.log(1.2), math.log(1.19), math.log(1.21)),
}


def run(recommended, possible, least=1.0):
    return Run("p", 0, recommended, possible, least, 2.0)


def test_a_recommendation_is_right_within_ten_percent():
    mine = [run("a", ("a",)), run("b", ("b", "a")), run("c", ("c", "a")), run("d", ("d", "a"))]
    (row,) = rows({"p": LOSSES}, mine)
    assert row["best"] == "a"
    assert row["ties"] == 2  # a and b, whose intervals meet
    assert row["right"] == 3
    assert row["largest_excess"] == pytest.approx(0.2)
    assert row["best_named"] == 4
    assert row["seconds"] == 2.0


def test_the_statements_are_held_against_the_variances():
    missed = run("c", ("c", "d"))
    wrong = run("d", ("d", "a"), least=0.9)  # a needs 1/1.2 = 0.83 of the evaluations
    held = run("d", ("d", "a"), least=0.8)
    (row,) = rows({"p": LOSSES}, [missed, wrong, held])
    assert row["best_named"] == 2
    assert row["limit_held"] == 1  # of c, at least 1 was promised, and a needs 0.92


def test_two_candidates_without_noise_are_equally_good():
    exact = Loss(-math.inf, -math.inf, -math.inf)
    (row,) = rows({"p": {"x": exact, "y": exact, "a": LOSSES["a"]}}, [run("y", ("y", "x"))])
    assert (row["right"], row["largest_excess"], row["best_named"], row["limit_held"]) == (1, 0.0, 1, 1)


@pytest.mark.parametrize("name", [*PROBLEMS, NETWORK])
def test_every_problem_can_be_built(name):
    assert problem(name).build().theta


def test_the_committed_table_is_complete_and_right_in_95_percent_of_runs():
    with RESULTS.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["problem"] for row in table] == [*PROBLEMS, NETWORK]
    total = sum(int(row["runs"]) for row in table)
    assert total >= RUNS + NETWORK_RUNS
    assert int(table[-1]["runs"]) >= NETWORK_RUNS
    assert sum(int(row["right"]) for row in table) >= 0.95 * total
    assert WITHIN == 0.1
