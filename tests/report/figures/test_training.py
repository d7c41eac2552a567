"""Figures of training, from fabricated records."""

import numpy as np

from bench.report.curves import problems
from bench.report.figures.training import curves, mosaic, variances
from bench.report.style import variants
from tests.report.training_records import run


def test_runs_that_end_early_are_marked_where_they_end_and_leave_no_panel_empty():
    lines = [run("a", [0.0, 4.0], seed, outcome="diverged", variance=[1.0, 2.0]) for seed in range(3)]
    (problem,) = problems([*lines, run("b", [0.0, 1.0, 2.0, 3.0], variance=[1.0] * 4)])
    for figure, panels in ((curves([problem]), 2), (variances([problem]), 1)):
        for ax in figure.axes[:panels]:
            (cross,) = [line for line in ax.lines if line.get_marker() == "x"]
            assert cross.get_color() == variants({c.estimator: c.name for c in problem.curves})["a"].colour
            assert ax.get_xlim()[0] <= cross.get_xdata()[0] < ax.get_xlim()[1]
            assert ax.get_xlim()[1] > 30
        assert "×: most runs have diverged" in figure.get_suptitle()


def test_the_title_mentions_bands_only_if_there_are_some():
    one, *more = [run("b", [0.0, 1.0, 2.0, 3.0], seed) for seed in range(6)]
    alone, together = (curves(problems(lines)).get_suptitle() for lines in ([one], [one, *more]))
    assert "Lines: the one run of each estimator." in alone
    assert "Bands" not in alone
    assert "×" not in alone
    assert "of level 96.9 %." in " ".join(together.split())


def test_two_instances_of_an_estimator_look_different():
    (problem,) = problems([run(name, [0.0, 1.0, 2.0, 3.0]) for name in ("rloo", "rloo:n=4", "rebar")])
    look = variants({c.estimator: c.name for c in problem.curves})
    assert len(set(look.values())) == 3
    assert look["rloo"].colour == look["rloo:n=4"].colour


def test_pictures_are_laid_out_with_lines_between_them():
    image = mosaic(np.ones((2, 3, 4, 4)))
    assert image.shape == (9, 14)
    assert image[4].tolist() == [0.25] * 14
    assert image[0, :5].tolist() == [1.0] * 4 + [0.25]
