"""Curves of training, from fabricated records."""

import numpy as np
import pytest

from bench.report.curves import problems
from bench.report.figures.training import window
from tests.report.training_records import run, study


def test_runs_become_curves_and_a_diverged_one_ends_at_the_worst():
    (problem,) = problems(study())
    poor, good = problem.curves
    assert (poor.estimator, good.estimator) == ("score-function", "rloo")
    assert [c.estimator for c in problem.ranked] == ["rloo", "score-function"]
    assert poor.value[5].tolist() == [0.0, -3.0, -np.inf, -np.inf]
    assert poor.diverged == 1
    assert good.evaluations.tolist() == [0, 20, 40, 60]
    assert problem.budget == 30
    assert good.at(30)[0] == pytest.approx(1.5)
    assert poor.at(15)[5] == -np.inf
    assert poor.at(10)[5] == -3.0
    assert poor.variance[0].tolist() == [4.0] * 4
    assert poor.final.median == pytest.approx(1.15)


def test_an_explosion_at_the_last_look_is_a_divergence():
    (problem,) = problems([run("rloo", [0.0, 1.0, 2.0, -900.0], outcome="diverged")])
    assert problem.curves[0].value[0].tolist() == [0.0, 1.0, 2.0, -np.inf]


def test_where_smaller_is_better_the_worst_is_the_other_end():
    records = [run("a", [9.0, 5.0, 4.0, 3.0], maximise=False), run("b", [9.0], maximise=False, outcome="diverged")]
    (problem,) = problems(records)
    assert problem.curves[1].value[0].tolist() == [9.0, *[np.inf] * 3]
    assert [c.estimator for c in problem.ranked] == ["a", "b"]
    low, high = window(problem)
    assert low < 3 < 5 < high


def test_evaluations_of_adaptation_count():
    (problem,) = problems([run("rebar", [0.0, 1.0, 2.0, 3.0], f_evals=2.0, adapt=2.0)])
    assert problem.curves[0].evaluations.tolist() == [0, 40, 80, 120]


def test_runs_with_other_settings_are_a_problem_of_their_own():
    values = [0.0, 1.0, 2.0, 3.0]
    records = [run("a", values), run("a", values, learning_rate=0.2), run("a", values, objective="p")]
    assert [p.title for p in problems(records)] == ["o (learning rate 0.1)", "o (learning rate 0.2)", "p"]
