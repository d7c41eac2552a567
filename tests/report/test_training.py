"""The report of training, from fabricated records."""

import csv
import io

import pytest
from rich.console import Console

from bench.report.curves import problems
from bench.report.training import absences, data, markdown, sections, show
from tests.report.training_records import run, study


def test_the_table_says_what_was_reached():
    (section,) = sections(problems(study()))
    assert section.facts == "30 steps of adam at 0.1, 6 seeds, exact objective, to be maximised, float32 on cpu"
    rows = [dict(zip(section.header, row, strict=True)) for row in section.body]
    assert [row["estimator"] for row in rows] == ["rloo", "score-function"]
    assert rows[0]["final"] == "3.2 ± 0.2"
    assert rows[0]["level"] == "96.9 %"
    assert rows[1]["final"] == "1.150 [diverged, 1.400]"
    assert rows[0]["at 30 f"] == "1.500"
    assert rows[1]["gap to the first row"] == "2.000 [2.000, diverged]"
    assert (rows[0]["diverged"], rows[1]["diverged"]) == ("", "1 of 6")
    assert (rows[0]["variance: start"], rows[1]["variance: start"]) == ("1.0", "≥ 4.0")


@pytest.mark.parametrize(("seeds", "level"), [(2, "50.0 %"), (5, "93.8 %")])
def test_fewer_than_six_seeds_have_a_range_that_looks_like_no_error_bar(seeds, level):
    few = [record for record in study() if record["seed"] < seeds]
    (section,) = sections(problems(few))
    rows = [dict(zip(section.header, row, strict=True)) for row in section.body]
    assert rows[0]["final"] == f"3.000 to {3 + (seeds - 1) / 10:.3f}, range of {seeds}"
    assert rows[1]["gap to the first row"] == f"2.000 to 2.000, range of {seeds}"
    assert (rows[0]["level"], rows[1]["level"]) == (level, level)
    text = markdown(few, "name").partition("**Columns")[0].partition("Columns")[0]
    assert "±" not in text
    assert "[" not in text


def test_on_a_terminal_of_80_columns_names_stay_whole_and_what_is_left_out_is_named():
    stream = io.StringIO()
    labels = {
        "rloo": "straight-through-gumbel-softmax:n=1",
        "score-function": "score-function:n=1,baseline=moving-average",
    }
    show([record | {"estimator": labels[record["estimator"]]} for record in study()], Console(file=stream, width=80))
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    for piece in ("straight-through-gumbel-softmax:", "score-function:n=1,", "baseline=moving-average"):
        assert piece in text
    assert "too narrow for level, interquartile mean" in text
    assert "training.md has" in text


def test_one_seed_has_neither_range_nor_level():
    (section,) = sections(problems([record for record in study() if record["seed"] == 0]))
    rows = [dict(zip(section.header, row, strict=True)) for row in section.body]
    assert rows[0]["final"] == "3.000"
    assert rows[0].get("level", "–") == "–"


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
