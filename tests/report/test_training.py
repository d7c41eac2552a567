"""The report of training, from fabricated records."""

import base64
import csv
import io
import math

import numpy as np
import pytest

from bench.report import write
from bench.report.curves import problems
from bench.report.figures import FORMATS, TRAINING
from bench.report.figures.training import curves, looks, mosaic, variances, window
from bench.report.training import absences, data, markdown, sections
from bench.stats.seeds import across_seeds, interquartile_mean
from tests.report.records import moments

STEPS = [0, 10, 20, 30]


def run(estimator, values, seed=0, *, objective="o", f_evals=1.0, adapt=0.0, outcome="measured", **more):
    count = len(values)
    curves = {
        "step": STEPS[:count],
        "value": values,
        "value_error": [0.0] * count,
        "training_value": [None, *values[1:]],
        "training_seconds": [0.1 * step for step in STEPS[:count]],
    }
    if "variance" in more:
        variance = more.pop("variance")
        statuses = more.pop("statuses", ["OK"] * count)
        curves |= {"variance": variance, "variance_low": [0.5 * v for v in variance], "variance_status": statuses}
    return {
        "schema": 1,
        "kind": "training",
        "run": f"{objective}-{estimator}-{seed}-{more.get('learning_rate', 0.1)}",
        "cell": f"{objective}-{estimator}",
        "estimator": estimator,
        "estimator_name": estimator.partition(":")[0],
        "objective": objective,
        "objective_name": objective,
        "seed": seed,
        "outcome": outcome,
        "reason": None if outcome == "measured" else "It broke.",
        "dtype": "float32",
        "device": "cpu",
        "steps": 30,
        "optimizer": "adam",
        "learning_rate": 0.1,
        "replicates": 64,
        "looks": STEPS,
        "maximise": True,
        "held_out": False,
        "exact_value": True,
        "batch": 1,
        "f_evals": f_evals,
        "grad_evals": 0.0,
        "adapt_f_evals": adapt,
        "curves": curves,
        "pictures": None,
        **more,
    }


def study():
    good = [run("rloo", [0.0, 1.0, 2.0, 3.0 + seed / 10], seed, f_evals=2.0, variance=[1.0] * 4) for seed in range(6)]
    heavy = ["HEAVY_TAIL"] * 4
    poor = [
        run("score-function", [0.0, 0.5, 0.7, 1.0 + seed / 10], seed, variance=[8.0] * 4, statuses=heavy)
        for seed in range(5)
    ]
    lost = run("score-function", [0.0, -3.0], 5, outcome="diverged", variance=[9.0, 9.0])
    return [*poor, lost, *good]


# Statistics -----------------------------------------------------------------------------------------------------------


def test_the_interval_of_six_runs_is_their_range():
    where = across_seeds(np.array([3.0, 1.0, 2.0, 6.0, 5.0, 4.0]))
    assert (where.median, where.low, where.high) == (3.5, 1.0, 6.0)
    assert where.level == pytest.approx(1 - 2 / 2**6)


def test_the_level_counts_the_ways_in_which_an_interval_can_miss():
    """Of 12 runs the interval leaves two at either end: at most two heads in 12 throws."""
    where = across_seeds(np.arange(12.0))
    assert (where.low, where.high) == (2.0, 9.0)
    assert where.level == pytest.approx(1 - 2 * sum(math.comb(12, k) for k in range(3)) / 2**12)
    assert across_seeds(np.array([7.0])).level == 0


def test_the_interquartile_mean_weighs_values_by_the_part_inside():
    assert interquartile_mean(np.arange(8.0)) == 3.5
    assert interquartile_mean(np.array([0.0, 100.0, 1.0, 2.0])) == 1.5
    assert interquartile_mean(np.array([0.0, 1.0, 4.0, 9.0, 16.0, 1000.0])) == pytest.approx((0.5 + 4 + 9 + 8) / 3)
    assert interquartile_mean(np.array([5.0])) == 5.0


def test_diverged_runs_are_the_worst_and_are_not_left_out():
    where = across_seeds(np.array([-np.inf, 1.0, 2.0, 3.0, 4.0, 5.0]))
    assert where.low == -np.inf
    assert where.median == 2.5
    assert where.middle == pytest.approx((0.5 * 1 + 2 + 3 + 0.5 * 4) / 3)
    assert interquartile_mean(np.array([-np.inf, -np.inf, 1.0])) == -np.inf


# Curves ---------------------------------------------------------------------------------------------------------------


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


# Text -----------------------------------------------------------------------------------------------------------------


def test_the_table_says_what_was_reached():
    (section,) = sections(problems(study()))
    assert section.facts == (
        "30 steps of adam at 0.1, 6 seeds, exact objective, to be maximised, intervals of level 96.9 %, float32 on cpu"
    )
    rows = [dict(zip(section.header, row, strict=True)) for row in section.body]
    assert [row["estimator"] for row in rows] == ["rloo", "score-function"]
    assert rows[0]["final"] == "3.2 ± 0.2"
    assert rows[1]["final"] == "1.150 [diverged, 1.400]"
    assert rows[0]["at 30 f"] == "1.500"
    assert rows[1]["behind the best"] == "2.000 [2.000, diverged]"
    assert (rows[0]["diverged"], rows[1]["diverged"]) == ("", "1 of 6")
    assert (rows[0]["variance: start"], rows[1]["variance: start"]) == ("1.0", "≥ 4.0")


