"""The command `report` from its words to its files."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")


def test_report_rebuilds_everything_from_records_without_torch(call, start, tmp_path):
    words = ("--out", "here", "--replicates", 64, "--no-timing", "--quiet")
    table = call("run", "-e", "rloo:n=2,4", "-o", "gaussian-cosine", *words).out
    (tmp_path / "here" / "table.md").unlink()
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "torch.py").write_text("raise ImportError('there is no torch here')")
    done = start("report", "here", PYTHONPATH=str(tmp_path / "lib"))
    assert (done.code, done.out) == (0, table)
    assert (tmp_path / "here" / "table.md").exists()
    assert list((tmp_path / "here" / "figures").glob("*.svg"))
    assert re.match(r"here: records\.jsonl, report\.html, table\.md, table\.csv, table\.tex and 1 figure\n", done.err)


def test_a_report_can_be_narrowed_and_hurried(call, tmp_path):
    words = ("--out", "here", "--replicates", 64, "--no-timing", "--quiet")
    call("run", "-e", "rloo:n=2,4", "-e", "score-function", "-o", "gaussian-cosine", "-o", "qubo", *words)
    table = tmp_path / "here" / "table.md"
    assert call("report", "here", "-e", "RLOO", "-o", "qubo", "--no-figures").code == 0
    text = table.read_text()
    assert ("rloo:n=2" in text, "rloo:n=4" in text, "score-function" in text, "gaussian-cosine" in text) == (
        True,
        True,
        False,
        False,
    )
    call("report", "here", "-e", "rloo:n=4,8")
    assert "rloo:n=2" not in table.read_text()
    call("report", "here")
    assert "score-function" in table.read_text()
    assert not list((tmp_path / "here").glob("figures/*")), "none are drawn in these tests"
    apart = call("report", "here", "--out", "there", "--format", "md").err
    assert apart.startswith("there: table.md and 0 figures\n"), "it has no records to report"
    assert "nan is not a number" in call("report", "here", "--width", "nan").err
    assert "leave out the other options" in call("report", "here", "--table", "bias", "--width", "3.25").err
    assert "which has rloo:n=2, rloo:n=4.\n" in call("report", "here", "-e", "rloo:n=8").err
    assert (
        call("report", "here/table.md").err
        == "Error: here/table.md is a file. Give the study folder, which has records.jsonl.\n"
    )
    assert (
        "--no-figures leaves nothing of --format svg" in call("report", "here", "--no-figures", "--format", "svg").err
    )
    (tmp_path / "labels.toml").write_text('[estimators]\n"score-function" = "REINFORCE"\n')
    narrowed = call("report", "here", "--table", "cost", "-e", "rloo", "--labels", "labels.toml")
    assert (narrowed.code, "rloo:n=2" in narrowed.out) == (0, True), "what -e leaves out may have a name"
    wrong = call("report", "here", "-e", "disarm")
    assert (wrong.code, "which has rloo, score-function" in wrong.err) == (2, True)


OWN = """
from dataclasses import dataclass
import torch
from torch.distributions import Normal
from bench.objectives import Objective, Problem

@dataclass(frozen=True)
class Own(Objective):
    family = Normal
    dim: int = 2

    def build(self, dtype=torch.float32, device="cpu"):
        theta = {"m": torch.zeros(2, dtype=dtype, device=device, requires_grad=True)}
        q = lambda theta: Normal(theta["m"], 1.0)
        exact = lambda theta: theta["m"].sin().mean() * torch.tensor(-0.5).exp()
        return Problem(theta, q, lambda q: torch.sin, exact)
"""


def test_a_study_with_the_record_of_an_own_objective_can_be_narrowed_and_compared(call, tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    words = ("--out", "here", "--replicates", 64, "--no-timing", "--quiet")
    assert call("run", "-e", "rloo:n=2,4", "-o", "mine.py::Own", *words).code == 0
    assert '"kind":"objective"' in (tmp_path / "here" / "records.jsonl").read_text()
    narrowed = call("report", "here", "-e", "rloo:n=4")
    assert narrowed.code == 0
    assert "\nThe files hold the selected cells alone; `bench report here` makes them of all" in narrowed.err
    assert "rloo:n=2" not in (tmp_path / "here" / "table.md").read_text()
    wrong = call("report", "here", "-e", "disarm", "-o", "own")
    assert (wrong.code, "which has rloo." in wrong.err) == (2, True)
    assert call("compare", "here", "here").code == 0
    assert call("compare", "rloo:n=2", "rloo:n=4", "--study", "here").code == 0


@pytest.mark.skipif(not FULL.exists(), reason="this system has no full device")
def test_a_reader_that_leaves_early_hears_nothing_and_a_full_disk_is_one_sentence(call, tmp_path):
    call("run", "-e", "rloo", "-o", "gaussian-cosine", "--out", "here", "--replicates", 64, "--no-timing", "--quiet")
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, "-m", "bench", "report", "here", "--no-figures"]
    left = subprocess.run(words, cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert left.stderr == ""
    with FULL.open("w") as full:
        done = subprocess.run(words, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "Error: The output cannot be written: No space left on device.\n")


def test_a_report_says_what_the_plan_of_the_study_still_lacks(call, tmp_path):
    words = ("run", "-e", "rloo:n=2,3,4", "-o", "qubo", "--replicates", 64, "--no-timing", "--quiet", "--out", "here")
    assert call(*words).code == 0
    report = ("report", "here", "--no-figures")
    assert "cells are here" not in call(*report).err
    path = tmp_path / "here" / "records.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:1]))
    assert "1 of 3 cells are here, 2 to go: `bench run here` goes on." in call(*report).err
    assert call(*report, "--quiet").err == ""
    (tmp_path / "here" / "plan.jsonl").write_text("spoiled\n")
    done = call(*report)
    assert (done.code, "plan.jsonl, line 1, is not JSON" in done.err) == (0, True)
    (tmp_path / "here" / "plan.jsonl").unlink()
    assert "1 of 3 cells are here, 2 to go" in call(*report).err, "its spec says so"


def test_names_of_a_spec_reach_the_figures_of_run_and_of_report(call, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr("bench.report.figures.images", lambda *rest: given.append(rest[-1]) or iter(()))
    spec = 'estimators = ["rloo"]\nobjectives = ["qubo"]\nreplicates = 64\ntiming = false\n'
    (tmp_path / "mine.toml").write_text(spec + '[labels.estimators]\nrloo = "RLOO"\n')
    assert call("run", "mine.toml", "--out", "here", "--quiet").code == 0
    assert call("report", "here", "--quiet").code == 0
    (tmp_path / "here" / "labels.toml").write_text("[estimators\n")
    assert call("run", "mine.toml", "--out", "here", "--quiet", "--rerun", "all").code == 0, (
        "measurements are no hostages"
    )
    assert "labels.toml is not TOML" in call("report", "here").err
    (tmp_path / "here" / "labels.toml").unlink()
    (tmp_path / "here" / "spec.toml").write_text(spec)
    assert call("report", "here", "--quiet").code == 0
    assert call("report", "here", "--width", "3.25", "--quiet").code == 0
    plain, named = {"rloo:n=2": "rloo:n=2", "qubo": "qubo"}, {"rloo:n=2": "RLOO", "qubo": "qubo", "rloo": "RLOO"}
    assert given == [named, named, None, None, plain]
