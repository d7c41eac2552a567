"""The files that the command writes for two rows, and the arithmetic of ratios."""

import csv
import functools
import json

import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks import effects, growth, profile, tiny
from tests.benchmarks.figures import time_against
from tests.benchmarks.interleaved import Job, Laps, interleave
from tests.benchmarks.workloads import ROWS


@pytest.fixture
def one_round(monkeypatch):
    """Time every job once: what is tested is that it runs."""
    for module in (command, effects, tiny):
        monkeypatch.setattr(module, "interleave", functools.partial(interleave, least=1, most=1))


def test_a_ratio_is_of_neighbours_in_time():
    laps = Laps({"a": [2.0, 4.0, 8.0, 2.0, 2.0, 2.0], "b": [1.0, 2.0, 4.0, 2.0, 1.0, 1.0]})
    ratio = laps.ratio("a", "b")
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 1.0, 2.0)
    assert str(ratio) == "2.00 [1.00, 2.00]"


def test_jobs_take_turns_and_the_order_is_turned():
    order = []
    made = {name: Job(lambda name=name: order.append(name), 10) for name in "ab"}
    laps = interleave(made, seconds=0.0, least=6)
    assert order == ["a", "b", *"abba" * 3]
    assert [len(s) for s in laps.seconds.values()] == [6, 6]


def test_the_slope_is_the_slope_at_the_end_on_log_axes():
    assert growth.slope([1, 10, 100], [5.0, 5.0, 50.0]) == pytest.approx(1.0)


def test_the_table_of_two_rows(one_round, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "ROWS", [ROWS[0], ROWS[4]])
    command.main(["--quick", "--only", "score", "--out", str(tmp_path)])
    assert "| W3 | score |" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "ratios.jsonl").read_text().splitlines()]
    assert {line["job"] for line in lines} >= {"closed", "floor", command.LEAN, command.WHOLE}
    assert all(seconds > 0 for line in lines for seconds in line["seconds_per_estimate"])
    with (tmp_path / "ratios.csv").open() as file:
        rows = list(csv.DictReader(file))
    own = [row for row in rows if row["job"] == row["base"]]
    assert own
    assert all(float(row["ratio"]) == 1 for row in own)


def test_the_table_of_tiny_calls(one_round, tmp_path, capsys):
    command.main(["--quick", "--only", "tiny", "--out", str(tmp_path)])
    header, _, *lines = capsys.readouterr().out.strip().splitlines()
    assert header == "|  | estimator, microseconds | by hand, microseconds | estimator / by hand |"
    assert [line.split(" | ")[0] for line in lines] == [f"| {each.name}" for each in tiny.TINY]
    assert all(float(line.split(" | ")[3].partition(" ")[0]) > 0 for line in lines)


def test_targets_are_counted():
    row = ROWS[0]
    laps = Laps({"closed": [1.0] * 6, command.LEAN: [1.4] * 6, command.WHOLE: [3.0] * 6, "Pyro": [1.5] * 6})
    words = command.targets({row: laps})
    assert "1 of 1 rows (W1 score)" in words
    assert "Within 2.0 with every statistic: 0 of 1 rows." in words
    assert "with mean and variance: none; with every statistic: Pyro on W1 score." in words
    assert words.endswith("mean and variance: none.\n")


def test_effects_go_between_their_marks(tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "performance.md"
    page.write_text(f"before {command.BEGIN}\nold\n{command.END} after")
    monkeypatch.setattr(command, "ROOT", tmp_path)
    command.put_into_docs("new\n")
    assert page.read_text() == f"before {command.BEGIN}\nnew\n{command.END} after"


def test_a_profile_shares_out_the_time():
    text = profile.text(ROWS[5], 1_000)
    shares = [
        int(line.split("|")[2].strip(" %")) for line in text.split("torch operation")[0].splitlines() if "%" in line
    ]
    assert len(shares) == 6
    assert sum(shares) == pytest.approx(100, abs=3)
    assert shares[0] > 5
    assert shares[2] > 5


def test_figures_are_written(tmp_path):
    lines = {"closed": [(1.0, 1.0), (10.0, 20.0)], "floor": [(1.0, 0.5), (10.0, 1.0)]}
    time_against(tmp_path / "f", {"one": lines, "two": lines}, "R", "seconds")
    assert (tmp_path / "f.svg").read_text().count("axes_") >= 2
    assert (tmp_path / "f.png").stat().st_size > 1_000


def test_every_choice_can_be_undone(one_round):
    shown = list(effects.effects(0.0, small=True))
    assert len({each.choice for each in shown}) == 7
    assert all(each.ratio.median > 0 for each in shown)