def test_missing_runs_are_listed_with_their_reasons():
    skip = {**run("x", [0.0]), "outcome": "skipped", "reason": "It does not fit."}
    failed = {**run("y", [0.0], 3), "outcome": "failed", "reason": "ValueError: no."}
    assert absences([*study(), skip, failed]) == [
        "diverged: score-function on o, seed 5: It broke.",
        "not applicable: x on o: It does not fit.",
        "failed: y on o, seed 3: ValueError: no.",
    ]
    text = markdown([*study(), skip], "name")
    assert text.startswith("# name: training\n")
    assert "It does not fit." in text


def test_the_data_hold_every_look_of_every_run():
    rows = list(csv.DictReader(io.StringIO(data(study()))))
    assert len(rows) == 11 * 4 + 2
    last = rows[-1]
    assert (last["estimator"], last["seed"], last["step"], float(last["value"])) == ("rloo", "5", "30", 3.5)
    assert float(last["f_evals"]) == 60
    assert rows[0]["training_value"] == ""


# Figures --------------------------------------------------------------------------------------------------------------


def test_a_folder_of_training_has_its_own_files_and_no_empty_table(tmp_path):
    shape, grey = [2, 2, 8, 8], base64.b64encode(bytes(range(256))).decode()
    records = study()
    records[0]["pictures"] = {name: {"shape": shape, "grey": grey} for name in ("reconstructions", "samples", "walk")}
    written = {path.name for path in write(tmp_path / "a", records)}
    assert written == {"training.md", "training.csv", *(f"{name}.{suffix}" for name in TRAINING for suffix in FORMATS)}
    before = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*.*")}
    write(tmp_path / "a", records)
    assert before == {path: path.read_bytes() for path in (tmp_path / "a").rglob("*.*")}
    plain = {path.name for path in write(tmp_path / "a", [run("rloo", [0.0, 1.0, 2.0, 3.0])])}
    assert plain == {"training.md", "training.csv", "training.svg", "training.png"}
    assert not (tmp_path / "a" / "figures" / "training-pictures.png").exists()


@pytest.fixture
def one_format(monkeypatch):
    monkeypatch.setattr("bench.report.figures.FORMATS", ("svg",))


@pytest.mark.usefixtures("one_format")
def test_both_kinds_of_records_have_their_files(tmp_path):
    names = {path.name for path in write(tmp_path, [moments("a", "o", 1.0), run("a", [0.0, 1.0, 2.0, 3.0])])}
    assert {"table.md", "training.md", "heatmap.svg", "training.svg"} <= names


@pytest.mark.usefixtures("one_format")
@pytest.mark.parametrize(
    "records",
    [
        [run("a", [0.0], outcome="diverged")],
        [{**run("a", [0.0]), "outcome": "failed", "reason": "No."}],
        [run("a", [1.0, 1.0, 1.0, 1.0], variance=[0.0] * 4)],
        [run(f"rloo:n={n}", [0.0, 1.0, 2.0, 3.0], variance=[1.0] * 4) for n in range(2, 12)],
    ],
    ids=["diverged at once", "failed", "constant", "many of one name"],
)
def test_incomplete_studies_are_drawn(tmp_path, records):
    assert "training.md" in {path.name for path in write(tmp_path, records)}


def test_runs_that_end_early_are_marked_where_they_end_and_leave_no_panel_empty():
    lines = [run("a", [0.0, 4.0], seed, outcome="diverged", variance=[1.0, 2.0]) for seed in range(3)]
    (problem,) = problems([*lines, run("b", [0.0, 1.0, 2.0, 3.0], variance=[1.0] * 4)])
    for figure, panels in ((curves([problem]), 2), (variances([problem]), 1)):
        for ax in figure.axes[:panels]:
            (cross,) = [line for line in ax.lines if line.get_marker() == "x"]
            assert cross.get_color() == looks(problem.curves)["a"].colour
            assert ax.get_xlim()[0] <= cross.get_xdata()[0] < ax.get_xlim()[1]
            assert ax.get_xlim()[1] > 30
        assert "×: most runs have diverged" in figure.get_suptitle()


def test_the_title_speaks_of_bands_where_there_are_some():
    one, *more = [run("b", [0.0, 1.0, 2.0, 3.0], seed) for seed in range(6)]
    alone, together = (curves(problems(lines)).get_suptitle() for lines in ([one], [one, *more]))
    assert "Lines: the one run of each estimator." in alone
    assert "Bands" not in alone
    assert "×" not in alone
    assert "of level 96.9 %." in " ".join(together.split())


def test_two_of_one_name_look_different():
    (problem,) = problems([run(name, [0.0, 1.0, 2.0, 3.0]) for name in ("rloo", "rloo:n=4", "rebar")])
    look = looks(problem.curves)
    assert len(set(look.values())) == 3
    assert look["rloo"].colour == look["rloo:n=4"].colour


def test_pictures_are_laid_out_with_lines_between_them():
    image = mosaic(np.ones((2, 3, 4, 4)))
    assert image.shape == (9, 14)
    assert image[4].tolist() == [0.25] * 14
    assert image[0, :5].tolist() == [1.0] * 4 + [0.25]
